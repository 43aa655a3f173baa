"""`send` hands in bytes as they are."""

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta

import pytest

ACCEPTED = {"id": "evt_1", "duplicate": False, "deliveries": 2}


@pytest.fixture(autouse=True)
def _accepting(daemon):
    daemon.answer("POST", "/v1/events/order.completed", ACCEPTED, 202)


def test_a_file_is_sent_byte_for_byte(run, daemon, tmp_path):
    payload = b'{ "a":1e400,\r\n"a": "\xc3\xa4" }\n'
    (tmp_path / "order.json").write_bytes(payload)
    result = run("send", "order.completed", "-d", tmp_path / "order.json")
    assert (result.exit_code, result.stdout) == (0, "evt_1  2 deliveries\n")
    assert daemon.asked[0].body == payload
    assert daemon.asked[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("arguments", [(), ("-d", "-")])
def test_stdin_is_sent_byte_for_byte(run, daemon, arguments):
    run("send", "order.completed", *arguments, stdin=b"\x00\xff\n")
    assert daemon.asked[0].body == b"\x00\xff\n"


def send_process(daemon, **options):
    return subprocess.run(
        [sys.executable, "-m", "webhookd", "send", "order.completed", "--server", f"unix:{daemon.socket_path}"],
        check=True,
        capture_output=True,
        **options,
    )


def test_where_nobody_writes_the_payload_is_an_empty_object(daemon):
    send_process(daemon, stdin=subprocess.DEVNULL)
    assert daemon.asked[0].body == b"{}"


def test_a_pipe_that_stays_empty_is_not_made_into_an_event_of_its_own(daemon):
    send_process(daemon, input=b"")
    assert daemon.asked[0].body == b""


def test_tenant_key_and_content_type_are_passed_on(run, daemon):
    run("send", "order.completed", "--tenant", "a b", "--key", "k-1", "--content-type", "text/plain", stdin=b"x")
    asked = daemon.asked[0]
    assert asked.query == {"tenant": "a b"}
    assert asked.headers["idempotency-key"] == "k-1"
    assert asked.headers["content-type"] == "text/plain"


def test_json_is_the_answer_itself(run):
    assert json.loads(run("--json", "send", "order.completed", stdin=b"{}").stdout) == ACCEPTED


def test_a_duplicate_is_called_one(run, daemon):
    daemon.answer("POST", "/v1/events/order.completed", {**ACCEPTED, "duplicate": True, "deliveries": 1})
    result = run("send", "order.completed", "--key", "k", stdin=b"{}")
    assert result.stdout == "evt_1  1 delivery, already accepted under this key\n"


def test_a_type_may_contain_slashes_and_colons(run, daemon):
    daemon.answer("POST", "/v1/events/shop:order%2Fdone", ACCEPTED, 202)
    assert run("send", "shop:order/done", stdin=b"{}").exit_code == 0


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ä", "k" * 256])
def test_a_key_that_no_header_can_carry_is_a_usage_error(run, daemon, key):
    assert run("send", "order.completed", "--key", key, stdin=b"{}").exit_code == 2
    assert daemon.asked == []


def test_a_file_that_is_not_there_is_a_usage_error(run):
    assert run("send", "order.completed", "-d", "none.json").exit_code == 2


def test_an_ingest_listener_will_do(bare, daemon, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(f'[[listen]]\naddress = "unix:{daemon.socket_path}"\nrole = "ingest"\n')
    assert bare("send", "order.completed", "-c", config, stdin=b"{}").exit_code == 0


def test_a_refused_event_fails(run, daemon):
    daemon.refuse("POST", "/v1/events/order.completed", 507, "store_full", "There is no room to store it", "later")
    result = run("send", "order.completed", stdin=b"{}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no room to store it: later" in result.stderr


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5+02:00"])
def test_a_time_of_delivery_is_handed_on_as_it_is(run, daemon, text):
    assert run("send", "order.completed", "--deliver-at", text, stdin=b"{}").exit_code == 0
    assert daemon.asked[0].query == {"deliver_at": text}


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("1.5h", 5400), ("0s", 0), ("365d", 365 * 86_400)])
def test_so_far_ahead_is_counted_from_now(run, daemon, text, seconds):
    before = time.time()
    assert run("send", "order.completed", "--deliver-at", text, stdin=b"{}").exit_code == 0
    sent = datetime.fromisoformat(daemon.asked[0].query["deliver_at"])
    assert sent.utcoffset() == timedelta(0)
    assert before - 0.001 <= sent.timestamp() - seconds <= time.time()


@pytest.mark.parametrize(
    "text", ["", "now", "10", "-5m", "10 m", "2026-01-02", "2026-01-02T03:04:05", "367d", "9" * 16 + "d"]
)
def test_what_is_no_time_is_a_usage_error(run, daemon, text):
    result = run("send", "order.completed", "--deliver-at", text, stdin=b"{}")
    assert (result.exit_code, daemon.asked) == (2, [])
    assert "--deliver-at" in result.stderr
