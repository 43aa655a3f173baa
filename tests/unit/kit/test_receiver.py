"""The receiver records what is on the wire and answers as told."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import aiohttp
import pytest

from tests.kit.receiver import Receiver, Reply, receiver_process


@pytest.fixture
async def receiver():
    async with Receiver() as started:
        yield started


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(65536), 5)
    finally:
        writer.close()


async def test_a_request_is_recorded_as_it_stood_on_the_wire(receiver):
    await raw(
        receiver.port,
        b"POST /hook?x=1 HTTP/1.1\r\nHost: a\r\nX-Odd-CASE: caf\xe9\r\nwebhook-id: evt_1\r\n"
        b"Connection: close\r\nContent-Length: 3\r\n\r\n\x00\xff1",
    )
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook?x=1", b"\x00\xff1")
    assert (b"X-Odd-CASE", b"caf\xe9") in request.headers
    assert request.header("x-odd-case") == "café"
    assert request.event_id == "evt_1"
    assert receiver.by_event() == {"evt_1": 1}


async def test_answers_come_in_order_the_last_stays_and_paths_have_their_own(receiver, client):
    receiver.script(500, Reply(status=429, headers=(("Retry-After", "7"),), body=b"slow"), lambda _: 204)
    receiver.script(410, path="/gone")
    seen = []
    for path in ("/", "/gone", "/", "/", "/"):
        async with client.post(receiver.url + path, data=b"x") as response:
            seen.append((response.status, response.headers.get("Retry-After"), await response.read()))
    assert seen == [(500, None, b""), (410, None, b""), (429, "7", b"slow"), (204, None, b""), (204, None, b"")]
    assert len(receiver.at("/gone")) == 1
    assert receiver.connections == 1


async def test_a_delayed_answer_counts_as_in_flight_meanwhile(receiver, client):
    receiver.script(Reply(delay_seconds=0.03))
    started = time.monotonic()
    posts = asyncio.gather(*(client.post(receiver.url) for _ in range(3)))
    await receiver.wait_for(3)
    assert receiver.in_flight == 3
    for response in await posts:
        response.release()
    assert time.monotonic() - started >= 0.03
    assert (receiver.in_flight, receiver.peak) == (0, 3)


async def test_it_can_reset_drop_hang_and_talk_nonsense(receiver):
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    receiver.script(
        Reply(reset=True), Reply(drop=True), Reply(raw=b"220 smtp.example ESMTP\r\n", close=True), Reply(hang=True)
    )
    with pytest.raises(ConnectionResetError):
        await raw(receiver.port, request)
    assert await raw(receiver.port, request) == b""
    assert await raw(receiver.port, request) == b"220 smtp.example ESMTP\r\n"
    hanging = asyncio.create_task(raw(receiver.port, request))
    await receiver.wait_for(4)
    assert receiver.in_flight == 1
    await receiver.stop()
    with pytest.raises(ConnectionResetError):
        await hanging
    await asyncio.sleep(0)
    assert receiver.in_flight == 0


async def test_an_outage_refuses_and_ends_on_the_same_port(receiver, client):
    url = receiver.url
    await receiver.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.post(url)
    await receiver.start()
    async with client.post(url) as response:
        assert response.status == 200
    assert receiver.url == url


async def test_waiting_in_vain_says_how_many_came(receiver):
    with pytest.raises(TimeoutError, match="0 of 1"):
        await receiver.wait_for(1, 0.01)


async def test_as_a_process_it_writes_a_line_before_it_answers(tmp_path, client):
    async with receiver_process(tmp_path / "log", "--fail-first", "1") as process:
        statuses = []
        for event_id in ("evt_a", "evt_a", "evt_b"):
            async with client.post(process.url, data=b"x", headers={"webhook-id": event_id}) as response:
                statuses.append((event_id, response.status))
            assert process.entries() == statuses
        assert statuses == [("evt_a", 500), ("evt_a", 200), ("evt_b", 500)]
        os.kill(process.pid, signal.SIGKILL)
