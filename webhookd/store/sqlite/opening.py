"""Opening the store: directory, lock, checks, migrations and a first checkpoint, in that order, or not at all."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from webhookd.core.ports import Clock
from webhookd.core.settings import Storage
from webhookd.store.sqlite import schema
from webhookd.store.sqlite.backup import Backups
from webhookd.store.sqlite.directory import DirectoryLock, filesystem_type, prepare_directory, unusable
from webhookd.store.sqlite.failures import translate
from webhookd.store.sqlite.lives import Lives
from webhookd.store.sqlite.presence import Presence
from webhookd.store.sqlite.room import Room, free_bytes_of
from webhookd.store.sqlite.session import ReaderPool, open_reader, open_writer
from webhookd.store.sqlite.store import SqliteStore
from webhookd.store.sqlite.transaction import Transactions
from webhookd.store.sqlite.writer import Writer

_HISTORY_READERS = 2
_BACKSTOP = 1.25


async def open_store(
    storage: Storage,
    *,
    idempotency_window_seconds: float,
    clock: Clock,
    mint: Callable[[], int],
    on_commit: Callable[[float, int], object] | None = None,
    free_bytes: Callable[[Path], int] = free_bytes_of,
    filesystem: Callable[[Path], str] = filesystem_type,
) -> SqliteStore:
    """Open or create the database of `storage`, ready for use.

    `mint` gives ids for deliveries that a resend adds; it is called on the loop. `on_commit` is told of each commit:
    its duration in seconds and the rows that were handed in. Raises StateDirectoryError, AlreadyRunningError,
    SchemaVersionError, StoreCorruptError, StoreIOError or StoreFullError; the file is changed only after it passed its
    checks.
    """
    async with AsyncExitStack() as undo:
        path = storage.path.absolute()
        warnings = prepare_directory(path.parent, filesystem=filesystem)
        lock = DirectoryLock(path.parent)
        undo.callback(lock.release)
        await asyncio.to_thread(_prepare_file, path)
        session = await open_writer(path)
        undo.push_async_callback(session.close)
        await session.run(lambda db: _prepare_connection(db, storage))
        readers = []
        for _ in range(1 + _HISTORY_READERS):
            readers.append(await open_reader(path))
            undo.push_async_callback(readers[-1].close)
        room = Room(path, storage, monotonic=clock.monotonic, free_bytes=free_bytes)
        presence = await asyncio.to_thread(Presence, path)
        transactions = Transactions(room, presence, idempotency_window_ms=round(idempotency_window_seconds * 1000))
        writer = Writer(session, transactions, room, on_commit=on_commit)
        lives = Lives(path.parent)
        store = SqliteStore(
            storage,
            lock,
            lives,
            writer,
            outbox=ReaderPool(readers[:1], on_damage=writer.condemn),
            history=ReaderPool(readers[1:], on_damage=writer.condemn),
            room=room,
            backups=Backups(path, room, free_bytes=free_bytes),
            mint=mint,
            warnings=warnings,
        )
        store.crashed_lately = await asyncio.to_thread(lives.begin, clock.now_ms())
        undo.pop_all()
        return store


def _prepare_file(path: Path) -> None:
    try:
        if path.is_symlink() or path.exists():
            for file in (path, path.with_name(f"{path.name}-wal")):
                # SQLite opens a file that it may not write to all the same, to read it, and fails at the first event.
                if file.exists() and not os.access(file, os.R_OK | os.W_OK):
                    raise unusable(file, "not readable and writable")
            schema.inspect(path)
        else:
            schema.create(path)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error


def _prepare_connection(db: sqlite3.Connection, storage: Storage) -> None:
    schema.migrate(db, schema.migrations())
    # What is in the log from before a crash must be readable and the file writable before anything is promised.
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    # Intake is refused by pages in use; this only stops what that check cannot see, such as growth by attempts.
    db.execute(f"PRAGMA max_page_count = {int(storage.max_size_bytes * _BACKSTOP) // page_size}").fetchall()
