"""Whatever bytes arrive, in whatever pieces: no 5xx, no answer that is not a problem, and the next client is served."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from pathlib import Path

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.kit.fakes_api import House, Wire, an_event, request
from webhookd.api import Patience
from webhookd.api.decode import plan_events, read_drafts
from webhookd.api.jsontext import object_members, require_json
from webhookd.core.settings import Ingest
from webhookd.errors import WebhookdError

EVENT = request("POST", "/v1/events", b'{"type":"a","payload":{"n":1}}')
QUICK = Patience(head_seconds=0.05, body_seconds=0.05, idle_seconds=0.05, linger_seconds=0.05, tick_seconds=0.005)

WORDS = [
    b"POST /v1/events HTTP/1.1\r\n",
    b"POST /v1/events/a HTTP/1.1\r\n",
    b"GET /v1/events HTTP/1.1\r\n",
    b"PATCH /v1/endpoints/orders HTTP/1.1\r\n",
    b"POST /v1/endpoints HTTP/1.1\r\n",
    b"GET /v1/deliveries?limit=%00&cursor=%ff&x[]=1 HTTP/1.1\r\n",
    b"HEAD /healthz HTTP/1.0\r\n",
    b"GET /%zz%ED%A0%80?a=%ED%A0%80&=&&= HTTP/1.1\r\n",
    b"Host: localhost\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Type: application/x-ndjson\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 30\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Idempotency-Key: k\r\n",
    b"Origin: null\r\n",
    b"\r\n",
    b"{}",
    b'{"type":"a","payload":{"n":1}}',
    b"2\r\n{}\r\n0\r\n\r\n",
    b"\n",
    b"\x00",
    EVENT,
    request("GET", "/v1/status"),
    request("POST", "/v1/events/evt_00000000000/resend", b"{}"),
]

pieces = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), max_size=12)


def statuses(answered: bytes) -> list[int]:
    """Take the answers of a connection apart; every body of an error has to be a problem."""
    found: list[int] = []
    while answered:
        head, separator, rest = answered.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert match is not None
        assert separator
        status = int(match.group(1))
        size = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = rest[: int(size.group(1))] if size is not None and status != 100 else b""
        if status >= 400 and body.startswith(b"{"):
            assert b"\r\ncontent-type: application/problem+json" in head.lower()
            assert orjson.loads(body)["status"] == status
            answered = rest[len(body) :]
        else:
            # The answer to a HEAD announces a body that does not come.
            answered = rest if rest.startswith(b"HTTP/1.1") else rest[len(body) :]
        found.append(status)
    return found


async def converse(parts: list[bytes]) -> list[int]:
    with tempfile.TemporaryDirectory() as directory:
        house = House()
        house.open(patience=QUICK)
        house.history.all_events.append(an_event())
        house.directory.add("orders")
        connect = await house.on_unix(Path(directory) / "s")
        try:
            wire = await Wire.to(connect)
            for part in parts:
                await wire.send(part)
                await asyncio.sleep(0)
            wire.finish()
            answered = await wire.end()
            wire.close()
            honest = await Wire.to(connect)
            assert (await honest.ask(EVENT)).status == 202
            honest.close()
        finally:
            await house.api.close(0.1)
    return statuses(answered)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces)
@example([b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" * 50])
@example([EVENT * 40 + b"\x00"])
def test_no_bytes_make_the_server_fail(parts):
    assert [status for status in asyncio.run(converse(parts)) if status >= 500] == []


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.sampled_from(["\\", '"', '\\"', "\ud800", "\udfff\ud800", "payload", '"payload":']),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def json_texts(draw) -> bytes:
    value, indent = draw(json_values), draw(st.sampled_from([None, 1]))
    if draw(st.booleans()):
        try:
            return json.dumps(value, ensure_ascii=False, indent=indent).encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair can only be written as an escape.
            pass
    return json.dumps(value, indent=indent).encode()


@given(
    payload=json_texts(),
    order=st.permutations(["type", "payload", "tenant", "deliver_at"]),
    space=st.sampled_from([b"", b" \r\n\t"]),
)
def test_every_json_payload_comes_through_byte_for_byte(payload, order, space):
    values = {"type": b'"a"', "payload": payload, "tenant": b'"t"', "deliver_at": b'"2030-01-01T00:00:00Z"'}
    members = [b'"%b"%b:%b%b%b' % (key.encode(), space, space, values[key], space) for key in order]
    body = b"{" + space + b",".join(members) + b"}"
    ingest = Ingest(max_payload_bytes=1 << 20)
    plan = plan_events(b"/v1/events", b"", {b"content-type": b"application/json"}, ingest)
    (draft,) = read_drafts(plan, body, ingest)
    assert draft.payload == payload


@given(keys=st.lists(st.text(min_size=1, max_size=5), max_size=5), payload=json_texts())
def test_members_of_an_object_are_found_where_they_stand(keys, payload):
    body = b"{" + b" , ".join(json.dumps(key).encode() + b" : " + payload for key in keys) + b"}"
    require_json(body)
    assert object_members(body) == [(key, payload) for key in keys]


@given(body=st.binary(max_size=200), content_type=st.sampled_from([b"application/json", b"application/x-ndjson"]))
def test_no_body_makes_the_reading_fail_unexpectedly(body, content_type):
    ingest = Ingest()
    plan = plan_events(b"/v1/events", b"", {b"content-type": content_type}, ingest)
    try:
        read_drafts(plan, body, ingest)
    except WebhookdError:
        return
