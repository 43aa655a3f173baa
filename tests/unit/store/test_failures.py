"""What SQLite's codes mean to us."""

from __future__ import annotations

import sqlite3

import pytest

from webhookd.errors import StoreCorruptError, StoreError, StoreFullError, StoreIOError, StoreUnavailableError
from webhookd.store.sqlite.failures import ends_the_writer, translate


@pytest.mark.parametrize(
    ("name", "kind", "ends"),
    [
        ("SQLITE_FULL", StoreFullError, False),
        ("SQLITE_IOERR", StoreIOError, True),
        ("SQLITE_IOERR_FSYNC", StoreIOError, True),
        ("SQLITE_IOERR_WRITE", StoreIOError, True),
        ("SQLITE_IOERR_SHMSIZE", StoreUnavailableError, False),
        ("SQLITE_READONLY", StoreIOError, True),
        ("SQLITE_CANTOPEN", StoreIOError, True),
        ("SQLITE_BUSY", StoreUnavailableError, False),
        ("SQLITE_BUSY_SNAPSHOT", StoreUnavailableError, False),
        ("SQLITE_LOCKED", StoreUnavailableError, False),
        ("SQLITE_INTERRUPT", StoreUnavailableError, False),
        ("SQLITE_CORRUPT", StoreCorruptError, True),
        ("SQLITE_CORRUPT_INDEX", StoreCorruptError, True),
        ("SQLITE_NOTADB", StoreCorruptError, True),
        ("SQLITE_CONSTRAINT_CHECK", StoreError, False),
    ],
)
def test_every_code_has_its_error(name: str, kind: type[StoreError], ends: bool) -> None:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    found = translate(error)
    assert type(found) is kind
    assert ends_the_writer(found) is ends
    assert str(found).startswith(f"as SQLite says it ({name})")


def test_an_error_without_a_code_is_still_ours() -> None:
    assert type(translate(sqlite3.ProgrammingError("closed"))) is StoreError
