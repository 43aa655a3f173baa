"""Whatever fails at whatever statement: a call that was refused leaves no row, and nothing goes out with the next one.

After an error SQLite may have rolled the transaction back or may have left it open ("Response To Errors Within A
Transaction" in its manual), and both are tried for every error at every statement.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kit.builders import delivered, event, record, submission, work
from tests.kit.clock import VirtualClock
from tests.kit.intake import accepted
from webhookd.core.ids import EventId
from webhookd.core.ports import Submission
from webhookd.core.settings import Storage
from webhookd.errors import StoreError, StoreIOError
from webhookd.store.sqlite import SqliteStore, open_store

ERRORS = {
    "full": sqlite3.SQLITE_FULL,
    "busy": sqlite3.SQLITE_BUSY,
    "memory": sqlite3.SQLITE_NOMEM,
    "constraint": sqlite3.SQLITE_CONSTRAINT,
    "io": sqlite3.SQLITE_IOERR,
}


@dataclass(slots=True)
class Failing:
    """Fails at one statement of the next transaction of the writer; `statements` counts those of the last one."""

    code: int = 0
    at: int | None = None
    rolls_back: bool = False
    statements: int = field(default=0, init=False)
    writer: _Connection | None = None

    def before(self, db: _Connection, sql: str) -> None:
        """Raise if this is the statement."""
        if sql == "BEGIN IMMEDIATE":
            self.statements = 0
        elif not db.in_transaction or sql == "ROLLBACK":
            return
        if self.at == self.statements:
            self.at = None
            if self.rolls_back and db.in_transaction:
                db.execute("ROLLBACK")
            error = sqlite3.OperationalError("it fails")
            error.sqlite_errorcode = self.code
            error.sqlite_errorname = "SQLITE_TEST"
            raise error
        self.statements += 1


class _Connection(sqlite3.Connection):
    failing: Failing | None = None

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if self.failing is not None:
            self.failing.before(self, sql)
        return super().execute(sql, *values)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Let the writer's statements fail on demand."""
    chosen, connect = Failing(), sqlite3.connect

    def connect_failing(address: str, **more: Any) -> sqlite3.Connection:
        db = connect(address, factory=_Connection, **more)
        if address.endswith("?mode=rw"):
            db.failing, chosen.writer = chosen, db
        return db

    monkeypatch.setattr(sqlite3, "connect", connect_failing)
    return chosen


Opener = Callable[[Path], Awaitable[SqliteStore]]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Open stores, and close those that are left open: their threads would keep the process."""
    stores = []

    async def open_one(path: Path) -> SqliteStore:
        store = await open_store(
            Storage(path=path, min_free_bytes=0),
            idempotency_window_seconds=3600,
            clock=VirtualClock(),
            mint=lambda: 0,
            filesystem=lambda _: "ext4",
        )
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()


class Ledger:
    """What was asked of a store and what it said, and whether the file agrees."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.kept: set[int] = set()
        self.refused: set[int] = set()

    async def group(self) -> int:
        """Hand in a group that shares a transaction, of all kinds of calls; return how many were refused."""
        batch = [submission(event()) for _ in range(3)]
        keyed = [Submission(event=event(), deliveries=(), idempotency_key=str(len(self.kept | self.refused)))]
        told = submission(event())
        calls: list[tuple[list[Submission], Awaitable[Any]]] = [
            (batch, accepted(self.store, batch)),
            (keyed, accepted(self.store, keyed)),
            ([told], self.store.settle([delivered(work())], {}, [told])),
            ([], self.store.put_endpoints([record(f"e{len(self.kept)}")])),
        ]
        said = await asyncio.gather(*(call for _, call in calls), return_exceptions=True)
        for (submissions, _), answer in zip(calls, said, strict=True):
            assert not isinstance(answer, BaseException) or isinstance(answer, StoreError), answer
            ids = {one.event.id for one in submissions}
            (self.refused if isinstance(answer, StoreError) else self.kept).update(ids)
        return sum(isinstance(answer, StoreError) for answer in said)

    async def agrees(self) -> bool:
        with closing(sqlite3.connect(f"file:{self.store._backups._database}?mode=ro", uri=True)) as db:  # noqa: SLF001
            there = {EventId(row[0]) for row in db.execute("SELECT id FROM events")}
            (counted,) = db.execute("SELECT value FROM figures WHERE name = 'events'").fetchone()
            keys = {row[0] for row in db.execute("SELECT event_id FROM idempotency")}
        assert there == self.kept
        assert keys <= there
        assert counted == len(there)
        return True


@pytest.mark.parametrize("rolls_back", [False, True], ids=["left open", "rolled back"])
@pytest.mark.parametrize(
    "code", [code for name, code in ERRORS.items() if name != "io"], ids=[name for name in ERRORS if name != "io"]
)
async def test_what_was_refused_is_not_in_the_file_and_does_not_go_in_with_the_next(
    tmp_path: Path, opened: Opener, failing: Failing, code: int, *, rolls_back: bool
) -> None:
    ledger = Ledger(await opened(tmp_path / "webhookd.db"))
    # The first group of a store also brings a list up to date, which the others need not.
    assert await ledger.group() == 0
    at = refused = 0
    while True:
        failing.code, failing.at, failing.rolls_back = code, at, rolls_back
        refused += await ledger.group()
        if failing.at is not None:
            break
        assert failing.writer is not None
        assert not failing.writer.in_transaction
        assert await ledger.agrees()
        # And what comes next is taken, alone.
        assert await ledger.group() == 0
        assert await ledger.agrees()
        at += 1
    assert at > 12
    # A constraint, or no memory, strikes the group that is then taken apart, and none of its calls alone.
    assert (refused > 0) == (code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})


@pytest.mark.parametrize("rolls_back", [False, True], ids=["left open", "rolled back"])
async def test_what_was_refused_over_an_io_error_is_not_there_after_a_start(
    tmp_path: Path, opened: Opener, failing: Failing, *, rolls_back: bool
) -> None:
    at = 0
    while True:
        ledger = Ledger(await opened(tmp_path / f"{at}.db"))
        assert await ledger.group() == 0
        failing.code, failing.at, failing.rolls_back = sqlite3.SQLITE_IOERR, at, rolls_back
        refused = await ledger.group()
        if failing.at is not None:
            break
        assert refused == 4
        assert isinstance(await ledger.store.failure(), StoreIOError)
        await ledger.store.close()
        ledger.store = await opened(tmp_path / f"{at}.db")
        assert await ledger.agrees()
        await ledger.store.close()
        at += 1
    assert at > 12
