"""Copies the live database into a file of its own: consistent, verified, and under its name only once it is both."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from webhookd.core.ports import BackupReport
from webhookd.errors import BackupFailedError, ConflictError, Fault, InvalidRequestError, StoreUnavailableError
from webhookd.store.sqlite.failures import translate
from webhookd.store.sqlite.room import Room, used_bytes
from webhookd.store.sqlite.session import connect, uri

_READER = "PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192"
_STOP_EVERY_SECONDS = 0.05
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


class Backups:
    """Makes one copy at a time, in a thread of its own, on a connection that only reads.

    The copy is as the database was when it began. Writers are not held up, but the write-ahead log cannot be cut until
    the copying ends.
    """

    def __init__(self, database: Path, room: Room, *, free_bytes: Callable[[Path], int]) -> None:
        self._database = database
        self._room = room
        self._free_bytes = free_bytes
        self._running: _Copying | None = None
        self._task: asyncio.Task[BackupReport] | None = None
        self._is_closed = False

    async def make(self, target: Path, *, overwrite: bool) -> BackupReport:
        """See `Upkeep.backup`; goes on to its end even if nobody waits for it any more."""
        if self._is_closed:
            raise StoreUnavailableError("the store is closing")
        if self._task is not None:
            raise ConflictError("backup_running", "a backup is being made already; there is one at a time")
        self._running = _Copying(
            self._database,
            target,
            overwrite=overwrite,
            min_free_bytes=self._room.storage.min_free_bytes,
            free_bytes=self._free_bytes,
        )
        self._task = asyncio.ensure_future(self._run(self._running))
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Give up a copy that is being made, leaving nothing of it; returns once that is so."""
        self._is_closed = True
        while self._running is not None and self._task is not None:
            # Again and again: SQLite forgets an interruption that comes between two statements.
            self._running.stop()
            await asyncio.wait([self._task], timeout=_STOP_EVERY_SECONDS)

    async def _run(self, copying: _Copying) -> BackupReport:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[BackupReport] = loop.create_future()

        def work() -> None:
            try:
                report = copying.run()
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                loop.call_soon_threadsafe(done.set_exception, error)
            else:
                loop.call_soon_threadsafe(done.set_result, report)

        try:
            # A daemon thread: a process that has to end now must not wait for gigabytes to be copied.
            threading.Thread(target=work, name="backup", daemon=True).start()
            return await done
        finally:
            self._running = self._task = None


