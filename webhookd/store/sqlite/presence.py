"""Whether the files that are open are still those that the next start will find under their names."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from webhookd.errors import StoreIOError, StoreMovedError
from webhookd.store.sqlite.session import READ_LIMIT_SECONDS, patience

_RESCUE_SECONDS = READ_LIMIT_SECONDS + 1
"""How long a log without its name is kept from being lost: for longer than our own reads may take."""


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
        """Raise StoreMovedError if the database is gone, StoreIOError if only its log is; outside a transaction.

        A log that cannot be brought into the database counts as the database: a start would find that without it.
        """
        if self._file_id is None or _file_id(self._path) != self._file_id:
            raise StoreMovedError(
                f"{self._path} was moved or deleted while in use: put it back, with its log, before the next start"
            )
        if self._log_id is None or _file_id(self._log) != self._log_id:
            gone = f"{self._log} was moved or deleted while in use"
            if not _brought_in(db):
                raise StoreMovedError(
                    f"{gone}, and a reader kept what it held out of {self._path.name}: before the next start put it "
                    "back, or a copy made from /proc/PID/fd of a program that still has it open; what was accepted "
                    "last is nowhere else"
                )
            raise StoreIOError(f"{gone}; {self._path.name} has all that was in it")


def _brought_in(db: sqlite3.Connection) -> bool:
    """Move the log, which is still open, into the database; say whether all of it is there.

    A read that began before the last commits holds them up, in this process or in another.
    """
    frames: int
    moved: int
    with patience(db, _RESCUE_SECONDS):
        _, frames, moved = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    # Both are -1 where somebody else was about it. All may have been moved although the log could not be cut.
    return 0 <= frames == moved


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # A disk that does not say is not a file that is gone: a start may find it again.
        raise StoreIOError(f"cannot look at {path}: {error.strerror or error}") from error
    return found.st_dev, found.st_ino
