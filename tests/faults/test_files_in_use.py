"""Files damaged, moved or deleted under the running daemon: it ends at once, says so, and overwrites nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import Daemon, running_daemon
from tests.kit.database_files import PAGE_BYTES, Samples, make_samples, overwrite, put, root_page, snapshot
from tests.kit.receiver import Receiver, Reply
from webhookd.errors import StoreIOError, StoreMovedError
from webhookd.store.sqlite.presence import Presence


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return make_samples(tmp_path_factory.mktemp("samples"))


def to(receiver: Receiver) -> dict[str, Any]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "signatures": [], "retry": ["1h"]}}}


async def handed_in(daemon: Daemon) -> int:
    """Hand in one event and return the status of the answer."""
    answer = await daemon.post("/v1/events", {"type": "order.completed", "payload": 1})
    return answer.status


def said_last(daemon: Daemon) -> dict[str, Any]:
    """Return the one line in which the daemon says why it ended."""
    (said,) = [entry for entry in daemon.log_entries() if entry["level"] == "critical"]
    assert "\n" not in said["reason"]
    return said


async def test_damage_that_a_commit_comes_across_ends_the_daemon_for_good(tmp_path: Path, samples: Samples) -> None:
    async with running_daemon(tmp_path, {}, start=False) as daemon:
        put(samples.closed, daemon.database)
        await daemon.start()
        for page in range(1, daemon.database.stat().st_size // PAGE_BYTES):
            overwrite(daemon.database, page * PAGE_BYTES, b"\xff" * 200)
        before = daemon.database.read_bytes()
        assert await handed_in(daemon) == 503
        assert await daemon.wait() == 65
        assert "SQLITE_CORRUPT" in said_last(daemon)["reason"]
        assert said_last(daemon)["reason"].startswith(f"{daemon.database}: ")
        assert "restore a backup" in said_last(daemon)["reason"]
        # Neither that end nor the next start, which ends the same way, has written over anything.
        assert daemon.database.read_bytes() == before
        left = snapshot(daemon.database.parent)
        await daemon.start(ready=False)
        assert await daemon.wait() == 65
        assert snapshot(daemon.database.parent) == left


async def test_damage_that_only_a_reader_comes_across_ends_the_daemon_too(tmp_path: Path, samples: Samples) -> None:
    """What is written on into a damaged file may damage more of it."""
    async with running_daemon(tmp_path, {}, start=False) as daemon:
        put(samples.closed, daemon.database)
        await daemon.start()
        overwrite(
            daemon.database, (root_page(samples.closed / "webhookd.db", "attempts") - 1) * PAGE_BYTES, b"\xff" * 99
        )
        assert await handed_in(daemon) == 202
        (newest, *_) = await daemon.deliveries()
        assert (await daemon.get(f"/v1/deliveries/{newest['id']}")).status == 503
        assert await daemon.wait() == 65
        assert said_last(daemon)["reason"].startswith(f"{daemon.database}: ")


def moved_with_its_directory(database: Path) -> Callable[[], object]:
    away = database.parent.rename(database.parent.with_name("away"))
    return lambda: (shutil.rmtree(database.parent, ignore_errors=True), away.rename(database.parent))


def moved(database: Path) -> Callable[[], object]:
    away = database.rename(database.with_name("away.db"))
    return lambda: away.rename(database)


def replaced(database: Path) -> Callable[[], object]:
    """Put a copy in place, as an editor or a careless restore does."""
    original = database.with_name("original.db")
    original.hardlink_to(database)
    copy = Path(shutil.copy(database, database.with_name("copy.db")))
    copy.replace(database)
    return lambda: original.replace(database)


@pytest.mark.parametrize("kind", [moved_with_its_directory, moved, replaced])
async def test_a_file_that_is_gone_takes_nothing_more_and_has_all_when_it_is_back(
    tmp_path: Path, kind: Callable[[Path], Callable[[], object]]
) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(hang=True))
        accepted = {(await daemon.send("order.completed", {"number": number}))["id"] for number in range(20)}
        put_back = kind(daemon.database)
        assert await handed_in(daemon) == 503
        # No restart: that would begin with an empty database, and nobody would know.
        assert await daemon.wait() == 78
        assert said_last(daemon)["reason"].startswith(f"{daemon.database} was moved or deleted while in use")
        put_back()
        receiver.script(200)
        await daemon.start()
        await daemon.settled()
        assert set(receiver.by_event()) == accepted


async def test_a_log_that_was_deleted_is_brought_into_the_file(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(hang=True))
        accepted = {(await daemon.send("order.completed", {"number": number}))["id"] for number in range(20)}
        daemon.database.with_name("webhookd.db-wal").unlink()
        assert await handed_in(daemon) == 503
        assert await daemon.wait() == 74
        assert "webhookd.db-wal was moved or deleted while in use" in said_last(daemon)["reason"]
        receiver.script(200)
        await daemon.start()
        await daemon.settled()
        assert set(receiver.by_event()) == accepted


@pytest.mark.long
async def test_a_log_that_was_deleted_under_a_reader_can_be_had_from_that_reader(tmp_path: Path) -> None:
    """What only the log has is not said to be in the file, and no restart goes on without it."""
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(hang=True))
        accepted = {(await daemon.send("order.completed", 0))["id"]}
        log = daemon.database.with_name("webhookd.db-wal")
        inode = log.stat().st_ino
        reader = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True, isolation_level=None)
        try:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM events").fetchone() == (1,)
            accepted |= {(await daemon.send("order.completed", {"number": number}))["id"] for number in range(20)}
            log.unlink()
            assert await handed_in(daemon) == 503
            assert await daemon.wait() == 78
            reason = said_last(daemon)["reason"]
            assert reason.startswith(f"{log} was moved or deleted while in use, and a reader kept")
            # As the message says.
            (still_open,) = [fd for fd in Path("/proc/self/fd").iterdir() if is_file(fd, inode)]
            copy = Path(shutil.copy(still_open, tmp_path / "rescued"))
        finally:
            reader.close()
        copy.rename(log)
        receiver.script(200)
        await daemon.start()
        await daemon.settled()
        assert set(receiver.by_event()) == accepted


def is_file(descriptor: Path, inode: int) -> bool:
    try:
        return descriptor.stat().st_ino == inode
    except FileNotFoundError:
        return False


def test_a_disk_that_does_not_say_is_not_a_file_that_is_gone(tmp_path: Path, samples: Samples) -> None:
    """A restart may help against the one; it must not follow the other."""
    put(samples.closed, tmp_path / "webhookd.db")
    presence = Presence(tmp_path / "webhookd.db")
    db = sqlite3.connect(":memory:")
    try:
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        (tmp_path / "webhookd.db").unlink()
        with pytest.raises(StoreMovedError):
            presence.require(db)
        # ELOOP, as an example of any error but that nothing is there.
        (tmp_path / "webhookd.db").symlink_to(loop)
        with pytest.raises(StoreIOError, match="cannot look at") as raised:
            presence.require(db)
        assert raised.value.exit_code == os.EX_IOERR
    finally:
        db.close()
