"""Following attempts over the real front: framing, slow readers, leaving, and the end."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.kit.fakes_api import FakeFollower, Wire, request
from webhookd.api import Patience
from webhookd.core.attempt import Attempt, AttemptNotice, Outcome, Trigger
from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EPOCH_MS, DeliveryId, EndpointId, EventId
from webhookd.core.services import NoticeFilter
from webhookd.core.settings import Role

FOLLOW = request("GET", "/v1/attempts/stream")


def notice(number: int = 1, *, excerpt: bytes = b"ok", state: DeliveryState = DeliveryState.PENDING) -> AttemptNotice:
    return AttemptNotice(
        attempt=Attempt(
            delivery_id=DeliveryId(5),
            number=number,
            trigger=Trigger.SCHEDULED,
            started_at_ms=EPOCH_MS,
            outcome=Outcome(duration_ms=12.3456, status=500, excerpt=excerpt),
        ),
        event_id=EventId(4),
        event_type="order.paid",
        tenant="default",
        endpoint_id=EndpointId("orders"),
        state=state,
        next_attempt_ms=EPOCH_MS + 5000,
    )


class Reader:
    """Reads a stream as a client does."""

    def __init__(self, wire: Wire) -> None:
        self._reader = wire._reader  # noqa: SLF001 - answers without a length are this test's alone
        self.head = ""

    async def begin(self) -> Reader:
        async with asyncio.timeout(5):
            self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        assert await self.part() == b": still here\n\n"
        return self

    async def part(self) -> bytes:
        """Return one chunk; nothing at the end."""
        async with asyncio.timeout(5):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]

    async def events(self) -> list[tuple[str, object]]:
        """Return the events of one chunk."""
        found = []
        for block in (await self.part()).decode().removesuffix("\n\n").split("\n\n"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return found


async def eventually_left(follower: FakeFollower) -> None:
    async with asyncio.timeout(5):
        await follower.left.wait()


async def test_attempts_are_told_as_events_as_they_come(house, client):
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    assert reader.head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/event-stream\r\n" in reader.head
    assert "Cache-Control: no-store\r\n" in reader.head
    (follower,) = house.feed.followers
    follower.tell(notice(1, excerpt=b"a\nb"), notice(2, state=DeliveryState.DEAD))
    (name, first), (_, second) = await reader.events()
    assert name == "attempt"
    assert first == {
        "delivery": "dlv_00000000005",
        "event": "evt_00000000004",
        "type": "order.paid",
        "tenant": "default",
        "endpoint": "orders",
        "number": 1,
        "trigger": "scheduled",
        "started_at": "2024-01-01T00:00:00.000Z",
        "duration_ms": 12.346,
        "phases": {"dns_ms": None, "connect_ms": None, "tls_ms": None, "first_byte_ms": None},
        "status": 500,
        "error": None,
        "excerpt": "a\\nb",
        "state": "pending",
        "next_attempt_at": "2024-01-01T00:00:05.000Z",
    }
    assert (second["number"], second["state"]) == (2, "dead")


async def test_what_was_lost_is_told_where_it_was_lost(house, client):
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    house.feed.followers[0].tell(notice(1), dropped=7)
    assert [name for name, _ in await reader.events()] == ["attempt", "dropped"]
    house.feed.followers[0].tell(dropped=3)
    assert await reader.events() == [("dropped", {"count": 3})]


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("", NoticeFilter()),
        ("?endpoint=orders&type=order.*&tenant=t", NoticeFilter(endpoint_id="orders", type="order.*", tenant="t")),
    ],
)
async def test_filters(house, client, query, which):
    wire = await client.wire()
    await wire.send(request("GET", f"/v1/attempts/stream{query}"))
    await Reader(wire).begin()
    assert house.feed.followers[0].which == which


@pytest.mark.parametrize("query", ["?endpoint=UP", "?type=a%20b", "?tenant=*", "?state=dead", "?type=a&type=b"])
async def test_wrong_filters_are_refused(house, client, query):
    answer = await client.ask(request("GET", f"/v1/attempts/stream{query}"))
    assert answer.status == 422
    assert house.feed.followers == []


async def test_a_quiet_stream_shows_that_it_is_alive(house, client):
    await client.serve(patience=Patience(heartbeat_seconds=0.02))
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    assert [await reader.part() for _ in range(2)] == [b": still here\n\n"] * 2


async def test_too_many_followers(house, client):
    house.feed.has_room = False
    answer = await client.ask(FOLLOW)
    assert answer.status == 503
    assert json.loads(answer.body)["type"] == "urn:webhookd:problem:overloaded"
    assert answer.headers["retry-after"] == "10"


async def test_looking_is_enough_and_handing_in_is_not(house, client):
    await client.serve(how={"role": Role.INGEST})
    assert (await client.ask(FOLLOW)).status == 403
    assert house.feed.followers == []


async def test_a_head_request_ends(house, client):
    wire = await client.wire()
    await wire.send(request("HEAD", "/v1/attempts/stream"))
    answer = await wire.answer(head_only=True)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert house.feed.followers == []


@pytest.mark.parametrize(
    ("how", "tcp"), [("close", False), ("finish", False), ("close", True), ("finish", True), ("reset", True)]
)
async def test_one_who_leaves_is_let_go_at_once(house, client, how, tcp):
    """Not only when something is to be told: heartbeats are far apart."""
    await client.serve(tcp=tcp)
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    getattr(wire, how)()
    await eventually_left(house.feed.followers[0])
    if how == "finish":
        assert await reader.part() == b""
        await wire.end()
    for _ in range(500):
        if not house.api.connections:
            return
        await asyncio.sleep(0.005)
    pytest.fail("the connection is still there")


async def test_one_who_has_left_before_it_begins(house, client):
    wire = await client.wire()
    await wire.send(request("GET", "/v1/status") + FOLLOW)
    wire.finish()
    assert (await wire.answer()).status == 200
    reader = await Reader(wire).begin()
    assert await reader.part() == b""
    assert await wire.end() == b""


async def test_one_who_does_not_read_is_cut_off(house, client):
    """It stops being written to long before, and the bytes that wait for it are bounded."""
    await client.serve(patience=Patience(write_seconds=0.1, tick_seconds=0.02))
    wire = await client.wire()
    await wire.send(FOLLOW)
    await Reader(wire).begin()
    (follower,) = house.feed.followers
    wire._reader._transport.pause_reading()  # noqa: SLF001
    told = 0
    async with asyncio.timeout(5):
        while not follower.left.is_set():
            follower.tell(*[notice(excerpt=b"x" * 4096)] * 16)
            told += 1
            await asyncio.sleep(0.001)
    assert follower._told.qsize() > 1, "what was told did not wait for the reader"  # noqa: SLF001


async def test_the_stream_ends_when_the_daemon_stops(house, client):
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    house.api.drain()
    assert await reader.part() == b""
    answer = await wire.ask(FOLLOW)
    assert answer.status == 503
    assert json.loads(answer.body)["type"] == "urn:webhookd:problem:shutting_down"


async def test_a_fault_of_ours_breaks_the_stream_off(house, client, caplog):
    """Not with the end of an answer, nor with a second one in the middle of the first."""
    wire = await client.wire()
    await wire.send(FOLLOW)
    await Reader(wire).begin()
    (follower,) = house.feed.followers
    follower.tell(None)
    assert await wire.end() == b""
    assert follower.left.is_set()
    assert [record.message for record in caplog.records] == ["request.failed"]


async def test_the_connection_goes_on_after_a_stream(house, client):
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    house.feed.followers[0].leave()
    assert await reader.part() == b""
    assert (await wire.ask(request("GET", "/v1/status"))).status == 200


async def test_a_long_stream_is_not_taken_for_an_idle_connection(house, client):
    await client.serve(patience=Patience(idle_seconds=0.05, head_seconds=0.05, body_seconds=0.05, tick_seconds=0.01))
    wire = await client.wire()
    await wire.send(FOLLOW)
    reader = await Reader(wire).begin()
    await asyncio.sleep(0.05)
    await asyncio.sleep(0.05)
    await asyncio.sleep(0.05)
    house.feed.followers[0].tell(notice())
    assert [name for name, _ in await reader.events()] == ["attempt"]
