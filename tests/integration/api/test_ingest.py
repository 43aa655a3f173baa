"""Handing in events over a connection: answers, order, bytes."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.kit.fakes_api import Patience, request
from webhookd.core.settings import Ingest
from webhookd.errors import ConflictError, InvalidRequestError, StoreFullError, StoreIOError, StoreUnavailableError

EVENT = request("POST", "/v1/events", b'{"type":"a","payload": {"x" : 1} }')


def problem(answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = orjson.loads(answer.body)
    assert document["status"] == answer.status
    assert document["title"]
    assert document["detail"]
    return answer.status, document["type"].removeprefix("urn:webhookd:problem:")


async def test_an_event_is_202_with_its_id(client, house):
    answer = await client.ask(EVENT)
    assert (answer.status, answer.headers["content-type"]) == (202, "application/json")
    document = orjson.loads(answer.body)
    assert document.pop("id").startswith("evt_")
    assert document == {"duplicate": False, "deliveries": 2}
    assert [draft.payload for draft in house.acceptor.drafts] == [b'{"x" : 1}']
    assert (house.observer.count, len(house.observer.seconds), house.observer.slugs) == (1, 1, [])


async def test_a_duplicate_is_200(client, house):
    house.acceptor.duplicate = True
    answer = await client.ask(EVENT)
    assert (answer.status, orjson.loads(answer.body)["duplicate"]) == (200, True)


async def test_a_batch_is_202_with_its_events_in_order(client, house):
    body = b'{"type":"a","payload":1}\n{"type":"b","payload":2}\n'
    answer = await client.ask(request("POST", "/v1/events", body, content_type="application/x-ndjson"))
    events = orjson.loads(answer.body)["events"]
    assert answer.status == 202
    assert [event["duplicate"] for event in events] == [False, False]
    assert events[0]["id"] < events[1]["id"]
    assert house.observer.count == 2


async def test_a_body_of_any_type_is_a_payload(client, house):
    body = bytes(range(256))
    headers = {"idempotency_key": '"k"'}
    target = "/v1/events/order.completed?tenant=acme"
    answer = await client.ask(request("POST", target, body, content_type="image/x-raw", **headers))
    assert answer.status == 202
    (draft,) = house.acceptor.drafts
    assert (draft.type, draft.tenant, draft.payload) == ("order.completed", "acme", body)
    assert (draft.content_type, draft.idempotency_key) == ("image/x-raw", "k")


@pytest.mark.parametrize(
    ("error", "status", "slug", "retry"),
    [
        (InvalidRequestError("no_match", "nobody"), 422, "no_match", False),
        (ConflictError("idempotency_conflict", "other content"), 409, "idempotency_conflict", False),
        (StoreFullError("full"), 507, "store_full", True),
        (StoreUnavailableError("busy"), 503, "store_unavailable", True),
        (StoreIOError("disk"), 503, "store_unavailable", True),
        (ZeroDivisionError("secret detail"), 500, "internal", False),
    ],
)
async def test_what_the_intake_refuses_is_a_problem_and_the_connection_goes_on(
    client, house, caplog, error, status, slug, retry
):
    wire = await client.wire()
    house.acceptor.error = error
    answer = await wire.ask(EVENT)
    assert problem(answer) == (status, slug)
    assert ("retry-after" in answer.headers) is retry
    assert b"secret detail" not in answer.body
    assert ("request.failed" in caplog.messages) is (status == 500)
    house.acceptor.error = None
    assert (await wire.ask(EVENT)).status == 202
    assert house.observer.slugs == [slug]


async def test_answers_of_a_pipeline_stand_in_the_order_of_its_requests(client, house):
    wire = await client.wire()
    house.acceptor.hold()
    await wire.send(EVENT * 3)
    await house.acceptor.until_held(3)
    house.acceptor.release(2)
    house.acceptor.release(1)
    await asyncio.sleep(0.01)
    house.acceptor.release(0)
    ids = [orjson.loads((await wire.answer()).body)["id"] for _ in range(3)]
    assert ids == sorted(ids, reverse=True)


async def test_a_pipeline_of_all_sorts_is_answered_in_order(client, house):
    wire = await client.wire()
    bad = request("POST", "/v1/events", b"{")
    await wire.send(EVENT + request("GET", "/healthz") + bad + EVENT + request("GET", "/v1/none") + EVENT + bad)
    assert [(await wire.answer()).status for _ in range(7)] == [202, 200, 400, 202, 404, 202, 400]
    assert len(house.acceptor.drafts) == 3


async def test_a_long_pipeline_behind_another_request_is_answered_whole(client, house):
    wire = await client.wire()
    bad = request("POST", "/v1/events", b"{")
    asyncio.get_running_loop().create_task(wire.send(request("GET", "/healthz") + bad * 3000))
    assert [(await wire.answer()).status for _ in range(3001)] == [200] + [400] * 3000


async def test_what_comes_after_a_request_that_is_handed_on_waits_for_it(client, house):
    wire = await client.wire()
    house.acceptor.hold()
    await wire.send(EVENT + request("GET", "/v1/status") + EVENT)
    await asyncio.sleep(0.02)
    assert len(house.acceptor.held) == 1
    house.acceptor.release()
    assert [(await wire.answer()).status for _ in range(2)] == [202, 200]
    await asyncio.sleep(0.01)
    house.acceptor.release()
    assert (await wire.answer()).status == 202


async def test_a_request_in_single_bytes_is_read(client, house):
    wire = await client.wire()
    for index in range(len(EVENT)):
        await wire.send(EVENT[index : index + 1])
        await asyncio.sleep(0)
    assert (await wire.answer()).status == 202
    assert house.acceptor.drafts[0].payload == b'{"x" : 1}'


async def test_a_chunked_body_is_put_together(client, house):
    head = b"POST /v1/events/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = await client.wire()
    await wire.send(head + b"3;ext=1\r\nabc\r\n")
    answer = await wire.ask(b"2\r\nde\r\n0\r\nTrailer: ignored\r\n\r\n")
    assert (answer.status, house.acceptor.drafts[0].payload) == (202, b"abcde")
    assert (await wire.ask(EVENT)).status == 202


async def test_continue_is_said_to_who_waits_for_it(client):
    wire = await client.wire()
    head, body = EVENT.split(b"\r\n\r\n")
    first = await wire.ask(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert first.status == 100
    assert (await wire.ask(body)).status == 202


async def test_who_is_refused_is_not_told_to_continue(client):
    data = (
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: a/b\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await client.ask(data)).status == 415


async def test_other_expectations_are_417(client):
    wire = await client.wire()
    assert problem(await wire.ask(EVENT.replace(b"\r\n\r\n", b"\r\nExpect: tea\r\n\r\n"))) == (
        417,
        "expectation_failed",
    )


async def test_an_offer_of_another_protocol_is_declined_silently(client, house):
    wire = await client.wire()
    offer = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
    upgrading = EVENT.replace(b"\r\n\r\n", offer)
    await wire.send(
        upgrading + upgrading + EVENT + request("GET", "/healthz", connection="upgrade", upgrade="websocket")
    )
    assert [(await wire.answer()).status for _ in range(4)] == [202, 202, 202, 200]
    assert len(house.acceptor.drafts) == 3


@pytest.mark.parametrize("target", ["http://localhost/v1/events", "HTTP://other:80/v1/events"])
async def test_a_whole_url_is_as_good_a_target(client, target):
    assert (await client.ask(EVENT.replace(b"/v1/events", target.encode(), 1))).status == 202


async def test_http_1_0_is_answered_and_closed(client):
    wire = await client.wire()
    answer = await wire.ask(EVENT.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"host: localhost\r\n", b""))
    assert (answer.status, answer.headers["connection"]) == (202, "close")
    assert await wire.end() == b""


async def test_a_client_that_asks_for_it_is_hung_up_on(client, house):
    wire = await client.wire()
    closing = EVENT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = await wire.ask(closing + EVENT)
    assert (answer.status, answer.headers["connection"]) == (202, "close")
    assert await wire.end() == b""
    assert len(house.acceptor.drafts) == 1


async def test_a_client_that_has_said_all_still_gets_its_answers(client, house):
    wire = await client.wire()
    house.acceptor.hold()
    await wire.send(EVENT * 2)
    wire.finish()
    await asyncio.sleep(0.02)
    house.acceptor.release()
    house.acceptor.release()
    assert [(await wire.answer()).status for _ in range(2)] == [202, 202]
    assert await wire.end() == b""


async def test_a_client_that_leaves_does_not_take_its_event_along(client, house):
    wire = await client.wire()
    house.acceptor.hold()
    await wire.send(EVENT)
    await house.acceptor.until_held()
    wire.close()
    await asyncio.sleep(0.01)
    house.acceptor.release()
    await asyncio.sleep(0.01)
    assert house.observer.count == 1


# Size.


@pytest.mark.parametrize(
    ("target", "content_type", "allowed"),
    [
        ("/v1/events/a", "text/plain", 1000),
        ("/v1/events", "application/x-ndjson", 5000),
        ("/v1/status", "a/b", 1 << 20),
    ],
)
async def test_a_body_that_is_announced_too_long_is_413_at_once(client, target, content_type, allowed):
    await client.serve(ingest=Ingest(max_payload_bytes=1000, max_request_bytes=5000))
    for size in (allowed + 100_000, 10**12):
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
        wire = await client.wire()
        assert problem(await wire.ask(head.encode())) == (413, "body_too_large")
        wire.finish()
        assert await wire.end() == b""


async def test_a_body_slightly_too_long_is_413_and_the_connection_goes_on(client):
    await client.serve(ingest=Ingest(max_payload_bytes=1000))
    wire = await client.wire()
    assert (await wire.ask(request("POST", "/v1/events/a", b"x" * 1001, content_type=None))).status == 413
    assert (await wire.ask(request("POST", "/v1/events/a", b"x" * 1000, content_type=None))).status == 202


async def test_a_chunked_body_is_413_as_soon_as_it_is_too_long(client):
    await client.serve(ingest=Ingest(max_payload_bytes=1000))
    wire = await client.wire()
    await wire.send(b"POST /v1/events/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    answer = await wire.ask((b"1f4\r\n" + b"x" * 500 + b"\r\n") * 3)
    assert problem(answer) == (413, "body_too_large")
    wire.finish()
    assert await wire.end() == b""


async def test_who_is_still_sending_gets_to_read_why_it_was_refused(client):
    wire = await client.wire()
    size = 8_000_000
    head = f"POST /v1/events/a HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    sending = asyncio.get_running_loop().create_task(wire.send(head + b"x" * size))
    assert (await wire.answer()).status == 413
    await sending
    wire.finish()
    assert await wire.end() == b""


async def test_all_bodies_together_are_bounded(client, house):
    await client.serve(patience=Patience(buffered_bytes=1000))
    house.acceptor.hold()
    first, second = await client.wire(), await client.wire()
    await first.send(request("POST", "/v1/events/a", b"x" * 600, content_type=None))
    await house.acceptor.until_held()
    answer = await second.ask(request("POST", "/v1/events/a", b"x" * 600, content_type=None))
    assert problem(answer) == (503, "overloaded")
    assert "retry-after" in answer.headers
    house.acceptor.release()
    assert (await first.answer()).status == 202
    house.acceptor.held = None
    for _ in range(5):
        assert (await client.ask(request("POST", "/v1/events/a", b"x" * 600, content_type=None))).status == 202


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_a_client_that_leaves_gives_back_the_room_its_body_took(client, leave):
    await client.serve(tcp=True, patience=Patience(buffered_bytes=1000))
    wire = await client.wire()
    await wire.send(request("POST", "/v1/events/a", b"x" * 900, content_type=None)[:-1])
    await asyncio.sleep(0.02)
    getattr(wire, leave)()
    await asyncio.sleep(0.02)
    assert (await client.ask(request("POST", "/v1/events/a", b"x" * 900, content_type=None))).status == 202
