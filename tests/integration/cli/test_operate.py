"""`events`, `deliveries` and `endpoints`: what they ask the daemon, what they print, what they end with."""

import json

import pytest

DELIVERY = {
    "id": "dlv_1",
    "event": "evt_1",
    "endpoint": "orders",
    "tenant": "default",
    "type": "order.completed",
    "state": "dead",
    "held": False,
    "reason": "retries_exhausted",
    "attempt_count": 2,
    "created_at": "2026-03-01T00:00:00.000Z",
    "next_attempt_at": None,
    "finished_at": "2026-03-01T00:00:09.000Z",
}
PENDING = {**DELIVERY, "id": "dlv_2", "state": "pending", "reason": None, "finished_at": None}
ATTEMPTS = [
    {
        "number": 1,
        "trigger": "scheduled",
        "started_at": "2026-03-01T00:00:01.000Z",
        "duration_ms": 12.4,
        "phases": {"dns_ms": None, "connect_ms": 1.2, "tls_ms": None, "first_byte_ms": 9},
        "status": 500,
        "error": None,
        "excerpt": "\x1b[31moops\nsecond",
    },
    {
        "number": 2,
        "trigger": "manual",
        "started_at": "2026-03-01T00:00:08.000Z",
        "duration_ms": 5000,
        "phases": {"dns_ms": None, "connect_ms": None, "tls_ms": None, "first_byte_ms": None},
        "status": None,
        "error": {"class": "timeout", "text": "no answer within 5 s"},
        "excerpt": "",
    },
]
EVENT = {
    "id": "evt_1",
    "type": "order.completed",
    "tenant": "default",
    "content_type": "application/json",
    "size": 12,
    "accepted_at": "2026-03-01T00:00:00.000Z",
    "deliver_at": None,
}
ENDPOINT = {
    "id": "orders",
    "url": "https://example.com/hook",
    "tenant": "default",
    "types": ["order.*"],
    "declared": False,
    "status": "enabled",
    "disabled_reason": None,
    "health": {"failing_days": 0, "failed_attempts": 0, "last_success_at": None, "pending": 3, "held": 0},
    "last_attempt": None,
}


def page(*rows, following=None):
    return {"data": list(rows), "next": following}


def test_a_list_is_a_table(run, daemon):
    daemon.answer("GET", "/v1/deliveries", page(DELIVERY, PENDING))
    lines = run("deliveries", "list").stdout.splitlines()
    assert lines[0].split() == ["DELIVERY", "STATE", "TYPE", "ENDPOINT", "ATTEMPTS", "CREATED", "NEXT", "OR", "END"]
    assert "retries_exhausted" in lines[1]
    assert lines[2].startswith("dlv_2     pending  order.completed")


