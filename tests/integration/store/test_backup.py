"""What `Upkeep.backup` promises: a whole copy under its name, or none, and producers that do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.store.conftest import Opener
from tests.kit.builders import delivered, event, record, submission
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from webhookd.core.ids import EndpointId
from webhookd.core.settings import MIB, Storage
from webhookd.errors import BackupFailedError, ConflictError, InvalidRequestError, StoreUnavailableError
from webhookd.store.sqlite import SqliteStore, backup

ROOT = Path(__file__).parents[3]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "copy.db"


async def fill(store: SqliteStore, count: int = 10) -> None:
    await store.put_endpoints([record("a", secret="s")])
    await accepted(store, [submission(event(payload=b"%d" % number), to=("a",)) for number in range(count)])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_copy_opens_as_a_store_with_all_that_was_there(
    store: SqliteStore, opener: Opener, target: Path
) -> None:
    await fill(store)
    (work, *_) = (
        await store.due(EndpointId("a"), now_ms=START_MS, limit=1, max_bytes=1, ordered=False, exclude=())
    ).work
    await store.settle([delivered(work)], {})
    report = await store.backup(target, overwrite=False)
    assert (report.events, report.deliveries, report.size_bytes) == (10, 10, target.stat().st_size)
    copy = await opener(Storage(path=target, min_free_bytes=0))
    assert await copy.counts() == await store.counts()
    assert await copy.endpoints() == await store.endpoints()
    assert await copy.attempts(work.id) == await store.attempts(work.id)


async def test_only_its_owner_may_read_a_copy(store: SqliteStore, target: Path) -> None:
    """Payloads and secrets are in it."""
    before = os.umask(0)
    try:
        await store.backup(target, overwrite=False)
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o600


async def test_a_copy_is_of_one_moment_while_events_come_in(store: SqliteStore, target: Path) -> None:
    """Every event goes in with one delivery; a copy in which they do not agree is of two moments."""
    await fill(store, 3000)
    stopped = False

    async def producer() -> int:
        count = 0
        while not stopped:
            await accepted(store, [submission(event(payload=b"x" * 1000), to=("a",)) for _ in range(20)])
            count += 20
        return count

    producing = asyncio.ensure_future(producer())
    reports = [await store.backup(target, overwrite=True) for _ in range(3)]
    stopped = True
    assert await producing > 0
    for report in reports:
        assert report.events == report.deliveries >= 3000
    with closing(sqlite3.connect(target)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (orphans,) = db.execute(
            "SELECT count(*) FROM deliveries WHERE event_id NOT IN (SELECT id FROM events)"
        ).fetchone()
        assert orphans == 0


async def test_an_existing_file_is_only_replaced_when_told_to(store: SqliteStore, target: Path) -> None:
    target.write_bytes(b"precious")
    with pytest.raises(ConflictError) as caught:
        await store.backup(target, overwrite=False)
    assert caught.value.slug == "backup_exists"
    assert target.read_bytes() == b"precious"
    await store.backup(target, overwrite=True)
    assert target.read_bytes().startswith(b"SQLite format 3")
    assert names(target.parent) == ["copy.db"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("relative.db", "absolute"),
        ("/", "absolute"),
        ("{dir}/no/such/copy.db", "cannot be used"),
        ("{dir}/state/webhookd.db", "the database itself"),
        ("{dir}/state/webhookd.db-wal", "the database itself"),
        ("{dir}/link/webhookd.db", "the database itself"),
        ("{dir}/backups/a\0b", "absolute"),
        ("{dir}/backups/folder", "not an ordinary file"),
        ("{dir}/backups/pointing", "not an ordinary file"),
        ("{dir}/file/copy.db", "is not a directory"),
    ],
)
async def test_a_place_that_cannot_be_used(
    store: SqliteStore, tmp_path: Path, target: Path, path: str, said: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    (target.parent / "folder").mkdir()
    (target.parent / "pointing").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidRequestError, match=said) as caught:
        await store.backup(Path(path.format(dir=tmp_path)), overwrite=True)
    assert (caught.value.slug, caught.value.faults[0].pointer) == ("backup_refused", "/path")
    await fill(store)


async def test_a_directory_the_daemon_may_not_write_to(
    store: SqliteStore, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so the refusal of the system is played."""

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(backup.os, "open", denied)
    with pytest.raises(InvalidRequestError, match=rf"uid {os.getuid()}\) cannot write to .*Permission denied"):
        await store.backup(target, overwrite=False)


async def test_too_little_room_is_told_before_anything_is_filled(
    opener: Opener, storage: Storage, target: Path
) -> None:
    store = await opener(replace(storage, min_free_bytes=MIB), free_bytes=lambda _: MIB + 4096)
    await fill(store)
    with pytest.raises(BackupFailedError, match="not enough room"):
        await store.backup(target, overwrite=False)
    assert names(target.parent) == []


