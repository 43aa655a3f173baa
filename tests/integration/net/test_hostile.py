"""Receivers that misbehave on purpose: each attempt ends in time, with the right class, at no further cost."""

import asyncio
import contextlib
import os
import resource
import socket
import threading
from time import monotonic

import pytest

from tests.integration.net.conftest import LOOPBACK
from tests.integration.net.servers import answering, reset
from tests.kit.builders import endpoint, event, work
from webhookd.core.attempt import EXCERPT_BYTES, ErrorClass
from webhookd.core.settings import DeliveryRules
from webhookd.net import attempt
from webhookd.net.sender import HttpSender

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
QUICK = DeliveryRules(timeout_seconds=0.3, connect_timeout_seconds=0.2)
PATIENT = DeliveryRules(timeout_seconds=5, connect_timeout_seconds=5)
LARGE = b"[" + b"1," * 4_000_000 + b"1]"


async def send(sender, server, *, rules=PATIENT, payload=b"{}"):
    return await sender.send(work(of=event(payload=payload)), endpoint(url=server.url, rules=rules))


def after_request(*chunks, pause_seconds=0.0, then="wait"):
    async def behave(server, reader, writer):
        await server.request(reader)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        if then == "wait":
            await reader.read()
            server.ended.set()
        elif then == "reset":
            reset(writer)

    return behave


async def test_an_endless_body_is_left_after_the_excerpt(serve, sender):
    async def endless(server, reader, writer):
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    server = await serve(endless)
    outcome = await send(sender, server)
    assert outcome.status == 200
    assert outcome.excerpt == b"x" * EXCERPT_BYTES
    await asyncio.wait_for(server.ended.wait(), 2)


async def test_a_dripping_body_holds_an_attempt_no_longer_than_the_excerpt_may_take(serve, sender, monkeypatch):
    monkeypatch.setattr(attempt, "BODY_SECONDS", 0.1)
    drips = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 100]
    server = await serve(after_request(*drips, pause_seconds=0.01))
    outcome = await send(sender, server)
    assert outcome.status == 200
    assert 1 <= len(outcome.excerpt) <= 20
    assert outcome.duration_ms < 1000


async def test_the_deadline_covers_the_body_too(serve, sender):
    server = await serve(after_request(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"))
    outcome = await send(sender, server, rules=QUICK)
    assert outcome.status == 200
    assert outcome.excerpt == b"half"
    assert 290 < outcome.duration_ms < 2000
    await asyncio.wait_for(server.ended.wait(), 2)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 100, "interim"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "101"),
        (b"\x00\x01\x02 garbage \xff", "not HTTP"),
        (b"<html>as if it were 1991</html>", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "too large"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "too large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "not valid"),
    ],
)
async def test_what_is_no_answer_is_a_protocol_error_at_once(serve, sender, answer, why):
    server = await serve(after_request(answer))
    outcome = await send(sender, server)
    assert outcome.status is None
    assert outcome.error.kind is ErrorClass.PROTOCOL
    assert why in outcome.error.text
    assert outcome.duration_ms < 2000
    await asyncio.wait_for(server.ended.wait(), 2)


async def test_interim_answers_that_never_end_in_one_stop_at_the_deadline(serve, sender):
    server = await serve(after_request(b"HTTP/1.1 102 Processing\r\n\r\n"))
    outcome = await send(sender, server, rules=QUICK)
    assert outcome.error.kind is ErrorClass.TIMEOUT


