"""What producers may write, and what each of their mistakes is called."""

from __future__ import annotations

import pytest

from webhookd.api.decode import ENVELOPE_BYTES, plan_events, read_drafts, takes_events
from webhookd.api.problems import problem_of
from webhookd.core.event import Draft
from webhookd.core.settings import Ingest
from webhookd.errors import WebhookdError

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
SMALL = Ingest(max_payload_bytes=100, max_batch=3, max_request_bytes=1000)


def drafts(
    body: bytes,
    *,
    content_type: bytes | None = JSON,
    path: bytes = b"/v1/events",
    query: bytes = b"",
    key: bytes | None = None,
    ingest: Ingest = SMALL,
) -> list[Draft]:
    fields = {b"content-type": content_type, b"idempotency-key": key}
    present = {name: value for name, value in fields.items() if value is not None}
    return read_drafts(plan_events(path, query, present, ingest), body, ingest)


def refused(body: bytes, **how) -> tuple[int, str, list[str]]:
    """Return status, slug and pointers of the refusal of `body`."""
    with pytest.raises(WebhookdError) as caught:
        drafts(body, **how)
    problem = problem_of(caught.value)
    assert problem is not None
    problem.body()
    return problem.status, problem.slug, [fault.pointer for fault in problem.faults]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a" : 1,\t"a":2 }',
        b"123456789012345678901234567890.5e-3",
        b"1e999",
        b'"\\u0041\\/\\u00e9"',
        b'"\\ud83d\\ude00"',
        '"é😀"'.encode(),
        b'"half \\ud83d of a pair"',
        b'"\\ude00\\\\ud83d\\"\\uDEAD"',
        b"null",
        b"[]",
        b'{"type":"inner","payload":{"tenant":"x"},"quotes":"\\"\\""}',
    ],
)
@pytest.mark.parametrize(
    "envelope", [b'{"type":"a","payload":%b}', b'{"payload" : %b ,\r\n "type":"a", "tenant":null}\n']
)
def test_the_payload_is_kept_byte_for_byte(payload, envelope):
    assert [draft.payload for draft in drafts(envelope % payload)] == [payload]


def test_what_is_left_out_has_its_default():
    assert drafts(b'{"type":"order.completed","payload":1}') == [Draft(type="order.completed", payload=b"1")]


def test_every_key_of_the_envelope_is_taken():
    body = (
        b'{"type":"a","tenant":"acme","content_type":"text/plain","idempotency_key":"k-1","payload":1,'
        b'"deliver_at":"1970-01-01T00:00:01Z"}'
    )
    assert drafts(body) == [
        Draft(
            type="a",
            payload=b"1",
            tenant="acme",
            content_type="text/plain",
            idempotency_key="k-1",
            deliver_at_ms=1000,
        )
    ]


