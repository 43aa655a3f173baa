"""Whether the files that are open are still those that the next start will find under their names."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from webhookd.errors import StoreIOError, StoreMovedError


class Presence:
    """Watches the names of a database and its log, which the writer has open; used in its thread only.

    SQLite writes to an open file whatever becomes of its name, and would acknowledge what no start ever reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._file_id = _file_id(path)
        self._log_id = _file_id(self._log)

    def require(self, db: sqlite3.Connection) -> None:
        """Raise StoreMovedError if the database is gone, StoreIOError if only its log is; outside a transaction."""
        if self._file_id is None or _file_id(self._path) != self._file_id:
            raise StoreMovedError(
                f"{self._path} was moved or deleted while in use: put it back, with its log, before the next start"
            )
        if self._log_id is None or _file_id(self._log) != self._log_id:
            # It is still open, so all that is in it can be brought into the file.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            raise StoreIOError(
                f"{self._log} was moved or deleted while in use; {self._path.name} has all that was in it"
            )


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
