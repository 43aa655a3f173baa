"""How much room there is: whether intake must be refused, and how far the write-ahead log has grown."""

from __future__ import annotations

import errno
import logging
import math
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from webhookd.core.ports import Space
from webhookd.core.settings import KIB, Storage
from webhookd.errors import StoreError, StoreFullError, StoreUnavailableError
from webhookd.store.sqlite.failures import ends_the_writer, failed_to_write, translate
from webhookd.store.sqlite.session import patience

log = logging.getLogger(__name__)

_FREE_EVERY_SECONDS = 0.25
_TELL_EVERY_SECONDS = 60.0
_TRIAL_BYTES = 64 * KIB

_MOST_PAGES_OF_ROW = 16
"""More than a row that was handed in can fill: in each tree it goes into at most one page, and what overflows that."""

_LARGEST_PAGE_BYTES = 64 * KIB
_OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def free_bytes_of(directory: Path) -> int:
    """Return what an ordinary user may still write to the file system of `directory`."""
    figures = os.statvfs(directory)
    return figures.f_bavail * figures.f_frsize


class Room:
    """Measures a database against its limits; used in the threads of connections only."""

    def __init__(
        self, path: Path, storage: Storage, *, monotonic: Callable[[], float], free_bytes: Callable[[Path], int]
    ) -> None:
        self._path = path
        self._directory = path.parent
        self._log = path.with_name(f"{path.name}-wal")
        self.storage = storage
        self.last_refusal: str | None = None
        """What the latest look at the room said; may be read from any thread."""
        self._monotonic = monotonic
        self._free_bytes = free_bytes
        self._used_at_most = math.inf
        self._page_bytes = _LARGEST_PAGE_BYTES
        self._free = 0
        self._free_at = float("-inf")
        self._failed_write: StoreError | None = None
        self._told_at = float("-inf")
        self._has_told = False

    def refusal(self, db: sqlite3.Connection) -> str | None:
        """Look whether there is room, and return why no event may come in, None when there is.

        Pages are counted as soon as what was written since the last count may have brought them to the limit; the file
        system is asked at most four times a second.
        """
        refusal = self._look(db)
        self._note(refusal or (str(self._failed_write) if self._failed_write else None))
        return refusal

    def inspect(self, db: sqlite3.Connection) -> None:
        """Look at the room when nothing is to be written; after a write that failed, by trying what it failed at."""
        if self._failed_write is not None and not self.lacks_space() and not is_locked(db):
            self._failed_write = None
        self.refusal(db)

    def explained(self, error: sqlite3.Error) -> StoreError:
        """Return our error for one of SQLite's, which calls a quota or a limit on the size of files an I/O error.

        Only a write may be found to have failed for want of space, and only if another one still does; any doubt
        leaves it the I/O error that the process ends with. A write that failed has taken nothing away: what counts
        is what `fdatasync` said, and a failure of that is never looked into.
        """
        found = translate(error)
        if failed_to_write(error) and self.lacks_space():
            found = StoreFullError(str(found))
        if isinstance(found, StoreUnavailableError) and not ends_the_writer(found):
            self._failed_write = found
            self._note(str(found))
        return found

    def wrote(self, *, rows: float = math.inf, size_bytes: int = 0) -> None:
        """Note a commit, of at most so many rows with payloads of that size: so writing can be done after all."""
        self._failed_write = None
        self._used_at_most += rows * _MOST_PAGES_OF_ROW * self._page_bytes + 2 * size_bytes

    def lacks_space(self) -> bool:
        """Say whether a file here cannot grow: the file system or a quota is full, or files may not be that large.

        It is tried behind the end of the longer of database and log, since a limit on the size of files does not
        show before, in a file without a name that is gone at once.
        """
        at = max(self.log_bytes(), self._path.stat().st_size)
        end = at + _TRIAL_BYTES
        try:
            with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
                while at < end:
                    at += os.pwrite(file.fileno(), bytes(end - at), at)
        except OSError as error:
            return error.errno in _OUT_OF_SPACE
        return False

    def _note(self, refusal: str | None) -> None:
        changed = (refusal is None) != (self.last_refusal is None)
        self.last_refusal = refusal
        if not changed:
            return
        now = self._monotonic()
        # A database that stays at its limit is over and under it with every batch that retention deletes.
        if refusal is not None and now - self._told_at >= _TELL_EVERY_SECONDS:
            self._told_at, self._has_told = now, True
            log.error("intake.suspended", extra={"fields": {"reason": refusal}})
        elif refusal is None and self._has_told:
            self._has_told = False
            log.warning("intake.resumed")

    def _look(self, db: sqlite3.Connection) -> str | None:
        limit = self.storage.max_size_bytes
        if self._used_at_most >= limit:
            pages, self._page_bytes = _used_pages(db)
            self._used_at_most = used = pages * self._page_bytes
            if used >= limit:
                return f"the database uses {used} bytes of store.max_size = {limit}"
        now = self._monotonic()
        if now - self._free_at >= _FREE_EVERY_SECONDS:
            self._free, self._free_at = self._free_bytes(self._directory), now
        if self._free < self.storage.min_free_bytes:
            return f"the file system has {self._free} bytes free, less than store.min_free"
        return None

    def space(self, db: sqlite3.Connection) -> Space:
        """Measure everything afresh."""
        return Space(
            used_bytes=used_bytes(db), wal_bytes=self.log_bytes(), free_bytes=self._free_bytes(self._directory)
        )

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log file, 0 where there is none."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0


def is_locked(db: sqlite3.Connection) -> bool:
    """Say whether another process holds the lock for writing; does not wait for it."""
    with patience(db, 0):
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return True
            raise
    return False


def used_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes of pages that hold something; pages that pruning has freed are room again."""
    pages, page_bytes = _used_pages(db)
    return pages * page_bytes


def _used_pages(db: sqlite3.Connection) -> tuple[int, int]:
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    return pages - free, page_bytes
