"""Something in the process no longer gets on: the service manager is no longer told that all is well, or it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.daemon import eventually, running_daemon
from tests.kit.faulty import TASKS
from tests.kit.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
QUIET_SECONDS = 3.0
"""Three beats of the watchdog's feed: a daemon that gets on is heard of in any such time."""


class Manager:
    """The service manager's end of NOTIFY_SOCKET; asked without end, since it is a file that nobody wakes us for."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def pings(self) -> int:
        """Return how often it was said since the last time that all is well."""
        count = 0
        while True:
            try:
                count += b"WATCHDOG=1" in self._socket.recv(4096).splitlines()
            except BlockingIOError:
                return count

    async def pinged(self) -> bool:
        return self.pings() > 0


@contextmanager
def manager(path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setblocking(False)
        yield Manager(sock)


def faulty(fault: str, trigger: Path) -> list[str]:
    return [sys.executable, "-m", "tests.kit.faulty", fault, str(trigger)]


@pytest.mark.long
@pytest.mark.parametrize("what", ["loop", "writer"])
async def test_what_is_blocked_is_no_longer_vouched_for_and_can_be_looked_into(short_path: Path, what: str) -> None:
    """The pings stop, and what systemd then does, SIGABRT, leaves the stacks of all threads in the log."""
    trigger = short_path / "now"
    with manager(short_path / "notify.sock") as told:
        env = {
            "NOTIFY_SOCKET": str(short_path / "notify.sock"),
            "WATCHDOG_USEC": "2000000",
            # As the unit has it.
            "PYTHONFAULTHANDLER": "1",
        }
        async with running_daemon(short_path, {}, env=env, command=faulty(f"blocked-{what}", trigger)) as daemon:
            await eventually(told.pinged)
            trigger.touch()
            # One beat may be on its way.
            await asyncio.sleep(2.0)
            told.pings()
            await asyncio.sleep(QUIET_SECONDS)
            assert told.pings() == 0
            daemon.send_signal(signal.SIGABRT)
            assert await daemon.wait() == -signal.SIGABRT
            assert "Fatal Python error: Aborted" in daemon.log
            stack = "in block" if what == "loop" else "faulty.py"
            assert stack in daemon.log


async def test_a_daemon_that_gets_on_is_heard_of_in_any_such_time(short_path: Path) -> None:
    with manager(short_path / "notify.sock") as told:
        env = {"NOTIFY_SOCKET": str(short_path / "notify.sock"), "WATCHDOG_USEC": "2000000"}
        async with running_daemon(short_path, {}, env=env):
            await eventually(told.pinged)
            await asyncio.sleep(QUIET_SECONDS)
            assert told.pings() >= 1


@pytest.mark.parametrize("how", ["ends", "raises"])
@pytest.mark.parametrize("what", TASKS)
async def test_a_task_that_must_not_end_takes_the_process_with_it(tmp_path: Path, what: str, how: str) -> None:
    trigger = tmp_path / "now"
    async with running_daemon(tmp_path, {}, command=faulty(f"task:{what}:{how}", trigger)) as daemon:
        trigger.touch()
        assert await daemon.wait() == 70
        (entry,) = daemon.log_entries("daemon.crashed")
        assert ("scripted" if how == "raises" else f"{what} ended without being told to") in str(entry)


async def test_a_dispatcher_that_fails_takes_the_process_with_it(tmp_path: Path) -> None:
    """What is accepted in that moment is there afterwards."""
    trigger = tmp_path / "now"
    async with Receiver() as receiver:
        config = {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET}}}
        async with running_daemon(tmp_path, config, command=faulty("dead-dispatcher", trigger)) as daemon:
            trigger.touch()
            sent = await daemon.send("order.completed", {})
            assert await daemon.wait() == 70
            trigger.unlink()
            begun = time.monotonic()
            await daemon.start()
            await receiver.wait_for(1)
            assert receiver.by_event() == {sent["id"]: 1}
            assert time.monotonic() - begun < 20
