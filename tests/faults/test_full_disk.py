"""A disk without room: events are refused before it is full, all waits once it is, and both end by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.fiu import Faults, needs_fiu
from tests.kit.producers import Producers, require_nothing_lost
from tests.kit.receiver import Receiver, Reply
from tests.kit.tracing import needs_strace, tracing

MIB = 1024 * 1024
PWRITE = "posix/io/rw/pwrite"
RESUMES_WITHIN_SECONDS = 10.0
CONCURRENCY = 4


def to(receiver: Receiver, *, store: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """Configure one endpoint; it takes what is owed to it more slowly than events come in, so there is always more."""
    rules = {"signatures": [], "jitter": 0, "retry": ["1s"] * 20, "concurrency": CONCURRENCY, **keys}
    return {"store": {"min_free": "0B", **(store or {})}, "endpoints": {"orders": {"url": receiver.url, **rules}}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 48 MiB where the daemon of this test keeps its database."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    mount = shutil.which("mount")
    options = "size=48m,mode=0700"
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", state], check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield state
    subprocess.run(["umount", "--lazy", state], check=True)


def fill(disk: Path, *, leave_bytes: int = 0) -> Path:
    """Write until no more is left, and return what takes up the room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while leave_bytes == 0 or shutil.disk_usage(disk).free > leave_bytes:
            file.write(bytes(4096))
    return filler


@contextlib.asynccontextmanager
async def full_file_system(daemon: Daemon, faults: Faults) -> AsyncIterator[None]:
    filler = fill(daemon.database.parent)
    yield
    filler.unlink()


@contextlib.asynccontextmanager
async def no_space(daemon: Daemon, faults: Faults) -> AsyncIterator[None]:
    await faults.enable(daemon.pid, PWRITE, errno.ENOSPC)
    yield
    await faults.disable(daemon.pid, PWRITE)


@contextlib.asynccontextmanager
async def quota_used_up(daemon: Daemon, faults: Faults) -> AsyncIterator[None]:
    await faults.enable(daemon.pid, PWRITE, errno.EDQUOT)
    yield
    await faults.disable(daemon.pid, PWRITE)


@contextlib.asynccontextmanager
async def files_too_large(daemon: Daemon, faults: Faults) -> AsyncIterator[None]:
    """Let no file grow past what the log has now; a signal comes with every write that would."""
    size_bytes = daemon.database.with_name("webhookd.db-wal").stat().st_size
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
    yield
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@needs_fiu
@pytest.mark.parametrize(
    "full",
    [
        full_file_system,
        *(pytest.param(one, marks=pytest.mark.long) for one in (no_space, quota_used_up, files_too_large)),
    ],
)
async def test_on_a_full_disk_nothing_is_taken_or_sent_until_there_is_space(
    tmp_path: Path, short_path: Path, disk: Path, full: Any
) -> None:
    faults = Faults(short_path)
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver), command=faults.command) as daemon:
        receiver.script(Reply(delay_seconds=0.05))
        producers, pid = Producers(daemon, padding="x" * 2000), daemon.pid

        async def has_a_backlog() -> bool:
            return receiver.count > 10 and len(producers.answered(202)) > receiver.count + 100

        async with producers.working(8, pause_seconds=0.01):
            await eventually(has_a_backlog, timeout_seconds=30)
            async with full(daemon, faults):

                async def is_full() -> bool:
                    return bool(producers.answered(507)) and bool(daemon.log_entries("recording.suspended"))

                await eventually(is_full, timeout_seconds=30)

                async def is_still() -> bool:
                    before = receiver.count
                    await asyncio.sleep(1.2)
                    return receiver.count == before

                # What was in flight comes to its end, and a last small outcome may still fit.
                await eventually(is_still, timeout_seconds=20)
                sent = receiver.count
                for path, answer in (("/healthz", 200), ("/readyz", 503), ("/v1/deliveries?limit=5", 200)):
                    began = time.monotonic()
                    assert (await daemon.get(path)).status == answer, path
                    assert time.monotonic() - began < 2
                status = (await daemon.get("/v1/status")).json()
                assert status["state"] == "refusing"
                # Dozens are due at an endpoint that answers, and no more are sent than were about to be.
                unrecorded = sent - status["deliveries"]["delivered"]
                assert unrecorded <= 4 * CONCURRENCY
                assert status["deliveries"]["pending"] > unrecorded + 30
                refused = producers.answered(507)[-1].response
                assert refused is not None
                assert int(refused.headers["retry-after"]) >= 1
            relieved = time.monotonic()

            async def goes_on() -> bool:
                taken = [one for one in producers.answered(202) if one.began > relieved]
                return bool(taken) and receiver.count > sent and (await daemon.get("/readyz")).status == 200

            await eventually(goes_on, timeout_seconds=RESUMES_WITHIN_SECONDS)
        assert daemon.pid == pid
        receiver.script(200)
        await require_nothing_lost(producers, receiver)
        for what in ("intake", "recording"):
            # What is small may still fit now and then; it must not make the log of a full disk a long one.
            assert 1 <= len(daemon.log_entries(f"{what}.suspended")) <= 10
            assert len(daemon.log_entries(f"{what}.suspended")) == len(daemon.log_entries(f"{what}.resumed"))
        assert set(receiver.by_event().values()) == {1}


