"""Connections: each lives in a thread of its own and is asked to run whole pieces of work there."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import quote

import aiosqlite

from webhookd.errors import StoreCorruptError, StoreUnavailableError
from webhookd.store.sqlite.failures import translate

Result = TypeVar("Result")
Plain = TypeVar("Plain", None, bytes)

READ_LIMIT_SECONDS = 5.0
"""Longest a read may take: a longer one would keep the write-ahead log from being reset."""

BUSY_TIMEOUT_SECONDS = 5.0
_CACHED_STATEMENTS = 512

_EVERYWHERE = """
PRAGMA wal_autocheckpoint = 0;
PRAGMA temp_store = MEMORY;
"""

_WRITER = (
    _EVERYWHERE
    + """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = FAST;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -32768;
"""
)

_READER = (
    _EVERYWHERE
    + """
PRAGMA query_only = ON;
PRAGMA cache_size = -8192;
"""
)


def _itself(value: Plain) -> Plain:
    return value


# For these two sqlite3 looks for an adapter at every value it binds, and without one finds out by an AttributeError.
sqlite3.register_adapter(type(None), _itself)
sqlite3.register_adapter(bytes, _itself)


class Session(aiosqlite.Connection):
    """A connection that runs a function of it in its thread, as one step.

    A transaction in one step costs one change of threads instead of one per statement, and no cancellation can
    leave it half done.
    """

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what `work` returns; errors of SQLite leave as StoreError."""
        try:
            return cast("Result", await self._execute(work, self._conn))  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            raise translate(error) from error

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """As `run`, ended after READ_LIMIT_SECONDS, or as soon as nobody waits for it; StoreUnavailableError then."""
        limit = asyncio.get_running_loop().call_later(READ_LIMIT_SECONDS, self._conn.interrupt)
        try:
            return await self.run(work)
        except StoreUnavailableError as error:
            raise StoreUnavailableError(f"a read took longer than {READ_LIMIT_SECONDS:g} seconds") from error
        except asyncio.CancelledError:
            self._conn.interrupt()
            raise
        finally:
            limit.cancel()


def uri(path: Path, *, mode: str, immutable: bool = False) -> str:
    """Return `path` as SQLite wants it in a URI; `immutable` reads the file alone, past its log, and makes no other."""
    return f"file:{quote(str(path))}?mode={mode}" + ("&immutable=1" if immutable else "")


def connect(address: str, pragmas: str = "") -> sqlite3.Connection:
    """Open `address` in this thread; transactions are begun and ended by hand."""
    db = sqlite3.connect(
        address, uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, cached_statements=_CACHED_STATEMENTS
    )
    try:
        for pragma in filter(None, map(str.strip, pragmas.split(";"))):
            db.execute(pragma).fetchall()
    except BaseException:
        db.close()
        raise
    return db


def connect_writer(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the connection that makes every commit and every checkpoint."""
    return connect(uri(path, mode="rwc" if create else "rw"), _WRITER)


@contextlib.contextmanager
def patience(db: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Wait this long, instead of BUSY_TIMEOUT_SECONDS, for what others have locked."""
    (before_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}").fetchall()
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {before_ms}").fetchall()


async def open_writer(path: Path) -> Session:
    """Open the writer in a thread of its own; the file must exist."""
    return await _open(lambda: connect_writer(path, create=False))


async def open_reader(path: Path) -> Session:
    """Open a connection that cannot write, not even a checkpoint, in a thread of its own."""
    return await _open(lambda: connect(uri(path, mode="ro"), _READER))


async def _open(connector: Callable[[], sqlite3.Connection]) -> Session:
    try:
        return cast("Session", await Session(connector, iter_chunk_size=64))
    except sqlite3.Error as error:
        raise translate(error) from error


class ReaderPool:
    """A few readers, each lent to one read at a time; reads beyond that wait their turn.

    `on_damage` is told when a read finds that the file cannot be trusted any more.
    """

    def __init__(self, sessions: list[Session], *, on_damage: Callable[[StoreCorruptError], None]) -> None:
        self._sessions = sessions
        self._on_damage = on_damage
        self._idle: asyncio.LifoQueue[Session] = asyncio.LifoQueue()
        for session in sessions:
            self._idle.put_nowait(session)

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` on an idle reader, within the limits of `Session.read`."""
        session = await self._idle.get()
        try:
            return await session.read(work)
        except StoreCorruptError as error:
            self._on_damage(error)
            raise
        finally:
            self._idle.put_nowait(session)

    async def close(self) -> None:
        """Close every reader, after what it is doing."""
        for session in self._sessions:
            await session.close()
