"""The real daemon while somebody takes all connections there are, or takes his time on each: producers go on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import shutil
import socket
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon, eventually, running_daemon
from webhookd.api.listener import ACCEPTS_PER_TURN

CONNECTIONS = 1024
FLOOD = 1300
GROWN_BYTES = 64 * 1024 * 1024
"""More than a thousand connections take up, far less than a leak over a flood would."""
SPARE_DESCRIPTORS = 12
BETWEEN = 6 * ACCEPTS_PER_TURN
"""Accepted but not yet let in, or put out but not yet closed: either takes the loop a few turns."""
NEEDED_DESCRIPTORS = 8192
EVENT = b'{"type":"order.paid","payload":{"n":1}}'
REQUEST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + (
    b"Content-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
)

needs_slowhttptest = pytest.mark.skipif(
    shutil.which("slowhttptest") is None, reason="slowhttptest is not here: apt-get install slowhttptest"
)


@pytest.fixture(autouse=True)
def room_for_descriptors() -> Iterator[None]:
    """Let this process, and those it starts, have as many connections as a flood is made of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED_DESCRIPTORS:
        pytest.skip(f"needs {NEEDED_DESCRIPTORS} descriptors, and may have {hard}: ulimit -Hn")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NEEDED_DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir())


def memory_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


@dataclass(slots=True)
class Producer:
    """Hands in one event after another, each on a connection of its own, and keeps how long each took."""

    daemon: Daemon
    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    async def run(self) -> None:
        while True:
            begun = time.monotonic()
            reader, writer = await asyncio.open_unix_connection(self.daemon.ingest_socket)
            status = b""
            try:
                writer.write(REQUEST)
                with contextlib.suppress(ConnectionError):
                    # In Python 3.11, wait_for() may take a cancellation for itself, and this would never end.
                    async with asyncio.timeout(30):
                        status = await reader.readline()
            finally:
                writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            if status.startswith(b"HTTP/1.1 202 "):
                self.seconds.append(time.monotonic() - begun)
            else:
                self.refused += 1
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def producing(daemon: Daemon) -> AsyncIterator[Producer]:
    producer = Producer(daemon)
    task = asyncio.create_task(producer.run())
    try:
        yield producer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), task


async def settled(daemon: Daemon, before: int) -> None:
    """Wait until the descriptors of a flood are gone."""

    async def gone() -> bool:
        return descriptors(daemon) <= before + SPARE_DESCRIPTORS

    await eventually(gone, timeout_seconds=30, every_seconds=0.2)


async def taken(daemon: Daemon, count: int) -> list[socket.socket]:
    """Open connections to the TCP port, one by one, that say nothing."""
    found = []
    for number in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        found.append(sock)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", daemon.port))
        if number % 50 == 0:
            await asyncio.sleep(0)
    return found


async def test_connections_beyond_the_limit_push_out_the_idle_and_not_the_producers(tmp_path: Path) -> None:
    async with running_daemon(tmp_path) as daemon:
        before, memory = descriptors(daemon), memory_bytes(daemon)
        flood: list[socket.socket] = []
        try:
            async with producing(daemon) as producer:
                flood = await taken(daemon, FLOOD)
                seen = len(producer.seconds)
                await eventually(lambda: more_than(producer, seen + 20), timeout_seconds=30)
                assert descriptors(daemon) <= before + CONNECTIONS + BETWEEN + SPARE_DESCRIPTORS
            assert producer.refused == 0
            assert statistics.median(producer.seconds) < 1
            # Who said nothing for longest went first.
            assert [ended(sock) for sock in flood[: FLOOD - CONNECTIONS]] == [True] * (FLOOD - CONNECTIONS)
        finally:
            for sock in flood:
                sock.close()
        await settled(daemon, before)
        assert memory_bytes(daemon) - memory < GROWN_BYTES
        assert "Traceback" not in daemon.log
        assert await daemon.terminate() == 0


async def test_unfinished_requests_on_every_connection_do_not_lock_a_producer_out(tmp_path: Path) -> None:
    async with running_daemon(tmp_path) as daemon:
        before = descriptors(daemon)
        flood: list[socket.socket] = []
        try:
            flood = await taken(daemon, CONNECTIONS)
            for sock in flood:
                with contextlib.suppress(OSError):
                    sock.send(REQUEST[:-1])
            await asyncio.sleep(1.5)
            async with producing(daemon) as producer:
                await eventually(lambda: more_than(producer, 20), timeout_seconds=30)
            assert producer.refused == 0
            assert descriptors(daemon) <= before + CONNECTIONS + BETWEEN + SPARE_DESCRIPTORS
        finally:
            for sock in flood:
                sock.close()
        await settled(daemon, before)
        assert await daemon.terminate() == 0


async def more_than(producer: Producer, count: int) -> bool:
    return len(producer.seconds) > count


def ended(sock: socket.socket) -> bool:
    """Say whether the other side has ended the connection."""
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


SLOW = {
    "slow heads": ["-H", "-i", "1", "-x", "24", "-t", "GET"],
    "slow bodies": ["-B", "-i", "1", "-x", "8", "-s", "8192", "-f", "application/json", "-t", "POST"],
    "slow reading": ["-X", "-n", "1", "-w", "1", "-y", "64", "-z", "8", "-k", "3"],
}
PATHS = {"slow heads": "/v1/status", "slow bodies": "/v1/events", "slow reading": "/openapi.json"}
SLOW_SECONDS = 12


@pytest.mark.long
@needs_slowhttptest
@pytest.mark.parametrize("name", SLOW)
async def test_who_takes_his_time_on_a_thousand_connections_slows_nobody(tmp_path: Path, name: str) -> None:
    async with running_daemon(tmp_path) as daemon:
        before, memory = descriptors(daemon), memory_bytes(daemon)
        most = 0
        async with producing(daemon) as producer:
            process = await asyncio.create_subprocess_exec(
                *("slowhttptest", *SLOW[name], "-c", "2000", "-r", "200", "-l", str(SLOW_SECONDS), "-p", "3"),
                *("-u", f"{daemon.url}{PATHS[name]}"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said = asyncio.create_task(process.communicate())
            try:
                async with asyncio.timeout(SLOW_SECONDS + 30):
                    while not said.done():
                        most = max(most, descriptors(daemon))
                        await asyncio.sleep(0.1)
            finally:
                if process.returncode is None:
                    process.kill()
                output = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", (await said)[0]).decode()
        # That there was an attack at all.
        assert most > before + 200, output
        assert most <= before + CONNECTIONS + BETWEEN + SPARE_DESCRIPTORS, output
        assert len(producer.seconds) > 50
        assert statistics.median(producer.seconds) < 1
        assert statistics.quantiles(producer.seconds, n=100)[98] < 5
        assert producer.refused <= len(producer.seconds) // 100
        await settled(daemon, before)
        assert memory_bytes(daemon) - memory < GROWN_BYTES
        assert "Traceback" not in daemon.log
        assert "request.failed" not in daemon.log
        assert await daemon.terminate() == 0