async def test_before_the_disk_is_full_events_are_refused_and_deliveries_go_on(tmp_path: Path, disk: Path) -> None:
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, to(receiver, store={"min_free": "20MiB"})) as daemon,
    ):
        receiver.script(Reply(delay_seconds=0.02))
        producers = Producers(daemon)
        async with producers.working(4):
            await receiver.wait_for(20)
            filler = fill(disk, leave_bytes=16 * MIB)

            async def refuses() -> bool:
                return len(producers.answered(507)) > 20

            await eventually(refuses)
            assert (await daemon.get("/readyz")).status == 503
            # All that is owed is delivered while nothing new comes in.
            await daemon.settled(30)
            assert receiver.count == len(producers.answered(202))
            filler.unlink()
            relieved = time.monotonic()

            async def takes_again() -> bool:
                return any(one.began > relieved for one in producers.answered(202))

            await eventually(takes_again, timeout_seconds=RESUMES_WITHIN_SECONDS)
        assert not daemon.log_entries("recording.suspended")
        await require_nothing_lost(producers, receiver)


@needs_strace
@pytest.mark.long
@pytest.mark.parametrize("crash", [False, True])
async def test_a_commit_that_fails_once_it_is_on_disk_is_neither_kept_nor_denied(tmp_path: Path, crash: bool) -> None:
    """Where the index of the log cannot grow, SQLite says that a commit failed which a crash would bring to light.

    So nobody may be told that nothing was stored. Without a crash it is overwritten by the next, and outcomes that
    are handed in again do not meet themselves.
    """
    log, index = (tmp_path / "state" / f"webhookd.db-{name}" for name in ("wal", "shm"))
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, concurrency=32)) as daemon:
        producers = Producers(daemon, padding="x" * 20_000)
        # Without a reader the log would begin anew long before its 4,063rd page, for which the index must be enlarged.
        options = ("-P", str(index), "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC")
        async with reading(daemon.database), producers.working(4), tracing(daemon, tmp_path / "trace", *options):

            async def has_failed() -> bool:
                return sum(producers.statuses()[status] for status in (503, 507)) > 20

            await eventually(has_failed, timeout_seconds=60)
            assert "SHMSIZE" in daemon.log_entries("intake.suspended")[0]["reason"]
            assert log.stat().st_size > 16 * MIB
            if crash:
                await daemon.kill9()
        if crash:
            await daemon.start()
        await producers.hand_in()
        assert producers.answered(202)[-1].n == producers.handed[-1].n
        assert set(producers.statuses()) <= {202, 503, 0}
        await require_nothing_lost(producers, receiver)
        if not crash:
            assert set(receiver.by_event().values()) == {1}


@pytest.mark.long
async def test_a_database_at_its_largest_drains_and_takes_events_again_by_itself(tmp_path: Path) -> None:
    limits = {"max_size": "1MiB", "keep_delivered": "1s", "keep_dead": "1s"}
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, store=limits, concurrency=32)) as daemon:
        producers = Producers(daemon, padding="x" * 50_000)
        async with producers.working(2, pause_seconds=0.01):

            async def has_been_full_and_is_no_more() -> bool:
                refused = producers.answered(507)
                return bool(refused) and producers.handed[-1].status == 202 and len(receiver.requests) > 40

            await eventually(has_been_full_and_is_no_more, timeout_seconds=30)
        await eventually(lambda: arrived(producers, receiver))
        assert not daemon.log_entries("recording.suspended")
        assert await daemon.terminate() == 0
        # Refused at the door, and not by the backstop behind it that outcomes run into as well.
        assert "store.max_size" in daemon.log_entries("intake.suspended")[0]["reason"]
        assert daemon.database.stat().st_size < 1.5 * 1024 * 1024


@contextlib.asynccontextmanager
async def reading(database: Path) -> AsyncIterator[None]:
    """Keep a read transaction of another process open."""
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN'); "
        "db.execute('SELECT count(*) FROM events').fetchall(); print('begun', flush=True); sys.stdin.read()"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(database)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"begun\n"
        yield
    finally:
        process.kill()
        await process.communicate()


async def arrived(producers: Producers, receiver: Receiver) -> bool:
    return {one.event_id for one in producers.answered(202)} == set(receiver.by_event())


async def test_a_start_without_any_room_says_so_and_a_later_one_goes_on(tmp_path: Path, disk: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(500, 200)
        await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        assert await daemon.terminate() == 0
        filler = fill(disk)
        await daemon.start(ready=False)
        assert await daemon.wait() == 75
        (told,) = daemon.log_entries("daemon.failed")
        assert str(daemon.database) in told["reason"]
        assert "full" in told["reason"]
        filler.unlink()
        await daemon.start()
        assert [delivery["state"] for delivery in await daemon.settled()] == ["delivered"]
