"""Child processes of a measurement: started, asked, measured, and gone at the end whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).parents[1]
LINE_BYTES = 64 * 1024 * 1024
"""Longest line of JSON taken from a child: the ids of a million events."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_REST_SECONDS = 0.25
_REST_TICKS = 1
_RESTS = 40
_STOP_SECONDS = 30.0
_numbers = count(1)


class MeasurementError(Exception):
    """A run that must not be counted: something was lost, doubled, refused, or did not work at all."""


class Cpu(NamedTuple):
    """Seconds of processor time: of the main thread, which has the loop, and of all others, such as the database's."""

    main_user: float
    main_system: float
    others_user: float
    others_system: float

    def since(self, before: Cpu) -> Cpu:
        """Return what was used after `before`."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class Child:
    """A running child; `said` is the file its messages go to."""

    def __init__(self, process: Process, said: Path) -> None:
        self.process = process
        self.said = said

    async def read(self) -> dict[str, Any]:
        """Return the next line of its output, read as JSON."""
        line = await cast("asyncio.StreamReader", self.process.stdout).readline()
        if not line.endswith(b"\n"):
            raise MeasurementError(f"a process ended early:\n{self.last_words()}")
        return json.loads(line)

    async def ask(self, line: str) -> dict[str, Any]:
        """Send it a line and return the answer."""
        cast("asyncio.StreamWriter", self.process.stdin).write(line.encode() + b"\n")
        return await self.read()

    def last_words(self) -> str:
        """Return the end of its messages."""
        return "\n".join(self.said.read_text(errors="replace").splitlines()[-20:])

    def cpu(self) -> Cpu:
        """Return the processor time its threads have used, those that ended included (proc(5), stat)."""
        process = Path(f"/proc/{self.process.pid}")
        user, system = cpu_ticks((process / "stat").read_text())
        main_user, main_system = cpu_ticks((process / "task" / process.name / "stat").read_text())
        ticks = (main_user, main_system, max(0, user - main_user), max(0, system - main_system))
        return Cpu(*(number / _TICKS_PER_SECOND for number in ticks))

    def cpu_seconds(self) -> float:
        """Return the processor time of all of them together."""
        return sum(self.cpu())

    def resident_bytes(self) -> int:
        """Return how much of its memory is in RAM (proc(5), status)."""
        return self._status_bytes("VmRSS")

    def most_resident_bytes(self) -> int:
        """Return how much of its memory was in RAM when it was most."""
        return self._status_bytes("VmHWM")

    def wakeups(self) -> int:
        """Return how often its threads have begun to wait for something; each of these was woken by something."""
        statuses = [path.read_text() for path in Path(f"/proc/{self.process.pid}/task").glob("*/status")]
        lines = [line for status in statuses for line in status.splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    def _status_bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) * 1024

    async def rest(self) -> None:
        """Return when it has nothing more to do: a quarter of a second with at most one tick of processor time."""
        before = self.cpu_seconds()
        for _ in range(_RESTS):
            await asyncio.sleep(_REST_SECONDS)
            now = self.cpu_seconds()
            if (now - before) * _TICKS_PER_SECOND < _REST_TICKS + 0.5:
                return
            before = now
        raise MeasurementError(f"a process was still busy {_RESTS * _REST_SECONDS:g} s after the last delivery")

    async def stop(self) -> None:
        """Ask it to end and make sure that it ended well."""
        _send(self.process, signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                code = await self.process.wait()
        except TimeoutError:
            raise MeasurementError(f"a process did not end within {_STOP_SECONDS:g} s:\n{self.last_words()}") from None
        if code != 0:
            raise MeasurementError(f"a process ended with {code}:\n{self.last_words()}")


def _send(process: Process, number: signal.Signals) -> None:
    """Send a signal, past `Process.send_signal`: that would reap one that has just ended, and asyncio would miss it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def complete(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run `work` to its end; SIGINT, SIGTERM and SIGHUP take it down with all its children and files.

    Raises KeyboardInterrupt then.
    """

    async def main() -> dict[str, Any]:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def say(answer: dict[str, Any]) -> None:
    """Write a line that `Child.read` reads, all of it: a pipe may take part of a write, and unbuffered that is lost."""
    with open(1, "wb", closefd=False) as out:
        out.write(json.dumps(answer).encode() + b"\n")


def cpu_ticks(stat: str) -> tuple[int, int]:
    """Return user and system ticks from the text of /proc/PID/stat; the name in it may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


@contextlib.asynccontextmanager
async def child(arguments: Sequence[str], directory: Path) -> AsyncIterator[Child]:
    """Run `python ARGUMENTS` in a process of its own; it is killed on the way out if it still runs.

    It gets a session of its own: a Ctrl-C is for this process, which knows what to end and in which order.
    """
    said = directory / f"said-{next(_numbers)}.log"
    with said.open("wb") as messages:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=messages,
            cwd=ROOT,
            limit=LINE_BYTES,
            start_new_session=True,
        )
    try:
        yield Child(process, said)
    finally:
        if process.returncode is None:
            _send(process, signal.SIGKILL)
            await process.wait()
