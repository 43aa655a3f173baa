"""Runs the real daemon until it passes a named point, and ends it there as a crash of the machine would.

`python -m tests.kit.crashpoints POINT[:N] serve -c FILE` takes the place of `webhookd serve -c FILE`; N says at which
passing, the first if left out. Everything is wrapped from outside: the product knows of none of it. In a thread of the
store the process lingers before it dies, so that whatever does not wait for the commit gets the time to go ahead of it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from webhookd import daemon, systemd
from webhookd.api import front
from webhookd.engine.directory import EndpointDirectory
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.intake import Intake
from webhookd.net import client
from webhookd.net.guard import Dialer
from webhookd.store.sqlite import directory, schema
from webhookd.store.sqlite.transaction import Accept, Settle, Transactions

ADDED_SCHEMA = "CRASHPOINTS_ADDED_SCHEMA"
"""Names a file of SQL that the daemon is to take for the migration after its last one."""

NEVER = "never"
"""A point that is not passed: the daemon lives on, wrapped all the same."""

_LINGER_SECONDS = 0.15
_PAGE_BYTES = 4096


class Point(StrEnum):
    """Where a process can be made to end."""

    REQUEST_READ = "intake.request-read"
    INTAKE_BEFORE_BEGIN = "intake.before-begin"
    EVENTS_INSERTED = "intake.events-inserted"
    DELIVERIES_INSERTED = "intake.deliveries-inserted"
    INTAKE_BEFORE_COMMIT = "intake.before-commit"
    INTAKE_AFTER_COMMIT = "intake.after-commit"
    BEFORE_ANSWER = "intake.before-answer"
    AFTER_ANSWER = "intake.after-answer"

    BEFORE_CONNECT = "attempt.before-connect"
    CONNECTED = "attempt.connected"
    REQUEST_SENT = "attempt.request-sent"
    HEAD_READ = "attempt.head-read"
    SETTLEMENT_BEFORE_BEGIN = "settlement.before-begin"
    ATTEMPTS_INSERTED = "settlement.attempts-inserted"
    SETTLEMENT_BEFORE_COMMIT = "settlement.before-commit"
    SETTLEMENT_AFTER_COMMIT = "settlement.after-commit"

    CHECKPOINT_BEFORE = "checkpoint.before"
    CHECKPOINT_TORN = "checkpoint.torn"
    CHECKPOINT_AFTER = "checkpoint.after"

    LOCK_TAKEN = "start.lock-taken"
    CREATION_HALF = "start.creation-half"
    CREATION_BEFORE_COMMIT = "start.creation-before-commit"
    CREATION_AFTER_COMMIT = "start.creation-after-commit"
    CREATION_RENAMED = "start.creation-renamed"
    CHECKED = "start.checked"
    MIGRATION_BEGUN = "start.migration-begun"
    MIGRATION_HALF = "start.migration-half"
    MIGRATION_BEFORE_COMMIT = "start.migration-before-commit"
    MIGRATION_AFTER_COMMIT = "start.migration-after-commit"
    LISTENERS_BOUND = "start.listeners-bound"
    READY = "start.ready"

    RELOAD_BEGUN = "reload.begun"
    RELOAD_STORED = "reload.stored"

    STOP_ASKED = "stop.asked"
    DRAIN_BEGUN = "stop.drain-begun"
    LAST_SETTLEMENT_BEFORE_COMMIT = "stop.settlement-before-commit"
    LAST_SETTLEMENT_AFTER_COMMIT = "stop.settlement-after-commit"
    BEFORE_FINAL_CHECKPOINT = "stop.before-final-checkpoint"
    FINAL_CHECKPOINT_TORN = "stop.final-checkpoint-torn"
    CLOSED = "stop.closed"

    BACKUP_FILE_MADE = "backup.file-made"
    BACKUP_TORN = "backup.torn"
    BACKUP_COPIED = "backup.copied"
    BACKUP_FSYNCED = "backup.fsynced"
    BACKUP_RENAMED = "backup.renamed"

    @property
    def is_torn(self) -> bool:
        """Say whether the kernel ends the process, in the middle of a page."""
        return self.value.endswith("torn")

    @property
    def signal(self) -> signal.Signals:
        """Return what the process dies of."""
        return signal.SIGXFSZ if self.is_torn else signal.SIGKILL


class Crash:
    """Counts the passings of one point and ends the process at the right one."""

    def __init__(self, point: Point | None, number: int) -> None:
        self._point = point
        self._left = number
        self.is_stopping = False

    def passes(self, point: Point) -> None:
        """Do not return if this is where it ends."""
        if self._counts(point):
            if threading.current_thread() is not threading.main_thread():
                time.sleep(_LINGER_SECONDS)
            self._announce()
            os.kill(os.getpid(), signal.SIGKILL)

    def tears(self, point: Point, path: Path, *, after_bytes: int) -> None:
        """Have the kernel end the process in the first write past the end of `path`, or past `after_bytes` of it.

        SQLite moves pages in the order of their numbers, so all that it changes inside the file is written by then,
        and what makes the file longer is not.
        """
        if self._counts(point):
            self._announce()
            size = path.stat().st_size if path.exists() else 0
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + after_bytes, hard))

    def _counts(self, point: Point) -> bool:
        if point is not self._point:
            return False
        self._left -= 1
        return self._left == 0

    def _announce(self) -> None:
        os.write(2, f"crashing at {self._point}\n".encode())


crash = Crash(None, 0)


class Watched(sqlite3.Connection):
    """A connection whose statements are points; which ones depends on the file and on what is being written."""

    def __init__(self, database: str, **more: Any) -> None:
        super().__init__(database, **more)
        path, _, mode = database.removeprefix("file:").partition("?mode=")
        self.path = Path(path)
        self.is_draft = mode.startswith("rwc")
        self.is_writer = mode == "rw" and not self.path.name.startswith(".")
        self.group: set[str] = set()
        self._statements = 0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self._before(sql)
        cursor = super().execute(sql, *values)
        self._after(sql)
        return cursor

    def close(self) -> None:
        if not self.is_writer:
            super().close()
            return
        # The last connection to go moves the log into the file.
        crash.passes(Point.BEFORE_FINAL_CHECKPOINT)
        crash.tears(Point.FINAL_CHECKPOINT_TORN, self.path, after_bytes=_PAGE_BYTES + 100)
        super().close()
        crash.passes(Point.CLOSED)

    def _before(self, sql: str) -> None:
        if sql == "COMMIT":
            self._at_commit(before=True)
        elif sql.startswith("PRAGMA wal_checkpoint"):
            crash.passes(Point.CHECKPOINT_BEFORE)
            crash.tears(Point.CHECKPOINT_TORN, self.path, after_bytes=_PAGE_BYTES + 100)
        elif sql.startswith("VACUUM INTO"):
            crash.passes(Point.BACKUP_FILE_MADE)
            crash.tears(Point.BACKUP_TORN, Path("/nowhere"), after_bytes=10 * _PAGE_BYTES + 100)

    def _after(self, sql: str) -> None:
        if sql == "COMMIT":
            self._at_commit(before=False)
        elif sql == "BEGIN IMMEDIATE":
            self._statements = 0
            if self.is_writer and not self.group:
                crash.passes(Point.MIGRATION_BEGUN)
        elif sql.startswith("PRAGMA wal_checkpoint"):
            crash.passes(Point.CHECKPOINT_AFTER)
        elif sql.startswith("VACUUM INTO"):
            crash.passes(Point.BACKUP_COPIED)
        elif sql.startswith("INSERT INTO events"):
            crash.passes(Point.EVENTS_INSERTED)
        elif sql.startswith("INSERT INTO deliveries"):
            crash.passes(Point.DELIVERIES_INSERTED)
        elif "INSERT INTO attempts" in sql:
            crash.passes(Point.ATTEMPTS_INSERTED)
        elif sql.lstrip().startswith("CREATE ") or "CREATE TABLE" in sql:
            # Not those of the empty database in memory that a file is compared with.
            if self.is_draft:
                crash.passes(Point.CREATION_HALF)
            elif self.is_writer:
                crash.passes(Point.MIGRATION_HALF)

    def _at_commit(self, *, before: bool) -> None:
        if self.is_draft:
            crash.passes(Point.CREATION_BEFORE_COMMIT if before else Point.CREATION_AFTER_COMMIT)
        elif self.is_writer and not self.group:
            crash.passes(Point.MIGRATION_BEFORE_COMMIT if before else Point.MIGRATION_AFTER_COMMIT)
        if "intake" in self.group:
            crash.passes(Point.INTAKE_BEFORE_COMMIT if before else Point.INTAKE_AFTER_COMMIT)
        if "settlement" in self.group:
            crash.passes(Point.SETTLEMENT_BEFORE_COMMIT if before else Point.SETTLEMENT_AFTER_COMMIT)
            if crash.is_stopping:
                crash.passes(
                    Point.LAST_SETTLEMENT_BEFORE_COMMIT if before else Point.LAST_SETTLEMENT_AFTER_COMMIT,
                )


class Straight:
    """A transport whose writes are with the kernel when they return, as those of a real one need not be."""

    def __init__(self, transport: Any, *, before: Point | None, after: Point, start: bytes) -> None:
        self._transport = transport
        self._before = before
        self._after = after
        self._start = start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        if bytes(data[: len(self._start)]) != self._start:
            self._transport.write(data)
            return
        if self._before is not None:
            crash.passes(self._before)
        sent = os.write(self._transport.get_extra_info("socket").fileno(), data)
        crash.passes(self._after)
        if sent < len(data):
            self._transport.write(data[sent:])


def around(
    owner: object, name: str, *, before: Callable[..., object] | None = None, after: Callable[..., object] | None = None
) -> None:
    """Have `before` and `after` called with the arguments of each call of `owner.name`, awaited or not."""
    wrapped = getattr(owner, name)

    @functools.wraps(wrapped)
    def call(*values: Any, **named: Any) -> Any:
        if before is not None:
            before(*values, **named)
        result = wrapped(*values, **named)
        if after is not None:
            after(*values, **named)
        return result

    @functools.wraps(wrapped)
    async def call_and_await(*values: Any, **named: Any) -> Any:
        if before is not None:
            before(*values, **named)
        result = await wrapped(*values, **named)
        if after is not None:
            after(*values, **named)
        return result

    setattr(owner, name, call_and_await if asyncio.iscoroutinefunction(wrapped) else call)


def install() -> None:
    """Wrap everything that is a point."""
    connect = sqlite3.connect
    setattr(sqlite3, "connect", lambda *values, **named: connect(*values, factory=Watched, **named))  # noqa: B010

    around(Intake, "accept", before=passing(Point.REQUEST_READ))
    around(Transactions, "commit", before=_note_group)
    _straighten(front.Connection, Point.BEFORE_ANSWER, Point.AFTER_ANSWER, b"HTTP/1.1 202")

    around(Dialer, "dial", before=passing(Point.BEFORE_CONNECT), after=passing(Point.CONNECTED))
    _straighten(client.Connection, None, Point.REQUEST_SENT, b"POST ")
    around(client.Connection, "data_received", after=passing(Point.HEAD_READ))

    around(directory.DirectoryLock, "__init__", after=passing(Point.LOCK_TAKEN))
    around(schema, "sync_directory", before=passing(Point.CREATION_RENAMED))
    around(schema, "inspect", after=passing(Point.CHECKED))
    around(daemon, "open_listeners", after=passing(Point.LISTENERS_BOUND))
    around(systemd, "notify", after=_at_notice)

    around(EndpointDirectory, "reload", before=passing(Point.RELOAD_BEGUN), after=passing(Point.RELOAD_STORED))
    around(Dispatcher, "drain", before=passing(Point.DRAIN_BEGUN))
    around(os, "fsync", after=_at_fsync)
    around(Path, "rename", after=_at_rename)
    if more := os.environ.get(ADDED_SCHEMA):
        known = schema.migrations()
        added = schema.Migration(number=known[-1].number + 1, sql=Path(more).read_text(encoding="utf-8"))
        setattr(schema, "migrations", lambda: (*known, added))  # noqa: B010


def passing(point: Point) -> Callable[..., None]:
    """Return what notes a passing, whatever it is called with."""

    def note(*_: object, **__: object) -> None:
        crash.passes(point)

    return note


def _straighten(owner: type, before: Point | None, after: Point, start: bytes) -> None:
    made = owner.connection_made  # type: ignore[attr-defined]
    tapped = lambda self, transport: made(self, Straight(transport, before=before, after=after, start=start))  # noqa: E731
    setattr(owner, "connection_made", tapped)  # noqa: B010


def _note_group(_: Transactions, db: sqlite3.Connection, group: list[object]) -> None:
    assert isinstance(db, Watched)
    db.group = {"other"}
    if any(isinstance(call, Accept) for call in group):
        db.group.add("intake")
        crash.passes(Point.INTAKE_BEFORE_BEGIN)
    if any(isinstance(call, Settle) and call.settlements for call in group):
        db.group.add("settlement")
        crash.passes(Point.SETTLEMENT_BEFORE_BEGIN)


def _at_notice(*lines: str) -> None:
    if "READY=1" in lines:
        crash.passes(Point.READY)
    if "STOPPING=1" in lines:
        crash.is_stopping = True
        crash.passes(Point.STOP_ASKED)


def _at_fsync(_: int) -> None:
    if threading.current_thread().name == "backup":
        crash.passes(Point.BACKUP_FSYNCED)


def _at_rename(*_: Path) -> None:
    if threading.current_thread().name == "backup":
        crash.passes(Point.BACKUP_RENAMED)


def main() -> None:
    """Run the command line behind the point."""
    global crash  # noqa: PLW0603 - one process, one crash
    where, *arguments = sys.argv[1:]
    name, _, number = where.partition(":")
    if name != NEVER:
        crash = Crash(Point(name), int(number or 1))
        if crash._point is not None and crash._point.is_torn:  # noqa: SLF001
            # Python ignores it, so that a file that grows too long would be an error and not an end.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    install()
    from webhookd.cli import main as command_line

    command_line(arguments, prog_name="webhookd")


if __name__ == "__main__":
    main()