@pytest.mark.parametrize("then", ["end", "reset"])
async def test_a_body_that_ends_early_leaves_the_status_standing(serve, sender, then):
    server = await serve(after_request(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", then=then))
    for _ in range(2):
        outcome = await send(sender, server)
        assert outcome.status == 200
        assert outcome.error is None
    assert server.connections == 2


async def test_a_body_without_length_ends_with_the_connection(serve, sender):
    server = await serve(after_request(b"HTTP/1.1 201 Created\r\n\r\n", b"all of it", then="end"))
    outcome = await send(sender, server)
    assert (outcome.status, outcome.excerpt) == (201, b"all of it")


@pytest.mark.parametrize("then", ["wait", "end", "reset"])
async def test_an_answer_that_comes_before_the_request_was_read_counts(serve, sender, then):
    async def refuse(server, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        if then == "wait":
            await asyncio.sleep(5)
        elif then == "end":
            writer.write_eof()
            await asyncio.sleep(5)

    server = await serve(refuse)
    outcome = await send(sender, server, payload=LARGE)
    if then == "reset" and outcome.status is None:
        # A reset may overtake the answer on its way up; then there was none.
        assert outcome.error.kind is ErrorClass.PROTOCOL
    else:
        assert (outcome.status, outcome.excerpt) == (413, b"big")
    again = await send(sender, server)
    assert again.status == 413
    assert server.connections == 2


async def test_a_large_payload_arrives_whole(serve, sender):
    server = await serve(answering(OK))
    for _ in range(2):
        assert (await send(sender, server, payload=LARGE)).status == 200
    assert [body == LARGE for _, body in server.requests] == [True, True]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("before", "payload", "phase"),
    [
        (b"", b"{}", "waiting for the first byte"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"{}", "reading the headers"),
        (b"", LARGE, "sending the request"),
    ],
)
async def test_silence_ends_at_the_deadline_and_the_error_says_where(serve, sender, before, payload, phase):
    async def stall(server, reader, writer):
        reader._transport.pause_reading() if payload is LARGE else await server.request(reader)  # noqa: SLF001
        writer.write(before)
        await asyncio.sleep(5)

    server = await serve(stall)
    outcome = await send(sender, server, rules=QUICK, payload=payload)
    assert outcome.error.kind is ErrorClass.TIMEOUT
    assert outcome.error.text == f"no answer within 0.3 s ({phase})"
    assert 290 < outcome.duration_ms < 2000


async def test_headers_that_drip_do_not_extend_the_deadline(serve, sender):
    server = await serve(after_request(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100, pause_seconds=0.01))
    outcome = await send(sender, server, rules=QUICK)
    assert outcome.error.text == "no answer within 0.3 s (reading the headers)"


async def test_bytes_behind_the_body_end_the_connection(serve, sender):
    server = await serve(answering(OK + OK))
    assert [(await send(sender, server)).status for _ in range(3)] == [200] * 3
    assert server.connections == 3


async def test_bytes_that_nobody_asked_for_end_a_kept_connection(serve, sender):
    async def talk(server, reader, writer):
        await server.request(reader)
        writer.write(OK)
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 500 Surprise\r\nContent-Length: 0\r\n\r\n")
        await server.request(reader)
        writer.write(OK)

    server = await serve(talk)
    assert (await send(sender, server)).status == 200
    await asyncio.wait_for(server.ended.wait(), 2)
    assert (await send(sender, server)).status == 200
    assert server.connections == 2


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 500 Surprise\r\nContent-Length: 0\r\n\r\n", b"", b"\r\n"])
def test_what_the_kernel_holds_before_the_request_is_not_its_answer(clock, system_trust, unasked):
    """The loop has had no chance to read what came behind the first answer when the next request is to go out."""
    heard = []

    def answer(listener):
        for number in range(2):
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(OK)
                if number == 0:
                    stand_still.wait()
                    connection.sendall(unasked) if unasked else connection.shutdown(socket.SHUT_WR)
                    sent.set()
                with contextlib.suppress(ConnectionError):
                    connection.recv(65536)

    async def send_twice(port):
        sender = HttpSender(LOOPBACK, clock, tls_context=system_trust)
        to = endpoint(url=f"http://127.0.0.1:{port}/", rules=PATIENT)
        first = await sender.send(work(of=event()), to)
        stand_still.set()
        sent.wait()
        second = await sender.send(work(of=event()), to)
        await sender.close()
        return first.status, second.status

    stand_still, sent = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Should the second request go over the first connection, nobody comes to the second.
        listener.settimeout(10)
        server = threading.Thread(target=answer, args=(listener,), daemon=True)
        server.start()
        assert asyncio.run(send_twice(listener.getsockname()[1])) == (200, 200)
        server.join()
    assert [request.startswith(b"POST / ") for request in heard] == [True, True]


async def test_a_kept_connection_that_ends_under_the_request_is_replaced_once(serve, sender):
    async def serve_one(server, reader, writer):
        await server.request(reader)
        writer.write(OK)
        await server.request(reader)

    server = await serve(serve_one)
    outcomes = [await send(sender, server) for _ in range(3)]
    assert [outcome.status for outcome in outcomes] == [200] * 3
    assert server.connections == 3


async def test_a_replacement_that_ends_too_is_a_failure(serve, sender):
    async def die_on_second(server, reader, writer):
        await server.request(reader)
        if server.connections == 1:
            writer.write(OK)
            await server.request(reader)

    server = await serve(die_on_second)
    assert (await send(sender, server)).status == 200
    outcome = await send(sender, server)
    assert outcome.error.kind is ErrorClass.PROTOCOL
    assert server.connections == 2


@pytest.mark.parametrize("then", ["end", "reset"])
async def test_a_new_connection_that_ends_without_an_answer_is_not_replaced(serve, sender, then):
    server = await serve(after_request(then=then))
    outcome = await send(sender, server)
    assert outcome.error.kind is ErrorClass.PROTOCOL
    assert server.connections == 1


async def test_half_an_answer_on_a_kept_connection_is_not_asked_for_again(serve, sender):
    server = await serve(answering_then_half())
    assert (await send(sender, server)).status == 200
    outcome = await send(sender, server)
    assert outcome.error.kind is ErrorClass.PROTOCOL
    assert server.connections == 1


def answering_then_half():
    async def behave(server, reader, writer):
        await server.request(reader)
        writer.write(OK)
        await server.request(reader)
        writer.write(b"HTTP/1.1 20")
        await writer.drain()

    return behave


async def test_a_connection_that_the_server_closed_while_idle_is_not_used(serve, sender):
    async def close_soon(server, reader, writer):
        await server.request(reader)
        writer.write(OK)
        await writer.drain()

    server = await serve(close_soon)
    assert (await send(sender, server)).status == 200
    await asyncio.sleep(0.02)
    assert (await send(sender, server)).status == 200
    assert len(server.requests) == 2


async def test_nobody_listening_is_a_connect_error(sender, unused_port):
    outcome = await sender.send(work(), endpoint(url=f"http://127.0.0.1:{unused_port}/"))
    assert outcome.error.kind is ErrorClass.CONNECT
    assert outcome.error.text == f"connecting to 127.0.0.1:{unused_port}: connection refused"
    assert outcome.phases.connect_ms is not None


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_host_that_drops_packets_is_given_up_after_the_connect_timeout(sender):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        begun = monotonic()
        outcome = await sender.send(work(), endpoint(url=f"http://127.0.0.1:{port}/", rules=QUICK))
        for filler in fillers:
            filler.close()
    assert outcome.error.kind is ErrorClass.TIMEOUT
    assert outcome.error.text == f"no connection within 0.2 s (connecting to 127.0.0.1:{port})"
    assert monotonic() - begun < 2


async def test_running_out_of_descriptors_is_our_own_fault(serve, sender):
    server = await serve(answering(OK))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        outcome = await send(sender, server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.error.kind is ErrorClass.LOCAL
    assert "too many open files" in outcome.error.text


async def test_cancelling_an_attempt_drops_its_connection(serve, sender):
    server = await serve(after_request())
    task = asyncio.ensure_future(send(sender, server))
    await asyncio.wait_for(server.arrived.wait(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.ended.wait(), 2)


async def test_closing_the_sender_drops_connections_in_use_and_kept(serve, sender):
    server = await serve(answering(OK))
    silent = await serve(after_request())
    await send(sender, server)
    task = asyncio.ensure_future(send(sender, silent))
    await asyncio.wait_for(silent.arrived.wait(), 2)
    task.cancel()
    await sender.close()
    await asyncio.wait_for(server.ended.wait(), 2)
    await asyncio.wait_for(silent.ended.wait(), 2)