class _Copying:
    """One copy; `run` is called in its thread, `stop` from any."""

    def __init__(
        self,
        database: Path,
        target: Path,
        *,
        overwrite: bool,
        min_free_bytes: int,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._database = database
        self._target = target
        self._overwrite = overwrite
        self._min_free_bytes = min_free_bytes
        self._free_bytes = free_bytes
        self._lock = threading.Lock()
        self._busy: sqlite3.Connection | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Have `run` end with an error soon."""
        with self._lock:
            self._is_stopped = True
            if self._busy is not None:
                self._busy.interrupt()

    def run(self) -> BackupReport:
        """Copy, verify, and give the copy its name."""
        started = perf_counter()
        directory = self._checked_directory()
        passing = directory / _passing_name(self._database)
        try:
            _remove(passing)
            # Made by us, so that nobody else may ever read it: it holds payloads and secrets.
            descriptor = os.open(passing, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refused(f"the daemon (uid {os.getuid()}) cannot write to {directory}: {_words(error)}") from error
        try:
            try:
                self._copy(passing)
                events, deliveries = self._verify(passing)
                os.fsync(descriptor)
                size_bytes = os.fstat(descriptor).st_size
                self._refuse_existing()
                passing.rename(directory / self._target.name)
                _sync_directory(directory)
            finally:
                os.close(descriptor)
        except sqlite3.Error as error:
            _remove_quietly(passing)
            if self._is_stopped:
                raise StoreUnavailableError("the daemon is stopping; nothing was left of the backup") from error
            raise BackupFailedError(f"the copy could not be written: {translate(error)}") from error
        except OSError as error:
            _remove_quietly(passing)
            raise BackupFailedError(f"the copy could not be finished: {_words(error)}") from error
        except BaseException:
            _remove_quietly(passing)
            raise
        return BackupReport(
            size_bytes=size_bytes,
            duration_ms=1000 * (perf_counter() - started),
            events=events,
            deliveries=deliveries,
        )

    def _checked_directory(self) -> Path:
        target = self._target
        if not target.is_absolute() or target.name in ("", "..") or "\0" in str(target):
            raise _refused("must be an absolute path, of a file")
        try:
            directory = target.parent.resolve(strict=True)
            if not directory.is_dir():
                raise _refused(f"{target.parent} is not a directory")
        except (OSError, RuntimeError) as error:
            raise _refused(f"the directory {target.parent} cannot be used: {_words(error)}") from error
        live = self._database.resolve()
        if directory == live.parent and target.name in {f"{live.name}{suffix}" for suffix in _SIDE_FILES}:
            raise _refused("that is the database itself")
        self._refuse_existing()
        return directory

    def _refuse_existing(self) -> None:
        try:
            mode = self._target.lstat().st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused(f"{self._target} cannot be looked at: {_words(error)}") from error
        if not self._overwrite:
            raise ConflictError("backup_exists", f"there is a file {self._target} already")
        if not stat.S_ISREG(mode):
            raise _refused(f"{self._target} is not an ordinary file, and is not replaced")

    def _copy(self, passing: Path) -> None:
        # Its own connection, since the readers' five seconds are not enough for it; it cannot write to the database.
        with self._connected(uri(self._database, mode="ro"), _READER) as db:
            self._require_room(db, passing.parent)
            db.execute("VACUUM INTO ?", (str(passing),))

    def _require_room(self, db: sqlite3.Connection, directory: Path) -> None:
        """Refuse beforehand what would fill the disk, and on the database's own have producers turned away."""
        needed, free = used_bytes(db), self._free_bytes(directory)
        if directory.stat().st_dev == self._database.stat().st_dev:
            needed += self._min_free_bytes
        if free < needed:
            raise BackupFailedError(f"there is not enough room: {directory} has {free} bytes free of {needed} needed")

    def _verify(self, passing: Path) -> tuple[int, int]:
        # Opened for writing, since SQLite knows of no CHECK constraints in a file that it may only read.
        with self._connected(uri(passing, mode="rw"), "PRAGMA temp_store = MEMORY; PRAGMA query_only = ON") as db:
            found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(3)").fetchall()]
            if found != ["ok"]:
                raise BackupFailedError(f"the copy does not pass its check: {'; '.join(found)}")
            (events,) = db.execute("SELECT value FROM figures WHERE name = 'events'").fetchone()
            (deliveries,) = db.execute("SELECT count(*) FROM deliveries").fetchone()
            return int(events), int(deliveries)

    @contextlib.contextmanager
    def _connected(self, address: str, pragmas: str) -> Iterator[sqlite3.Connection]:
        db = connect(address, pragmas)
        try:
            with self._lock:
                if self._is_stopped:
                    raise sqlite3.OperationalError("interrupted")
                self._busy = db
            yield db
        finally:
            with self._lock:
                self._busy = None
            db.close()


def _passing_name(database: Path) -> str:
    """Return the name of an unfinished copy: always the same for one database, so that a stale one is found again."""
    whose = f"{socket.gethostname()}:{database.resolve()}"
    return f".webhookd-backup-{hashlib.blake2b(whose.encode(), digest_size=6).hexdigest()}"


def _remove(passing: Path) -> None:
    for suffix in _SIDE_FILES:
        passing.with_name(passing.name + suffix).unlink(missing_ok=True)


def _remove_quietly(passing: Path) -> None:
    # What cannot be removed now is removed by the next backup; the error that led here matters more.
    with contextlib.suppress(OSError):
        _remove(passing)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(detail: str) -> InvalidRequestError:
    return InvalidRequestError("backup_refused", detail, faults=(Fault("/path", detail),))


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
