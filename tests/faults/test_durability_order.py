"""What the kernel is asked for, in order: nothing leaves the process before the log that holds it is on disk.

The order is read from a trace of the system calls, in which every `fdatasync` is made to take its time, so that
whatever does not wait for it comes first for certain.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.daemon import DaemonExitedError, eventually, running_daemon
from tests.kit.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRODUCERS = 6
EVENTS_EACH = 5
SYNC_MICROSECONDS = 20_000
SEEN_CHARACTERS = 4200

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_UNFINISHED = "<unfinished ...>"


def may_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not may_trace(), reason="needs strace and leave to trace: apt-get install strace")


@dataclass(slots=True)
class Call:
    """A system call; `began` and `ended` are the lines of the trace at which it was entered and had returned."""

    name: str
    text: str
    began: int
    ended: int

    @property
    def is_on_log(self) -> bool:
        return "webhookd.db-wal>" in self.text.partition(",")[0]


def calls(trace: Path) -> Iterator[Call]:
    """Yield the calls of the trace in the order in which they returned."""
    under_way: dict[str, Call] = {}
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        if found := _CALL.match(line):
            call = Call(found["name"], found["rest"], number, number)
            if line.endswith(_UNFINISHED):
                under_way[found["pid"]] = call
            else:
                yield call
        elif found := _RESUMED.match(line):
            call = under_way.pop(found["pid"])
            call.text += found["rest"]
            call.ended = number
            yield call


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where in a trace an event was written to the log, and where each kind of word of it left the process."""

    synced: list[tuple[int, int]]
    written: dict[str, int]
    answered: dict[str, int]
    sent: dict[str, int]

    def is_covered(self, marker: str, leaves_at: int) -> bool:
        """Say whether an `fdatasync` of the log began after the event was written and ended before `leaves_at`."""
        return any(self.written[marker] < began and ended < leaves_at for began, ended in self.synced)


def read(trace: Path, ids: dict[str, str]) -> Trace:
    """Read the trace; `ids` has the id that each event was given, by the marker in its payload."""
    synced, written, answered, sent = [], {}, {}, {}
    for call in calls(trace):
        if call.name in {"fdatasync", "fsync"} and call.is_on_log:
            assert call.text.rstrip().endswith(("= 0", "= 0 (DELAYED)")), call.text
            synced.append((call.began, call.ended))
        elif call.name == "pwrite64" and call.is_on_log:
            for marker in ids:
                if marker in call.text:
                    written.setdefault(marker, call.ended)
        elif "HTTP/1.1 202" in call.text:
            for marker, event_id in ids.items():
                if event_id in call.text:
                    answered.setdefault(marker, call.began)
        elif "POST /hook" in call.text:
            for marker, event_id in ids.items():
                if event_id in call.text:
                    sent.setdefault(marker, call.began)
    return Trace(synced=synced, written=written, answered=answered, sent=sent)


@pytest.fixture
async def trace(tmp_path: Path) -> Trace:
    """Run a daemon under load, each event with a marker of its own in its payload, and read what it asked for."""
    path = tmp_path / "trace"
    command = [
        # The tracer is the grandchild, so that what is sent to the daemon's pid reaches the daemon.
        *("strace", "-D", "-f", "-q", "-y", "-s", str(SEEN_CHARACTERS), "-o", str(path)),
        *("-e", "trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg"),
        *("-e", "signal=none", "-e", f"inject=fdatasync,fsync:delay_enter={SYNC_MICROSECONDS}"),
        *(sys.executable, "-m", "webhookd"),
    ]
    ids: dict[str, str] = {}
    async with Receiver() as receiver:
        config = {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET}}}
        async with running_daemon(tmp_path, config, command=command) as daemon:

            async def produce(first: int) -> None:
                for number in range(first, first + EVENTS_EACH):
                    marker = f"marker-{number:04}"
                    ids[marker] = (await daemon.send("order.completed", {"marker": marker}))["id"]

            await asyncio.gather(*(produce(100 * producer) for producer in range(PRODUCERS)))
            await receiver.wait_for(PRODUCERS * EVENTS_EACH)
            await daemon.settled()
            pid = daemon.pid
            if (code := await daemon.terminate()) != 0:
                raise DaemonExitedError(code, daemon.log)

    async def is_written_out() -> bool:
        return re.search(rf"^{pid} +\+\+\+ exited", path.read_text(errors="replace"), re.MULTILINE) is not None

    # The tracer outlives what it traces, if not by much.
    await eventually(is_written_out)
    found = read(path, ids)
    # Nothing would follow from a trace in which the half was not seen.
    assert found.written.keys() == found.answered.keys() == found.sent.keys() == ids.keys()
    assert len(ids) == PRODUCERS * EVENTS_EACH
    return found


async def test_no_202_leaves_before_the_fdatasync_that_covers_it_has_returned(trace: Trace) -> None:
    assert [marker for marker, at in trace.answered.items() if not trace.is_covered(marker, at)] == []


async def test_no_request_leaves_before_the_event_it_carries_is_on_disk(trace: Trace) -> None:
    assert [marker for marker, at in trace.sent.items() if not trace.is_covered(marker, at)] == []