def test_escapes_in_the_envelope_are_read():
    assert drafts(b'{"t\\u0079pe":"\\u0061\\/b","payload":1}') == [Draft(type="a/b", payload=b"1")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}x",
        b'{"type":"a","payload":NaN}',
        b'{"type":"a","payload":Infinity}',
        b'{"type":"a","payload":-Infinity}',
        b'{"type":"a","payload":[1,]}',
        b'{"type":"a","payload":01}',
        b'{"type":"a","payload":"\x01"}',
        b'{"type":"a","payload":"\xff"}',
        b'{"type":"\xff","payload":1}',
        b'\xef\xbb\xbf{"type":"a","payload":1}',
        '{"type":"a","payload":1}'.encode("utf-16"),
        b'{"type":"a","payload":"\\ud8"}',
        b'{"type":"a","payload":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"type":"a","payload":"\\ud800",' + b"[" * 50_000,
        b'{"unknown":1, broken',
        b'{"type":"a","type":"b","payload":1}',
        b'{"type":"a","payload":1,"payload":2}',
        b'{"type":"a","t\\u0079pe":"b","payload":1}',
        b'{"type":"a","payload":"\\ud800","type":"b"}',
        b'{"type":"a","payload":"x\\"","payload":"y\\""}',
        b'{"tenant":null,"tenant":null,"type":"a","payload":1}',
        b'{"x":1,"x":2}',
    ],
)
def test_what_is_not_one_json_object_with_each_key_once_is_malformed(body):
    assert refused(body, ingest=Ingest())[:2] == (400, "malformed_request")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b"1", ""),
        (b'{"payload":1}', "/type"),
        (b'{"type":"a"}', "/payload"),
        (b'{"type":1,"payload":1}', "/type"),
        (b'{"type":"","payload":1}', "/type"),
        (b'{"type":"a b","payload":1}', "/type"),
        (b'{"type":"a\\u0000","payload":1}', "/type"),
        (b'{"type":"a\\n","payload":1}', "/type"),
        (b'{"type":"' + b"a" * 129 + b'","payload":1}', "/type"),
        (b'{"type":"\\ud800","payload":1}', "/type"),
        (b'{"type":"a","payload":"\\ud800","tenant":"\\ud800"}', "/tenant"),
        (b'{"type":"a","tenant":"","payload":1}', "/tenant"),
        (b'{"type":"a","tenant":"*","payload":1}', "/tenant"),
        (b'{"type":"a","tenant":["x"],"payload":1}', "/tenant"),
        (b'{"type":"a","payload":1,"content_type":"json"}', "/content_type"),
        (b'{"type":"a","payload":1,"content_type":"a/b\\r\\nx: y"}', "/content_type"),
        (b'{"type":"a","payload":1,"idempotency_key":7}', "/idempotency_key"),
        (b'{"type":"a","payload":1,"unknown":1}', "/unknown"),
        (b'{"type":"a","payload":1,"deliver_at":"2030-01-01T00:00:00"}', "/deliver_at"),
        (b'{"type":"a","payload":1,"deliver_at":"2030-01-01T00:00:00 01:00"}', "/deliver_at"),
        (b'{"type":"a","payload":1,"deliver_at":"tomorrow"}', "/deliver_at"),
        (b'{"type":"a","payload":1,"deliver_at":""}', "/deliver_at"),
        (b'{"type":"a","payload":1,"deliver_at":1893456000}', "/deliver_at"),
        (b'{"type":"a","payload":"\\ud800","deliver_at":"\\ud800"}', "/deliver_at"),
        (b'{"type":"a","payload":1,"a/b~c":1}', "/a~1b~0c"),
    ],
)
def test_what_is_well_formed_but_wrong_names_its_field(body, pointer):
    assert refused(body) == (422, "invalid_event", [pointer])


def test_the_tenant_of_the_daemon_itself_is_refused():
    assert refused(b'{"type":"a","payload":1,"tenant":"webhookd"}') == (422, "reserved_tenant", ["/tenant"])
    assert refused(b"x", path=b"/v1/events/a", query=b"tenant=webhookd", content_type=None)[1] == "reserved_tenant"


def test_a_payload_of_the_greatest_size_passes_and_one_more_byte_does_not():
    fits = b'"' + b"x" * 98 + b'"'
    assert drafts(b'{"type":"a","payload":%b}' % fits)[0].payload == fits
    assert refused(b'{"type":"a","payload":%b}' % (b" " + fits[:-1] + b'x"')) == (
        413,
        "payload_too_large",
        ["/payload"],
    )


def test_limits_follow_the_form_of_the_request():
    ingest = Ingest(max_payload_bytes=1000, max_request_bytes=1_000_000)

    def limit(path: bytes, content_type: bytes) -> int:
        return plan_events(path, b"", {b"content-type": content_type}, ingest).limit_bytes

    assert limit(b"/v1/events", JSON) == 1000 + ENVELOPE_BYTES
    assert limit(b"/v1/events", NDJSON) == 1_000_000
    assert limit(b"/v1/events/a", JSON) == 1000


# Idempotency keys.


@pytest.mark.parametrize(
    ("header", "key"), [(b"k", "k"), (b'"k"', "k"), (b'"a\\"b\\\\"', 'a"b\\'), (b"x" * 255, "x" * 255), (b'"', '"')]
)
def test_a_key_in_the_header_may_be_plain_or_quoted(header, key):
    assert drafts(b'{"type":"a","payload":1}', key=header)[0].idempotency_key == key
    assert drafts(b"x", path=b"/v1/events/a", content_type=None, key=header)[0].idempotency_key == key