def test_a_list_for_machines_is_one_object_a_line(run, daemon):
    daemon.answer("GET", "/v1/deliveries", page(DELIVERY, PENDING))
    lines = run("deliveries", "list", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [DELIVERY, PENDING]


def test_a_held_delivery_is_called_held(run, daemon):
    daemon.answer("GET", "/v1/deliveries", page({**PENDING, "held": True}))
    assert run("deliveries", "list").stdout.splitlines()[1].split()[1] == "held"


def test_an_empty_list_prints_no_data(run, daemon):
    daemon.answer("GET", "/v1/deliveries", page())
    result = run("deliveries", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no deliveries\n")


def test_filters_are_those_of_the_api(run, daemon):
    daemon.answer("GET", "/v1/deliveries", page())
    filters = {
        "endpoint": "orders",
        "event": "evt_1",
        "state": "dead",
        "type": "a",
        "tenant": "t",
        "since": "2026-01-01T00:00:00Z",
        "until": "2026-02-01T00:00:00Z",
        "cursor": "c",
        "limit": "7",
    }
    run("deliveries", "list", *(word for name, value in filters.items() for word in (f"--{name}", value)))
    assert daemon.asked[0].query == filters


def test_a_moment_may_be_said_as_so_long_ago(run, daemon):
    daemon.answer("GET", "/v1/events", page())
    run("events", "list", "--since", "2h")
    assert daemon.asked[0].query["since"].endswith("Z")
    assert daemon.asked[0].query["since"] > "2026"


def test_the_rest_of_a_list_is_pointed_to(run, daemon):
    daemon.answer("GET", "/v1/deliveries", page(DELIVERY, following="c2"))
    assert "--cursor c2" in run("deliveries", "list", "--limit", "1").stderr
    assert json.loads(run("deliveries", "list", "--limit", "1", "--json").stderr) == {"next": "c2"}


def test_all_follows_every_page(run, daemon):
    daemon.answer("GET", "/v1/deliveries", [page(DELIVERY, following="c2"), page(PENDING)])
    result = run("deliveries", "list", "--all", "--json")
    assert len(result.stdout.splitlines()) == 2
    assert [asked.query.get("cursor") for asked in daemon.asked] == [None, "c2"]
    assert result.stderr == ""


def test_a_limit_above_a_page_is_asked_for_in_pages(run, daemon):
    daemon.answer("GET", "/v1/deliveries", [page(*[DELIVERY] * 500, following="c2"), page(DELIVERY, following="c3")])
    run("deliveries", "list", "--limit", "501")
    assert [asked.query["limit"] for asked in daemon.asked] == ["500", "1"]


def test_a_delivery_is_shown_with_its_attempts(run, daemon):
    daemon.answer("GET", "/v1/deliveries/dlv_1", {**DELIVERY, "attempts": ATTEMPTS})
    shown = run("deliveries", "show", "dlv_1").stdout
    assert "every retry failed" in shown
    first, second = shown.splitlines()[-2:]
    assert "connect 1 ms, first byte 9 ms" in first
    assert first.endswith("\\x1b[31moops\\nsecond")
    assert "5.0 s  timeout: no answer within 5 s" in second


def test_json_is_not_written_anew(run, daemon):
    daemon.answer("GET", "/v1/events/evt_1", b'{"id":"evt_1","payload":{"a":1e400,"a":12345678901234567890123.0}}')
    shown = run("events", "show", "evt_1", "--json").stdout
    assert shown == '{"id":"evt_1","payload":{"a":1e400,"a":12345678901234567890123.0}}\n'


def test_an_event_is_shown_with_deliveries_and_the_rest(run, daemon):
    unmatched = [{"endpoint": "other", "reason": "its types do not match"}]
    daemon.answer(
        "GET", "/v1/events/evt_1", {**EVENT, "payload": "{}", "deliveries": [DELIVERY], "not_matched": unmatched}
    )
    shown = run("events", "show", "evt_1").stdout
    assert "12 B of application/json" in shown
    assert "dlv_1" in shown
    assert "its types do not match" in shown
    assert "{}" not in shown


@pytest.mark.parametrize(
    "payload",
    [b' { "a": 1e400,\r\n  "a": "\xc3\xa4", "payload": 7 }\n', b'"text"', b"1" * 5000, b"[1, 2.50]"],
    ids=["object", "text", "number", "list"],
)
def test_a_json_payload_is_printed_as_it_was_sent(run, daemon, payload):
    answer = b'{"id":"evt_1","x":{"payload":0},"payload":' + payload + b',"deliveries":[],"not_matched":[]}'
    daemon.answer("GET", "/v1/events/evt_1", answer)
    result = run("events", "show", "evt_1", "--payload")
    assert result.stdout_bytes == payload, result.stderr


def test_any_other_payload_is_printed_as_it_was_sent(run, daemon):
    daemon.answer("GET", "/v1/events/evt_1", {**EVENT, "payload_base64": "AP8K", "deliveries": [], "not_matched": []})
    assert run("events", "show", "evt_1", "--payload").stdout_bytes == b"\x00\xff\n"


def test_json_is_one_line_whatever_the_payload_looks_like(run, daemon):
    daemon.answer("GET", "/v1/events/evt_1", b'{"id":"evt_1","payload":{\r\n"a": "x\\ny"}}')
    assert run("events", "show", "evt_1", "--json").stdout == '{"id":"evt_1","payload":{  "a": "x\\ny"}}\n'


def test_a_sample_reaches_the_daemon_byte_for_byte(run, daemon, tmp_path):
    (tmp_path / "sample").write_bytes(b'{ "n": 1.50, "n": 2 }\n')
    daemon.answer("PATCH", "/v1/endpoints/orders", ENDPOINT)
    daemon.answer("POST", "/v1/endpoints", ENDPOINT, 201)
    run("endpoints", "update", "orders", "--sample", tmp_path / "sample")
    run("endpoints", "add", "https://x.example", "--sample", tmp_path / "sample")
    assert [asked.body for asked in daemon.asked] == [
        b'{"sample": { "n": 1.50, "n": 2 }}',
        b'{"url": "https://x.example", "sample": { "n": 1.50, "n": 2 }}',
    ]


def test_a_sample_that_is_no_json_is_a_usage_error(run, daemon, tmp_path):
    (tmp_path / "sample").write_text('1}, "url": "x"')
    assert run("endpoints", "update", "orders", "--sample", tmp_path / "sample").exit_code == 2
    assert daemon.asked == []


@pytest.mark.parametrize(("arguments", "sent"), [((), {}), (("--endpoint", "orders"), {"endpoint": "orders"})])
def test_an_event_is_resent(run, daemon, arguments, sent):
    daemon.answer("POST", "/v1/events/evt_1/resend", {"deliveries": [PENDING]}, 202)
    result = run("events", "resend", "evt_1", *arguments)
    assert daemon.asked[0].document == sent
    assert "dlv_2" in result.stdout


@pytest.mark.parametrize("verb", ["resend", "cancel"])
def test_a_delivery_is_acted_upon(run, daemon, verb):
    daemon.answer("POST", f"/v1/deliveries/dlv_2/{verb}", PENDING)
    assert "dlv_2" in run("deliveries", verb, "dlv_2").stdout


def test_what_has_ended_cannot_be_cancelled(run, daemon):
    daemon.refuse("POST", "/v1/deliveries/dlv_1/cancel", 409, "delivery_ended", "Conflict", "it has ended")
    assert run("deliveries", "cancel", "dlv_1").exit_code == 1


def test_an_endpoint_is_added_with_its_keys(run, daemon, tmp_path):
    (tmp_path / "secret").write_text("whsec_abc\n")
    (tmp_path / "sample").write_text('{"x": 1}')
    daemon.answer("POST", "/v1/endpoints", ENDPOINT, 201)
    run(
        *("endpoints", "add", "https://example.com/hook", "--id", "orders", "--tenant", "t", "--profile", "p"),
        *("--type", "a", "--type", "b*", "--description", "d"),
        *("--secret-file", tmp_path / "secret", "--sample", tmp_path / "sample"),
        *("--set", "timeout=5s", "--set", "ordered=true", "--set", 'retry=["1s"]', "--set", "rate=50/s"),
    )
    assert daemon.asked[0].document == {
        "url": "https://example.com/hook",
        "id": "orders",
        "tenant": "t",
        "profile": "p",
        "types": ["a", "b*"],
        "description": "d",
        "secret": "whsec_abc",
        "sample": {"x": 1},
        "timeout": "5s",
        "ordered": True,
        "retry": ["1s"],
        "rate": "50/s",
    }


def test_only_what_was_given_is_sent(run, daemon):
    daemon.answer("POST", "/v1/endpoints", ENDPOINT, 201)
    run("endpoints", "add", "https://example.com/hook")
    assert daemon.asked[0].document == {"url": "https://example.com/hook"}


def test_a_generated_secret_is_printed(run, daemon):
    daemon.answer("POST", "/v1/endpoints", {**ENDPOINT, "secret": "whsec_new"}, 201)
    result = run("endpoints", "add", "https://example.com/hook")
    assert "whsec_new" in result.stdout
    assert "not shown again" in result.stderr


def test_an_update_is_a_merge_patch(run, daemon):
    daemon.answer("PATCH", "/v1/endpoints/orders", ENDPOINT)
    run("endpoints", "update", "orders", "--url", "https://x.example", "--unset", "timeout", "--unset", "rate")
    assert daemon.asked[0].document == {"url": "https://x.example", "timeout": None, "rate": None}


def test_an_update_of_nothing_is_a_usage_error(run, daemon):
    assert run("endpoints", "update", "orders").exit_code == 2
    assert daemon.asked == []


def test_a_setting_without_a_value_is_a_usage_error(run):
    assert run("endpoints", "update", "orders", "--set", "timeout").exit_code == 2


def test_without_a_terminal_an_endpoint_is_removed_unasked(run, daemon):
    daemon.answer("DELETE", "/v1/endpoints/orders", b"", 204)
    result = run("endpoints", "remove", "orders")
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ({"acknowledged": True, "status": 204, "duration_ms": 31.2, "error": None}, 0, "acknowledged  204  31 ms"),
        ({"acknowledged": False, "status": 500, "duration_ms": 2, "error": None}, 3, "not acknowledged  500  2 ms"),
        (
            {
                "acknowledged": False,
                "status": None,
                "duration_ms": 5,
                "error": {"class": "connect", "text": "connection refused"},
            },
            3,
            "not acknowledged  connect: connection refused  5 ms",
        ),
    ],
)
def test_a_test_send_ends_with_what_came_of_it(run, daemon, answer, code, words):
    daemon.answer("POST", "/v1/endpoints/orders/test", answer)
    result = run("endpoints", "test", "orders")
    assert (result.exit_code, result.stdout.strip()) == (code, words)
    assert run("endpoints", "test", "orders", "--json").exit_code == code


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_an_endpoint_is_switched(run, daemon, verb):
    daemon.answer(
        "POST", f"/v1/endpoints/orders/{verb}", {**ENDPOINT, "status": "disabled", "disabled_reason": "failing"}
    )
    assert "its failing streak grew too long" in run("endpoints", verb, "orders").stdout


