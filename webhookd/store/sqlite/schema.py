"""The schema as the sum of its migrations, and the checks a file must pass before anything may write to it."""

from __future__ import annotations

import errno
import re
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from webhookd.core.settings import MIB
from webhookd.errors import SchemaVersionError, StoreCorruptError
from webhookd.store.sqlite.directory import sync_directory, unusable
from webhookd.store.sqlite.failures import RESTORE
from webhookd.store.sqlite.log_check import LOG_HEADER_BYTES, damage_of
from webhookd.store.sqlite.session import connect, uri

APPLICATION_ID = 0x77686B64
"""`whkd`, in the header of every file that is ours."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_FULL_CHECK_BYTES = 16 * MIB
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")
_TOLERATED_PREFIX = "_litestream_"

_UNREADABLE = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR_DATA})


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema; the file's `user_version` is `number` once it is done."""

    number: int
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration in order, numbered from 1 without gaps."""
    found = [
        Migration(number=int(match[1]), sql=entry.read_text(encoding="utf-8"))
        for entry in (files("webhookd.store.sqlite") / "migrations").iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


def migrate(db: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Take each step that the file has not yet taken, in a transaction of its own."""
    for step in steps:
        # BEGIN first: the version must be read under the lock that the change is made under.
        db.execute("BEGIN IMMEDIATE")
        try:
            if _pragma(db, "user_version") < step.number:
                for statement in _statements(step.sql):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {step.number}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _statements(sql: str) -> list[str]:
    # executescript would commit the transaction that makes a migration all or nothing.
    statements, lines = [], []
    for line in sql.splitlines():
        lines.append(line)
        text = "\n".join(lines)
        if sqlite3.complete_statement(text):
            statements.append(text)
            lines = []
    return statements


def create(path: Path) -> None:
    """Make a new, empty database at `path`: complete under another name, then renamed.

    So a file at `path` is never half made, and an empty one there was not left by us. Needs the lock.
    """
    draft = path.with_name(f"{path.name}.new")
    for leftover in (draft, *(draft.with_name(draft.name + suffix) for suffix in ("-journal", "-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    with closing(connect(uri(draft, mode="rwc"), "PRAGMA synchronous = FULL")) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(db, migrations())
        db.execute("PRAGMA journal_mode = WAL").fetchall()
    draft.chmod(0o600)
    draft.rename(path)
    sync_directory(path.parent)


def inspect(path: Path) -> None:
    """Refuse a file that is foreign, newer or damaged, without changing a byte of it or of its log.

    Raises SchemaVersionError or StoreCorruptError, one line naming the file and what to do. Small files are checked
    in full; of large ones only the structure from the roots down both edges, so that a start stays quick.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        # Reading from a pipe would wait for ever, and for no database.
        raise unusable(path, "it is not an ordinary file; give store.path another name")
    size = found.st_size
    log = path.with_name(f"{path.name}-wal")
    has_log = log.exists() and log.stat().st_size > LOG_HEADER_BYTES
    try:
        _inspect_header(path, size, has_log=has_log)
        with closing(connect(uri(path, mode="ro", immutable=not has_log), "PRAGMA query_only = ON")) as db:
            _inspect_schema(db, path)
            _inspect_structure(db, path, size, has_log=has_log)
        if has_log and (damage := damage_of(log)) is not None:
            raise StoreCorruptError(f"{path} is damaged ({damage}): {RESTORE}")
    except sqlite3.DatabaseError as error:
        code: int = getattr(error, "sqlite_errorcode", 0)
        if (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreCorruptError(f"{path} is damaged ({error}): {RESTORE}") from error
        if code in _UNREADABLE:
            raise _unreadable(path, error) from error
        raise
    except OSError as error:
        if error.errno == errno.EIO:
            raise _unreadable(path, error) from error
        raise


def _unreadable(path: Path, error: Exception) -> StoreCorruptError:
    # Not the error of a disk that fails under a running daemon: a start that reads the same again would end the same.
    return StoreCorruptError(f"{path} cannot be read ({error}): look at the disk, then {RESTORE}")


def _inspect_header(path: Path, size: int, *, has_log: bool) -> None:
    # Read before any connection exists: closing a descriptor of the file later would drop SQLite's locks.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if size == 0:
        raise StoreCorruptError(f"{path} is empty, and webhookd never leaves it so: {RESTORE}")
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise StoreCorruptError(f"{path} is not a SQLite database: {RESTORE}")
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or (size % page_size and not has_log):
        # SQLite writes whole pages, so only a cut leaves part of one: by somebody, or by a loss of power during a
        # checkpoint. Then the log still has that page, and the check of the structure reads it there.
        raise StoreCorruptError(f"{path} is cut off in the middle of a page: {RESTORE}")


def _inspect_schema(db: sqlite3.Connection, path: Path) -> None:
    application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    if application != APPLICATION_ID:
        if _marked_as_ours(path):
            raise StoreCorruptError(f"{path} lies beside the log of another database, {path.name}-wal: {RESTORE}")
        raise SchemaVersionError(f"{path} belongs to another program: give store.path another name")
    newest = migrations()[-1].number
    if version > newest:
        raise SchemaVersionError(
            f"{path} has schema {version}, this webhookd knows up to {newest}: run the newer webhookd again"
        )
    found, expected = objects(db), _expected(version)
    if missing := expected.keys() - found.keys():
        raise StoreCorruptError(f"{path} lacks {', '.join(sorted(missing))}: {RESTORE}")
    for name in sorted(found):
        if name not in expected:
            raise SchemaVersionError(
                f"{path} holds {name}, which is not ours: drop it, or give store.path another name"
            )
        if found[name] != expected[name]:
            raise SchemaVersionError(f"{path} holds a changed {name}: {RESTORE}")


def _marked_as_ours(path: Path) -> bool:
    with closing(connect(uri(path, mode="ro", immutable=True))) as db:
        return _pragma(db, "application_id") == APPLICATION_ID


def _inspect_structure(db: sqlite3.Connection, path: Path, size: int, *, has_log: bool) -> None:
    pages, free = _pragma(db, "page_count"), _pragma(db, "freelist_count")
    # With a log, pages may still be waiting there for the checkpoint that a crash cut short.
    if free >= pages or (not has_log and size < pages * _pragma(db, "page_size")):
        raise StoreCorruptError(f"{path} is cut off: {RESTORE}")
    if pages * _pragma(db, "page_size") <= _FULL_CHECK_BYTES:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreCorruptError(f"{path} is damaged ({' '.join(verdict.split())}): {RESTORE}")
        return
    for name in sorted(_expected(migrations()[-1].number)):
        kind, table, _ = objects(db)[name]
        if kind == "table":
            for edge in ("ASC", "DESC"):
                keys = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5])
                order = ", ".join(f"{key} {edge}" for key in keys.split(", "))
                db.execute(f"SELECT {keys} FROM {table} ORDER BY {order} LIMIT 1").fetchone()


def objects(db: sqlite3.Connection) -> dict[str, tuple[str, str, str]]:
    """Return kind, table and definition of everything in the schema by name, but for what others may keep there."""
    rows = db.execute("SELECT name, type, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {
        name: (kind, table, sql)
        for name, kind, table, sql in rows.fetchall()
        if not table.startswith((_TOLERATED_PREFIX, "sqlite_"))
    }


@cache
def _expected(version: int) -> dict[str, tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, [step for step in migrations() if step.number <= version])
        return objects(db)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)
