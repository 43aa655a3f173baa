"""Opening the file: made if missing, left alone byte for byte if it cannot be trusted."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.store.conftest import Opener
from tests.kit.builders import event, submission
from tests.kit.clock import VirtualClock
from tests.kit.intake import accepted
from webhookd.core.settings import Storage
from webhookd.errors import (
    AlreadyRunningError,
    SchemaVersionError,
    StateDirectoryError,
    StoreCorruptError,
    StoreUnavailableError,
)
from webhookd.store.sqlite import open_store, schema

SMALL = b"small"


@pytest.fixture
async def path(opener: Opener, storage: Storage) -> Path:
    """Leave a database with something in it."""
    store = await opener()
    await accepted(store, [submission(event(payload=b"x" * 1000)) for _ in range(200)])
    await store.close()
    return storage.path


def edit(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(sql)


def state_of(path: Path) -> dict[str, bytes]:
    return {name.name: name.read_bytes() for name in path.parent.iterdir() if name.name.endswith((".db", "-wal"))}


async def test_a_new_directory_and_file_belong_to_us_alone(opener: Opener, storage: Storage) -> None:
    await opener()
    assert stat.S_IMODE(storage.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(storage.path.stat().st_mode) == 0o600
    assert not storage.path.with_name("webhookd.db.new").exists()


async def test_the_file_is_durable_and_marked_as_ours(opener: Opener, storage: Storage) -> None:
    store = await opener()
    with closing(sqlite3.connect(f"file:{storage.path}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert db.execute("PRAGMA user_version").fetchone() == (schema.migrations()[-1].number,)
    settings = {}
    for name in ("synchronous", "wal_autocheckpoint", "busy_timeout"):
        settings[name] = await store._writer._session.run(  # noqa: SLF001 -- durability is set on this very connection
            lambda db, name=name: db.execute(f"PRAGMA {name}").fetchone()[0]
        )
    assert settings == {"synchronous": 2, "wal_autocheckpoint": 0, "busy_timeout": 5000}


async def test_what_was_kept_is_there_after_opening_again(opener: Opener, path: Path) -> None:
    store = await opener()
    counts = await store.counts()
    assert (counts.pending, counts.events) == (200, 200)


async def test_a_start_that_was_cut_short_is_done_again(opener: Opener, storage: Storage) -> None:
    storage.path.parent.mkdir()
    storage.path.with_name("webhookd.db.new").write_bytes(b"half a database")
    assert (await (await opener()).counts()).events == 0


def newer(path: Path) -> None:
    edit(path, "PRAGMA user_version = 999")


def foreign(path: Path) -> None:
    path.unlink()
    edit(path, "CREATE TABLE bookmarks (id INTEGER); PRAGMA journal_mode = DELETE")


def foreign_table(path: Path) -> None:
    edit(path, "CREATE TABLE bookmarks (id INTEGER)")


def changed_table(path: Path) -> None:
    edit(path, "ALTER TABLE events ADD COLUMN colour TEXT")


def missing_index(path: Path) -> None:
    edit(path, "DROP INDEX deliveries_due")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_in_a_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def zeroed_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def not_a_database(path: Path) -> None:
    path.write_text("dear diary\n" * 1000)


def broken_pages(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 200)


def broken_root(path: Path) -> None:
    """Break a page that no look at the schema comes across."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'attempts'").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 200)