@pytest.mark.parametrize("header", [b"", b'""', b"a b", b"x" * 256, "é".encode(), b"\xff", b"a\x7f"])
def test_a_key_that_is_not_visible_ascii_is_refused(header):
    expected = (422, "invalid_idempotency_key", ["/idempotency_key"])
    assert refused(b'{"type":"a","payload":1}', key=header) == expected


@pytest.mark.parametrize("key", [b"", b"a b", b"x" * 256, b"\\u00e9", b"\\u0000"])
def test_a_key_in_the_body_is_held_to_the_same_rule(key):
    body = b'{"type":"a","payload":1,"idempotency_key":"%b"}' % key
    assert refused(body) == (422, "invalid_idempotency_key", ["/idempotency_key"])


def test_a_key_in_both_places_is_refused():
    body = b'{"type":"a","payload":1,"idempotency_key":"k"}'
    assert refused(body, key=b"k") == (422, "idempotency_key_twice", ["/idempotency_key"])


def test_a_batch_has_no_key_of_its_own():
    assert refused(b'{"type":"a","payload":1}', content_type=NDJSON, key=b"k")[:2] == (422, "idempotency_key_misplaced")


# Batches.


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n  \t"])
def test_a_batch_is_its_lines_in_order(end):
    first, second = b'{"type":"a","payload":1,"idempotency_key":"k"}', b'{"type":"b","payload": {"x" : 2} }'
    body = first + b"\n" + second + b'\r\n{"type":"c","payload":3}'
    found = drafts(body + end, content_type=b"Application/X-NDJSON; charset=utf-8")
    assert [(draft.type, draft.payload, draft.idempotency_key) for draft in found] == [
        ("a", b"1", "k"),
        ("b", b'{"x" : 2}', None),
        ("c", b"3", None),
    ]


@pytest.mark.parametrize(
    ("second", "status", "pointer"),
    [
        (b'{"type":"a b","payload":1}', 422, "/2/type"),
        (b'{"type":"a"}', 422, "/2/payload"),
        (b"{", 400, "/2"),
        (b"", 400, "/2"),
        (b'{"type":"a","payload":1,"type":"a"}', 400, "/2"),
        (b'{"type":"a","payload":"' + b"x" * 100 + b'"}', 413, "/2/payload"),
    ],
)
def test_a_mistake_in_a_batch_names_its_line(second, status, pointer):
    body = b'{"type":"a","payload":1}\n%b\n{"type":"a","payload":1}\n' % second
    found = refused(body, content_type=NDJSON)
    assert (found[0], found[2]) == (status, [pointer])


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n", b" \n \n"])
def test_an_empty_batch_is_refused(body):
    assert refused(body, content_type=NDJSON)[:2] == (422, "empty_batch")


def test_a_batch_holds_as_many_events_as_it_may_and_no_more():
    line = b'{"type":"a","payload":1}\n'
    assert len(drafts(line * 3, content_type=NDJSON)) == 3
    assert refused(line * 4, content_type=NDJSON)[:2] == (413, "batch_too_large")


# The body as the payload.


@pytest.mark.parametrize(
    ("content_type", "kept"),
    [
        (None, "application/octet-stream"),
        (b"text/plain; charset=latin-1", "text/plain; charset=latin-1"),
        (b"image/png", "image/png"),
    ],
)
def test_any_body_is_a_payload(content_type, kept):
    found = drafts(
        b"\x00\xff\n", path=b"/v1/events/order%2Ecompleted/x", query=b"tenant=acme", content_type=content_type
    )
    assert found == [Draft(type="order.completed/x", payload=b"\x00\xff\n", tenant="acme", content_type=kept)]


def test_an_empty_body_is_a_payload_unless_it_should_be_json():
    assert drafts(b"", path=b"/v1/events/a", content_type=b"text/plain")[0].payload == b""
    assert refused(b"", path=b"/v1/events/a")[:2] == (400, "malformed_request")


@pytest.mark.parametrize("content_type", [JSON, b"application/JSON; charset=utf-8", b"application/vnd.api+json"])
def test_a_json_body_must_be_json_and_stays_as_it_is(content_type):
    path = b"/v1/events/a"
    assert drafts(b' {"a" : 1e999, "a": "\\ud800"}\n', path=path, content_type=content_type)[0].payload.endswith(b"}\n")
    for body in (b"{", b"NaN", b'"\xff"', b"[1] x"):
        assert refused(body, path=path, content_type=content_type)[:2] == (400, "malformed_request")


