"""Binding, and the life of the API from the first accept to the last answer."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from tests.kit.fakes_api import Wire, request, settings
from webhookd.api import bind
from webhookd.core.settings import Ingest, TcpAddress, UnixAddress

EVENT = request("POST", "/v1/events", b'{"type":"a","payload":1}')


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_unix_socket_has_its_mode_whatever_the_umask(tmp_path, mode):
    path = tmp_path / "s.sock"
    before = os.umask(0o077)
    try:
        with bind(UnixAddress(path, mode)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert list(tmp_path.iterdir()) == [path]
    finally:
        os.umask(before)


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path):
    path = tmp_path / "s.sock"
    bind(UnixAddress(path)).close()
    with bind(UnixAddress(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path):
    path = tmp_path / "s.sock"
    with bind(UnixAddress(path)):
        with pytest.raises(OSError, match="another process") as caught:
            bind(UnixAddress(path))
        assert caught.value.errno == errno.EADDRINUSE
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_what_is_not_a_socket_is_left_alone(tmp_path):
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        bind(UnixAddress(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["missing/s.sock", "x" * 120])
def test_a_socket_that_cannot_be_there_is_an_error(tmp_path, path):
    with pytest.raises(OSError, match=r"No such file|too long"):
        bind(UnixAddress(tmp_path / path))


def test_abstract_names_are_refused():
    with pytest.raises(OSError, match="abstract"):
        bind(UnixAddress(Path("@webhookd")))


def test_a_tcp_address_in_use_is_an_error():
    with bind(TcpAddress("127.0.0.1", 0)) as listening:
        with pytest.raises(OSError, match="in use") as caught:
            bind(TcpAddress("127.0.0.1", listening.getsockname()[1]))
        assert caught.value.errno == errno.EADDRINUSE


def test_a_tcp_address_may_be_ipv6_or_a_name():
    for host in ("::1", "localhost"):
        with bind(TcpAddress(host, 0)) as listening:
            assert listening.getsockname()[1] > 0


async def test_new_limits_hold_for_the_next_request(client, house):
    wire = await client.wire()
    long = request("POST", "/v1/events/a", b"x" * 1000, content_type=None)
    assert (await wire.ask(long)).status == 202
    house.api.apply(settings(ingest=Ingest(max_payload_bytes=999)))
    assert (await wire.ask(long)).status == 413


async def test_a_draining_api_refuses_events_and_goes_on_answering(client, house):
    wire = await client.wire()
    assert (await wire.ask(EVENT)).status == 202
    house.api.drain()
    answer = await client.ask(EVENT)
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert "retry-after" in answer.headers
    assert (await client.ask(request("GET", "/v1/status"))).status == 200


async def test_closing_lets_what_is_under_way_end(client, house):
    idle, busy, handed_on = [await client.wire() for _ in range(3)]
    house.acceptor.hold()
    await busy.send(EVENT)
    assert (await handed_on.ask(request("GET", "/healthz"))).status == 200
    await house.acceptor.until_held()
    closing = asyncio.get_running_loop().create_task(house.api.close(3))
    assert await idle.end() == b""
    assert await handed_on.end() == b""
    with pytest.raises(OSError, match=r"refused|No such file"):
        await client.wire()
    house.acceptor.release()
    assert (await busy.answer()).status == 202
    assert await busy.end() == b""
    await closing


async def test_closing_waits_no_longer_than_its_grace(client, house):
    wire = await client.wire()
    house.acceptor.hold()
    await wire.send(EVENT)
    await house.acceptor.until_held()
    await asyncio.wait_for(house.api.close(0.05), 2)
    assert await wire.end() == b""
    house.acceptor.release()


async def test_a_closed_api_leaves_no_socket_behind(client, house, tmp_path):
    await client.wire()
    await house.api.close(0.05)
    assert not (tmp_path / "api.sock").exists()


async def test_running_out_of_descriptors_is_survived_with_one_line_in_the_log(client, house, tmp_path, caplog):
    await client.wire()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = []
    # The clients' own sockets exist before the limit falls; the server's sides of them come after it.
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(sock.fileno() for sock in sockets) + 3, hard))
    try:
        for sock in sockets:
            sock.connect(str(tmp_path / "api.sock"))
            sock.setblocking(False)
            waiting.append(await Wire.to(lambda sock=sock: sock))
        await asyncio.sleep(0.05)
        assert caplog.messages.count("listener.starved") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (await waiting[-1].ask(EVENT)).status == 202
    for wire in waiting:
        wire.close()


async def test_being_out_of_memory_is_reported_to_who_runs_the_api(client, house, caplog):
    house.acceptor.error = MemoryError()
    assert (await client.ask(EVENT)).status == 500
    assert isinstance(house.api.failed.exception(), MemoryError)


async def test_an_ordinary_fault_is_not(client, house):
    house.acceptor.error = ZeroDivisionError()
    assert (await client.ask(EVENT)).status == 500
    assert not house.api.failed.done()