def log_of_another(path: Path) -> None:
    """Put the log of another database beside it, as a careless restore does."""
    other = path.parent / "other"
    with closing(sqlite3.connect(other, isolation_level=None)) as db:
        db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000));")
        shutil.copy(f"{other}-wal", f"{path}-wal")
    other.unlink()


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (newer, SchemaVersionError),
        (foreign, SchemaVersionError),
        (foreign_table, SchemaVersionError),
        (changed_table, SchemaVersionError),
        (missing_index, StoreCorruptError),
        (truncated, StoreCorruptError),
        (cut_in_a_page, StoreCorruptError),
        (emptied, StoreCorruptError),
        (zeroed_header, StoreCorruptError),
        (not_a_database, StoreCorruptError),
        (broken_pages, StoreCorruptError),
        (broken_root, StoreCorruptError),
        (log_of_another, (StoreCorruptError, SchemaVersionError)),
    ],
)
async def test_a_file_that_cannot_be_trusted_is_refused_and_left_alone(
    opener: Opener, path: Path, damage: Callable[[Path], None], error: type[Exception]
) -> None:
    damage(path)
    before = state_of(path)
    with pytest.raises(error) as caught:
        await opener()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert state_of(path) == before
    # Nor does a refusal keep the next one out.
    with pytest.raises(error):
        await opener()


async def test_a_large_file_is_checked_at_its_roots(
    opener: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_FULL_CHECK_BYTES", 0)
    store = await opener()
    await store.close()
    broken_root(path)
    before = state_of(path)
    with pytest.raises(StoreCorruptError, match="damaged"):
        await opener()
    assert state_of(path) == before


async def test_tables_of_a_replicator_are_tolerated(opener: Opener, path: Path) -> None:
    edit(path, "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); CREATE TABLE _litestream_lock (id)")
    assert (await (await opener()).counts()).events == 200


async def test_a_second_daemon_is_kept_out(opener: Opener, storage: Storage) -> None:
    await opener()
    with pytest.raises(AlreadyRunningError) as caught:
        await opener()
    assert caught.value.pid == os.getpid()


async def test_the_lock_goes_with_the_process_that_held_it(opener: Opener, storage: Storage) -> None:
    storage.path.parent.mkdir()
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys\nfrom pathlib import Path\nfrom webhookd.store.sqlite.directory import DirectoryLock\n"
        f"lock = DirectoryLock(Path({str(storage.path.parent)!r}))\nprint('held', flush=True)\nsys.stdin.read()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(AlreadyRunningError) as caught:
        await opener()
    assert caught.value.pid == holder.pid
    holder.kill()
    await holder.wait()
    holder._transport.close()  # noqa: SLF001 -- asyncio leaves the pipe of a killed child to the collector
    await opener()


async def test_closing_lets_the_next_one_in(opener: Opener) -> None:
    store = await opener()
    await store.close()
    await store.close()
    await opener()


@pytest.mark.parametrize("kind", ["nfs", "nfs4"])
async def test_a_network_file_system_is_refused(opener: Opener, storage: Storage, kind: str) -> None:
    with pytest.raises(StateDirectoryError, match=kind) as caught:
        await opener(filesystem=lambda _: kind)
    assert str(storage.path.parent) in str(caught.value)
    assert f"user id {os.geteuid()}" in str(caught.value)
    assert not storage.path.exists()


async def test_an_overlay_is_only_warned_about(opener: Opener) -> None:
    store = await opener(filesystem=lambda _: "overlay")
    assert len(store.warnings) == 1


async def test_a_file_in_place_of_the_directory_is_refused(opener: Opener, storage: Storage) -> None:
    storage.path.parent.write_text("")
    with pytest.raises(StateDirectoryError, match=f"user id {os.geteuid()}"):
        await opener()


async def test_a_directory_in_place_of_the_file_is_refused(opener: Opener, storage: Storage) -> None:
    storage.path.mkdir(parents=True)
    with pytest.raises(StateDirectoryError):
        await opener()


async def test_a_writer_lock_held_elsewhere_ends_in_unavailable(
    storage: Storage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhookd.store.sqlite.session.BUSY_TIMEOUT_SECONDS", 0.02)
    store = await open_store(
        storage,
        idempotency_window_seconds=60,
        clock=VirtualClock(),
        mint=lambda: 0,
        filesystem=lambda _: "ext4",
    )
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError):
                await accepted(store, [submission()])
            # Whoever asks whether the writer lives is not to be told that it is dead.
            await store.ping()
            other.execute("ROLLBACK")
        assert len(await accepted(store, [submission()])) == 1
    finally:
        await store.close()