@pytest.mark.parametrize(
    "query",
    [
        b"tenant=a&tenant=b",
        b"tenan=a",
        b"tenant=",
        b"tenant=a%20b",
        b"deliver_at=now",
        b"deliver_at=",
        b"deliver_at=2030-01-01T00:00:00Z&deliver_at=2030-01-01T00:00:00Z",
        b"x",
    ],
)
def test_only_a_tenant_and_a_time_may_stand_in_the_query(query):
    assert refused(b"x", path=b"/v1/events/a", query=query, content_type=None)[0] == 422


WHEN_MS = 1_893_456_000_000


@pytest.mark.parametrize(
    ("query", "tenant", "at_ms"),
    [
        (b"deliver_at=2030-01-01T00:00:00Z", "default", WHEN_MS),
        (b"tenant=acme&deliver_at=2030-01-01T02%3A00%3A00.5%2B02:00", "acme", WHEN_MS + 500),
        (b"deliver_at=2030-01-01T02:00:00+02:00&tenant=acme", "acme", WHEN_MS),
    ],
)
def test_a_time_may_stand_in_the_query_also_with_a_plus_that_was_not_encoded(query, tenant, at_ms):
    (found,) = drafts(b"x", path=b"/v1/events/a", query=query, content_type=b"text/plain")
    assert (found.tenant, found.deliver_at_ms) == (tenant, at_ms)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        (b'"2030-01-01T00:00:00Z"', WHEN_MS),
        (b'"2029-12-31t19:00:00.0009-05:00"', WHEN_MS),
        (b'"1970-01-01T00:00:00.001Z"', 1),
        (b'"0001-01-01T00:00:00+23:00"', 0),
        (b"null", None),
    ],
)
def test_a_time_of_delivery_is_read_to_the_millisecond(text, at_ms):
    (found,) = drafts(b'{"type":"a","deliver_at":' + text + b',"payload":1}')
    assert found == Draft(type="a", payload=b"1", deliver_at_ms=at_ms)


def test_each_line_of_a_batch_has_its_own_time_of_delivery():
    lines = [b'{"type":"a","payload":1,"deliver_at":"2030-01-01T00:00:00Z"}', b'{"type":"a","payload":2}']
    assert [draft.deliver_at_ms for draft in drafts(b"\n".join(lines), content_type=NDJSON)] == [WHEN_MS, None]
    wrong = b'{"type":"a","payload":2,"deliver_at":"soon"}'
    assert refused(b"\n".join([*lines, wrong]), content_type=NDJSON) == (422, "invalid_event", ["/3/deliver_at"])


def test_a_time_of_delivery_that_stands_there_twice_is_refused():
    body = b'{"type":"a","payload":1,"deliver_at":"2030-01-01T00:00:00Z","deliver_at":"2031-01-01T00:00:00Z"}'
    assert refused(body)[:2] == (400, "malformed_request")


def test_the_envelope_route_takes_no_query():
    assert refused(b'{"type":"a","payload":1}', query=b"tenant=a") == (422, "unknown_parameter", ["/tenant"])


@pytest.mark.parametrize("path", [b"/v1/events/a%20b", b"/v1/events/%00", b"/v1/events/" + b"a" * 129])
def test_a_type_in_the_path_is_held_to_the_rule_for_types(path):
    assert refused(b"x", path=path, content_type=None) == (422, "invalid_event", ["/type"])


@pytest.mark.parametrize(
    "content_type", [None, b"text/plain", b"application/x-www-form-urlencoded", b"json", b"", b"\xff/x"]
)
def test_the_envelope_route_takes_only_json_and_ndjson(content_type):
    assert refused(b'{"type":"a","payload":1}', content_type=content_type)[0] in {400, 415}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/v1/events", True),
        (b"/v1/events/a", True),
        (b"/v1/events/a/b/resend", True),
        (b"/v1/events/a%2Fresend", True),
        (b"/v1/events/", False),
        (b"/v1/events/evt_00000000000/resend", False),
        (b"/v1/eventsx", False),
        (b"/v1/endpoints", False),
    ],
)
def test_paths_that_take_events(path, expected):
    assert takes_events(path) is expected