async def test_a_copy_that_fails_its_check_does_not_get_its_name(
    store: SqliteStore, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, 200)
    connect = backup.connect

    def damaging(address: str, pragmas: str) -> sqlite3.Connection:
        for passing in target.parent.iterdir():
            if passing.stat().st_size:
                with closing(sqlite3.connect(passing, isolation_level=None)) as db:
                    db.execute("PRAGMA ignore_check_constraints = ON")
                    db.execute("UPDATE deliveries SET attempt_count = -1")
        return connect(address, pragmas)

    monkeypatch.setattr(backup, "connect", damaging)
    with pytest.raises(BackupFailedError, match="does not pass its check"):
        await store.backup(target, overwrite=False)
    assert names(target.parent) == []


async def test_what_is_written_is_on_disk_before_it_gets_its_name(
    store: SqliteStore, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is synced, then named, then the directory is synced."""
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(self: Path, name: Path) -> Path:
        steps.append("renamed")
        return rename(self, name)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    await store.backup(target, overwrite=False)
    assert steps[0].startswith(".webhookd-backup-")
    assert steps[1:] == ["renamed", "backups"]


async def test_one_at_a_time(store: SqliteStore, target: Path) -> None:
    first = asyncio.ensure_future(store.backup(target, overwrite=False))
    await asyncio.sleep(0)
    with pytest.raises(ConflictError) as caught:
        await store.backup(target.with_name("other.db"), overwrite=False)
    assert caught.value.slug == "backup_running"
    await first
    await store.backup(target.with_name("other.db"), overwrite=False)


async def test_closing_gives_up_a_copy_that_is_being_made(
    store: SqliteStore, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its connection is busy with at that moment, here something without an end."""
    await fill(store)
    begun = threading.Event()

    def endless(db: sqlite3.Connection) -> int:
        begun.set()
        db.execute("WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c").fetchone()
        return 0

    monkeypatch.setattr(backup, "used_bytes", endless)
    making = asyncio.ensure_future(store.backup(target, overwrite=False))
    assert await asyncio.to_thread(begun.wait, 5)
    async with asyncio.timeout(5):
        await store.close()
    with pytest.raises(StoreUnavailableError, match="the daemon is stopping"):
        await making
    assert names(target.parent) == []
    with pytest.raises(StoreUnavailableError):
        await store.backup(target, overwrite=False)


async def test_closing_stops_a_copy_between_its_steps(opener: Opener, storage: Storage, target: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waiting(directory: Path) -> int:
        if directory == target.parent:
            begun.set()
            assert go_on.wait(5)
        return 1 << 40

    store = await opener(storage, free_bytes=waiting)
    await fill(store)
    making = asyncio.ensure_future(store.backup(target, overwrite=False))
    assert await asyncio.to_thread(begun.wait, 5)
    ending = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(StoreUnavailableError):
        await making
    await ending
    assert names(target.parent) == []


def unfinished_bytes(directory: Path) -> int:
    """Return the size of a copy that has not got its name yet, 0 where there is none."""
    for path in directory.glob(".webhookd-backup-*"):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
    return 0


_CHILD = """
import asyncio, sys
from pathlib import Path
from tests.kit.builders import event, submission
from tests.kit.clock import VirtualClock
from tests.kit.intake import accepted
from webhookd.core.settings import Storage
from webhookd.store.sqlite import open_store

async def main(path, target):
    store = await open_store(
        Storage(path=path, min_free_bytes=0), idempotency_window_seconds=1, clock=VirtualClock(), mint=lambda: 1
    )
    for _ in range(20):
        await accepted(store, [submission(event(payload=b"x" * 200_000)) for _ in range(10)])
    print("filled", flush=True)
    while True:
        target.unlink(missing_ok=True)
        await store.backup(target, overwrite=False)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


async def test_a_crash_in_the_middle_leaves_nothing_under_the_name(
    opener: Opener, storage: Storage, target: Path
) -> None:
    """And the next backup clears away what is left of the one that was interrupted."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(storage.path), str(target)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"filled\n"
        while True:
            # Stopped first, so that what is looked at is what the kill leaves.
            while unfinished_bytes(target.parent) < 1_000_000:
                assert child.poll() is None
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            if unfinished_bytes(target.parent):
                break
            child.send_signal(signal.SIGCONT)
    finally:
        child.kill()
        child.communicate()
    assert not target.exists()
    (left,) = {name.removesuffix("-journal") for name in names(target.parent)}
    assert left.startswith(".webhookd-backup-")
    store = await opener()
    report = await store.backup(target, overwrite=False)
    assert report.events == 200
    assert names(target.parent) == ["copy.db"]