def test_endpoints_are_listed(run, daemon):
    daemon.answer(
        "GET", "/v1/endpoints", page(ENDPOINT, {**ENDPOINT, "id": "b", "types": [], "disabled_reason": "gone"})
    )
    lines = run("endpoints", "list").stdout.splitlines()
    assert lines[1].split() == ["orders", "enabled", "3", "default", "order.*", "https://example.com/hook"]
    assert lines[2].split() == ["b", "disabled", "(gone)", "3", "default", "*", "https://example.com/hook"]


def test_rotating_a_secret_prints_it_this_once(run, daemon, tmp_path):
    shown = {"id": "orders", "secret": "whsec_new", "previous_secret_until": "2025-01-02T00:00:00.000Z"}
    daemon.answer("POST", "/v1/endpoints/orders/rotate-secret", shown)
    result = run("endpoints", "rotate-secret", "orders")
    assert result.exit_code == 0
    assert "whsec_new" in result.stdout
    assert "old secret until  2025-01-02T00:00:00.000Z" in result.stdout
    assert "not shown again" in result.stderr
    (tmp_path / "next").write_text("mine\n")
    run("endpoints", "rotate-secret", "orders", "--overlap", "0s", "--secret-file", tmp_path / "next")
    assert [asked.document for asked in daemon.asked] == [{}, {"overlap": "0s", "secret": "mine"}]
