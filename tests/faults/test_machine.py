"""A machine that runs out of what the daemon needs: file descriptors, memory, and somebody who takes its log lines."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import Daemon, running_daemon
from tests.kit.fiu import Faults, needs_fiu
from tests.kit.producers import Producers, require_nothing_lost
from tests.kit.receiver import Receiver, Request

SOCKET = "posix/io/net/socket"
ENDPOINTS = 20
DROPPED = "webhookd_log_lines_dropped_total"


def to(receiver: Receiver, *, endpoints: int = 1, **keys: Any) -> dict[str, Any]:
    """Configure endpoints that all get every event; a delivery that is charged for one failure too many dies."""
    rules = {"signatures": [], "jitter": 0, "retry": ["1s"], **keys}
    named = {f"e{number}": {"url": f"{receiver.url}/{number}", **rules} for number in range(endpoints)}
    return {"store": {"min_free": "0B"}, "endpoints": named}


@needs_fiu
@pytest.mark.long
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_attempts_without_a_descriptor_are_not_charged(tmp_path: Path, short_path: Path, number: int) -> None:
    faults = Faults(short_path)
    async with Receiver() as receiver:
        config = to(receiver, endpoints=ENDPOINTS)
        async with running_daemon(tmp_path, config, command=faults.command) as daemon:
            producers = Producers(daemon)
            await faults.enable(daemon.pid, SOCKET, number)
            async with producers.working(2, pause_seconds=0.1):
                # Each delivery has failed more often than its schedule has attempts.
                await asyncio.sleep(4)
            assert set(producers.statuses()) == {202}
            assert receiver.count == 0
            await faults.disable(daemon.pid, SOCKET)
            await producers.hand_in()
            await require_every_one_delivered(producers, receiver)
            assert {entry["error"] for entry in daemon.log_entries("attempt.failed")} == {"local"}
            assert not daemon.log_entries("delivery.died")
            assert len(daemon.log_entries("resources.exhausted")) <= 5


async def require_every_one_delivered(producers: Producers, receiver: Receiver) -> None:
    await producers.daemon.settled(60)
    counts = receiver.by_event()
    assert {one.event_id: ENDPOINTS for one in producers.handed} == counts
    assert await producers.daemon.terminate() == 0


async def test_without_descriptors_those_who_are_connected_go_on_and_the_rest_wait(tmp_path: Path) -> None:
    """The limit is set on the living process, so that not one descriptor is left to it."""
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon)
        await asyncio.gather(*(producers.hand_in() for _ in range(4)))
        await receiver.wait_for(4)
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        used = max(int(entry.name) for entry in Path(f"/proc/{daemon.pid}/fd").iterdir()) + 1
        waiting: list[socket.socket] = []
        async with producers.working(4):
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used, hard))
            before = len(producers.answered(202))
            try:
                for _ in range(200):
                    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    one.setblocking(False)
                    waiting.append(one)
                    one.connect(str(daemon.ingest_socket))
                await asyncio.sleep(3)
            finally:
                for one in waiting:
                    one.close()
            assert len(producers.answered(202)) - before > 20
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        again = await Producers(daemon, first=1_000_000).hand_in(timeout_seconds=10)
        assert again.status == 202
        # Who was idle longest made room for somebody new, some of them just as they were about to say something.
        assert set(producers.statuses()) <= {202, 0}
        exhausted = daemon.log_entries("listener.starved") + daemon.log_entries("resources.exhausted")
        # Two hundred places in the backlog were passed over several times a second.
        assert 1 <= len(exhausted) <= 4
        assert (await daemon.get("/readyz")).status == 200
        await require_nothing_lost(producers, receiver)


SINK = """
import os, socket, sys
kind, path, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
if kind == "closed":
    os.close(2)
elif kind == "journal":
    sink = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sink.connect(path)
    os.dup2(sink.fileno(), 2)
    status = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
else:
    os.dup2(os.open(path, os.O_WRONLY), 2)
os.execv(sys.executable, [sys.executable, "-m", "webhookd", *rest])
"""


@contextlib.contextmanager
def sink(kind: str, directory: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Provide somewhere to write to that nobody reads, and what shuts it."""
    path = directory / "sink"
    with contextlib.ExitStack() as stack:
        if kind == "journal":
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            server.bind(str(path))
            server.listen(8)
        else:
            os.mkfifo(path)
            # Open for both, so that it is no end of file to open it for writing, and for reading alone to be shut.
            reading = os.open(path, os.O_RDWR if kind == "full" else os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, reading)
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
        yield path, stack.close


def once_refused() -> Callable[[Request], int]:
    """Answer 500 to the first request for each delivery, for a line of the log, and 200 to those after it."""
    seen: set[tuple[str, str]] = set()

    def answer(request: Request) -> int:
        name = (request.path, request.event_id)
        status = 200 if name in seen else 500
        seen.add(name)
        return status

    return answer


async def dropped_lines(daemon: Daemon) -> float:
    text = (await daemon.get("/metrics")).body.decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{DROPPED} "))


@pytest.mark.parametrize(
    ("kind", "drops"),
    [
        ("closed", False),
        ("shut", True),
        pytest.param("full", False, marks=pytest.mark.long),
        pytest.param("journal", False, marks=pytest.mark.long),
    ],
)
async def test_a_log_that_nobody_takes_holds_nothing_up(
    tmp_path: Path, short_path: Path, kind: str, drops: bool
) -> None:
    """A stream that was closed before the start, a pipe that is shut later, a full one, a journal that hangs."""
    with sink(kind, short_path) as (path, shut):
        command = [sys.executable, "-c", SINK, kind, str(path)]
        async with Receiver() as receiver, running_daemon(tmp_path, to(receiver), command=command) as daemon:
            receiver.script(once_refused())
            producers = Producers(daemon)
            if kind == "shut":
                shut()
            async with producers.working(16):
                await receiver.wait_for(500, timeout_seconds=60)
                began = time.monotonic()
                assert (await daemon.get("/healthz")).status == 200
                assert time.monotonic() - began < 2
            assert (await dropped_lines(daemon) > 0) is drops
            assert set(producers.statuses()) == {202}
            await require_nothing_lost(producers, receiver)


@pytest.mark.long
async def test_what_is_logged_beyond_a_bound_is_dropped_and_counted(tmp_path: Path, short_path: Path) -> None:
    with sink("full", short_path) as (path, _):
        command = [sys.executable, "-c", SINK, "full", str(path)]
        async with (
            Receiver() as receiver,
            running_daemon(tmp_path, to(receiver, endpoints=ENDPOINTS), command=command) as daemon,
        ):
            receiver.script(once_refused())
            producers = Producers(daemon)
            for _ in range(600):
                await producers.hand_in()
            await daemon.settled(120)
            # A line for each of 12,000 failed attempts, and room for 10,000.
            assert await dropped_lines(daemon) >= 1000
            assert receiver.count == 2 * 600 * ENDPOINTS
            assert await daemon.terminate() == 0
