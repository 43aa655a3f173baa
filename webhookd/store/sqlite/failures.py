"""What SQLite's error codes mean to us: the one place where they become errors of webhookd."""

from __future__ import annotations

import sqlite3

from webhookd.errors import StoreCorruptError, StoreError, StoreFullError, StoreIOError, StoreUnavailableError

RESTORE = "restore a backup, or move the file away to start afresh"
"""What is left to do about a damaged file."""

# A full file system, called an I/O error. It can show in the index of the log once the commit itself is in the log and
# synced: then SQLite says that it failed, and after a crash it is there. So it is not known whether it was stored.
_IN_DOUBT_FOR_WANT_OF_SPACE = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})


def translate(error: sqlite3.Error) -> StoreError:
    """Return our error for one of SQLite's; its text keeps SQLite's own words and the name of the code."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name: str = getattr(error, "sqlite_errorname", type(error).__name__)
    text = f"{error} ({name})"
    if code in _IN_DOUBT_FOR_WANT_OF_SPACE:
        return StoreUnavailableError(f"{text}: the file system is full")
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreFullError(text)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_INTERRUPT:
            return StoreUnavailableError(text)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            # A file that can no longer be written or opened under a running daemon is a disk that went away.
            return StoreIOError(text)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreCorruptError(f"{text}: {RESTORE}")
        case _:
            return StoreError(text)


def failed_to_write(error: sqlite3.Error) -> bool:
    """Say whether the system refused a write for a reason that SQLite does not tell."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE


def ends_the_writer(error: BaseException) -> bool:
    """Say whether nothing may be written after this error: what the disk now holds is only known after a restart."""
    return isinstance(error, StoreIOError | StoreCorruptError)
