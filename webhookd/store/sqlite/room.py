"""How much room there is: whether intake must be refused, and how far the write-ahead log has grown."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from webhookd.core.ports import Space
from webhookd.core.settings import Storage

_FREE_EVERY_SECONDS = 0.25


def free_bytes_of(directory: Path) -> int:
    """Return what an ordinary user may still write to the file system of `directory`."""
    figures = os.statvfs(directory)
    return figures.f_bavail * figures.f_frsize


class Room:
    """Measures a database against its limits; used in the threads of connections only."""

    def __init__(
        self, path: Path, storage: Storage, *, monotonic: Callable[[], float], free_bytes: Callable[[Path], int]
    ) -> None:
        self._directory = path.parent
        self._log = path.with_name(f"{path.name}-wal")
        self.storage = storage
        self.last_refusal: str | None = None
        """What the latest look at the room said; may be read from any thread."""
        self._monotonic = monotonic
        self._free_bytes = free_bytes
        self._free = 0
        self._free_at = float("-inf")

    def refusal(self, db: sqlite3.Connection) -> str | None:
        """Look whether there is room, and return why no event may come in, None when there is.

        Pages are counted every time, which costs no I/O inside a transaction; the file system is asked at most four
        times a second.
        """
        self.last_refusal = self._look(db)
        return self.last_refusal

    def _look(self, db: sqlite3.Connection) -> str | None:
        used = used_bytes(db)
        if used >= self.storage.max_size_bytes:
            return f"the database uses {used} bytes of store.max_size = {self.storage.max_size_bytes}"
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


def used_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes of pages that hold something; pages that pruning has freed are room again."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * page_size)
