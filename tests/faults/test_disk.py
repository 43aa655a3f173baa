"""A disk that fails under the daemon: it stops at once, says so, and the next start finds out what is there."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import running_daemon
from tests.kit.fiu import Faults, needs_fiu
from tests.kit.producers import Producers, require_nothing_lost
from tests.kit.receiver import Receiver, Reply
from tests.kit.tracing import needs_strace, tracing

FDATASYNC = "posix/io/sync/fdatasync"
PWRITE = "posix/io/rw/pwrite"
PRODUCERS = 32
CONCURRENCY = 4


def to(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    """Configure one endpoint; it takes what is owed to it more slowly than events come in, so there is always more."""
    rules = {"signatures": [], "jitter": 0, "retry": ["1s"] * 20, "concurrency": CONCURRENCY, **keys}
    return {"store": {"min_free": "0B"}, "endpoints": {"orders": {"url": f"{receiver.url}/hook", **rules}}}


@needs_fiu
@pytest.mark.parametrize(
    ("point", "once", "named"),
    [
        (FDATASYNC, True, "SQLITE_IOERR_FSYNC"),
        pytest.param(FDATASYNC, False, "SQLITE_IOERR_FSYNC", marks=pytest.mark.long),
        pytest.param(PWRITE, False, "SQLITE_IOERR_WRITE", marks=pytest.mark.long),
    ],
)
async def test_an_io_error_stops_all_and_the_next_start_has_what_was_acknowledged(
    tmp_path: Path, short_path: Path, point: str, once: bool, named: str
) -> None:
    """`once`: the disk says yes again when asked again, which is what it must never be asked."""
    faults = Faults(short_path)
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver), command=faults.command) as daemon:
        receiver.script(Reply(delay_seconds=0.02))
        producers, stubborn = Producers(daemon), Producers(daemon, first=1_000_000)
        at_work = [asyncio.create_task(producers.work(stubborn=False)) for _ in range(PRODUCERS)]
        await receiver.wait_for(50)
        await faults.enable(daemon.pid, point, errno.EIO, once=once)
        await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
        refused_at = producers.answered(503)[0].ended
        async with asyncio.timeout(30):
            await stubborn.work()
            await asyncio.gather(*at_work)
        assert await daemon.wait() == 74

        # Whoever was waiting for an answer got one, and it is the one that says to ask again.
        assert producers.statuses()[503] == PRODUCERS
        assert not producers.answered(0)
        for one in producers.answered(503):
            assert one.response is not None
            assert int(one.response.headers["retry-after"]) >= 1
            assert "unknown" in one.response.json()["detail"]
            assert "same idempotency key" in one.response.json()["detail"]
        assert not stubborn.answered(202)
        # Hundreds are buffered, and nothing is sent any more.
        assert sum(1 for request in receiver.requests if request.at > refused_at) <= 2 * CONCURRENCY
        grave = [entry for entry in daemon.log_entries() if entry["level"] in {"warning", "error", "critical"}]
        assert [(entry["message"], entry["exit_code"]) for entry in grave] == [("daemon.failed", 74)]
        assert named in grave[0]["reason"]

        receiver.script(200)
        await daemon.start()
        await require_nothing_lost(producers, receiver)


@needs_strace
async def test_a_failed_fdatasync_is_never_repeated(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon)
        await producers.hand_in()
        await receiver.wait_for(1)
        async with tracing(
            daemon, trace, "-e", "trace=fdatasync,fsync,sync_file_range", "-e", "inject=fdatasync:error=EIO"
        ):
            at_work = [asyncio.create_task(producers.work()) for _ in range(8)]
            assert await daemon.wait() == 74
            await asyncio.gather(*at_work)
    calls = [line for line in trace.read_text().splitlines() if "sync" in line]
    assert len(calls) == 1, calls
    assert "INJECTED" in calls[0]


@needs_strace
@pytest.mark.long
async def test_a_checkpoint_that_cannot_be_synced_ends_the_daemon(tmp_path: Path) -> None:
    """Only the file fails here and not its log, to which all commits go."""
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, concurrency=32)) as daemon:
        producers = Producers(daemon, padding="x" * 100_000)
        await producers.hand_in()
        await receiver.wait_for(1)
        async with tracing(
            daemon,
            tmp_path / "trace",
            *("-P", str(daemon.database), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"),
        ):
            at_work = [asyncio.create_task(producers.work()) for _ in range(4)]
            assert await daemon.wait() == 74
            await asyncio.gather(*at_work)
        assert len(producers.answered(202)) > 20
        assert "IOERR_FSYNC" in daemon.log_entries("daemon.failed")[0]["reason"]
        await daemon.start()
        await require_nothing_lost(producers, receiver)


@needs_fiu
@pytest.mark.long
async def test_nothing_is_promised_before_a_checkpoint_has_succeeded(tmp_path: Path, short_path: Path) -> None:
    faults = Faults(short_path)
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver), command=faults.command) as daemon:
        producers = Producers(daemon)
        await producers.hand_in()
        await daemon.kill9()
        assert daemon.database.with_name("webhookd.db-wal").stat().st_size > 0
        faults.at_start = [f"enable name={FDATASYNC},failinfo={errno.EIO}"]
        daemon.command = faults.command
        before = len(daemon.log_entries("daemon.started"))
        await daemon.start(ready=False)
        assert await daemon.wait() == 74
        assert len(daemon.log_entries("daemon.started")) == before
        assert not daemon.log_entries("listener.opened")[2:]
        faults.at_start = []
        daemon.command = faults.command
        await daemon.start()
        await require_nothing_lost(producers, receiver)
