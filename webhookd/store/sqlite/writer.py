"""The writer: one bounded queue, one task, one connection that makes every commit and every checkpoint."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

from msgspec import Struct

from webhookd.core.settings import MIB
from webhookd.errors import StoreError, StoreUnavailableError
from webhookd.store.sqlite.changes import Unfinished
from webhookd.store.sqlite.checkpoint import Checkpointer
from webhookd.store.sqlite.failures import ends_the_writer
from webhookd.store.sqlite.room import Room
from webhookd.store.sqlite.session import Session
from webhookd.store.sqlite.transaction import Accept, Call, Outcome, Settle, Transactions

GROUP_ROWS = 2048
"""Rows after which a transaction takes no further call; a single call may be larger, and outcomes are not counted."""

GROUP_BYTES = 8 * MIB
QUEUE_ROWS = 131_072
QUEUE_BYTES = 64 * MIB
_QUIET_TURNS = 3
"""What is read from a socket in one turn of the loop is handed in in the next; attempts land and depart likewise."""

_MOST_TURNS = 12


class Aside(Struct, frozen=True, kw_only=True, eq=False):
    """A call that needs the writer but no transaction."""

    work: Callable[[sqlite3.Connection], object]
    answer: asyncio.Future[Any]
    rows: int = 0
    size_bytes: int = 0


class Writer:
    """Takes calls in order and commits together all that queued up while the last commit ran.

    Outcomes do not wait behind events: they go first, with as many events as would be committed without them.
    An error that leaves the disk in doubt ends it: every queued and every later call fails with that error, nothing is
    written any more, and `failure` tells.
    """

    def __init__(
        self,
        session: Session,
        transactions: Transactions,
        room: Room,
        *,
        on_commit: Callable[[float, int], object] | None,
    ) -> None:
        self._session = session
        self._transactions = transactions
        self._room = room
        self._checkpointer = Checkpointer(room)
        self._on_commit = on_commit
        self._queue: deque[Call | Aside] = deque()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="store writer")

    async def failure(self) -> BaseException:
        """Return why the writer died, once it has; never return while it lives or after an orderly close."""
        return await asyncio.shield(self._failure)

    def submit(self, call: Call | Aside) -> asyncio.Future[Any]:
        """Queue `call` and return its answer to come; a call that cannot be queued is answered at once."""
        if self._failure.done():
            call.answer.set_exception(_stopped(self._failure.result()))
        elif self._closing:
            call.answer.set_exception(StoreUnavailableError("the store is closing"))
        elif self._queued_rows + call.rows > QUEUE_ROWS or self._queued_bytes + call.size_bytes > QUEUE_BYTES:
            call.answer.set_exception(StoreUnavailableError("the queue to the database is full"))
        else:
            self._put(call)
        return call.answer

    def _put(self, call: Call | Aside) -> None:
        at = len(self._queue)
        if isinstance(call, Settle):
            # What is sent and not recorded would be sent again after a crash; nobody was promised the events yet.
            while at and isinstance(self._queue[at - 1], Accept | Aside):
                at -= 1
        self._queue.insert(at, call)
        self._queued_rows += call.rows
        self._queued_bytes += call.size_bytes
        self._wake.set()

    def checkpoint(self) -> asyncio.Future[Any]:
        """Queue a checkpoint."""
        return self.submit(Aside(work=self._checkpointer.run, answer=new_answer()))

    def look(self) -> asyncio.Future[Any]:
        """Queue a look at the room there is; as it goes through the thread, its answer proves that both are alive."""
        return self.submit(Aside(work=self._room.inspect, answer=new_answer()))

    def apply(self, *, idempotency_window_seconds: float) -> None:
        """Remember the keys of events accepted from now on for this long."""
        self._transactions.window_ms = round(idempotency_window_seconds * 1000)

    def condemn(self, error: StoreError) -> None:
        """End as after an error of its own: somebody else found that the file cannot be trusted."""
        if not self._failure.done():
            self._fail(error)

    async def close(self) -> None:
        """Commit what is queued, then close the connection; idempotent, and does not raise after a failure."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task])
        try:
            await self._session.close()
        except sqlite3.Error:
            if not self._failure.done():
                raise

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._gathered()
                    await self._serve(self._take())
                if self._closing:
                    return
        except BaseException as error:  # noqa: BLE001 -- whoever waits for an answer must not wait for ever
            if not self._failure.done():
                self._fail(error)

    async def _gathered(self) -> None:
        """Let the loop get through what it has at hand, which may be answers to the last commit and what they lead to.

        A commit costs about as much for one row as for sixty, and threads that take turns at the interpreter cost more
        than that. Nothing waits for time to pass: once three turns of the loop bring nothing more, there is nothing.
        """
        quiet = turns = 0
        while quiet < _QUIET_TURNS and turns < _MOST_TURNS and self._queued_rows < GROUP_ROWS:
            before = self._queued_rows
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._queued_rows == before else 0
            turns += 1

    def _take(self) -> list[Call | Aside]:
        rows = size_bytes = 0
        taken: list[Call | Aside] = []
        while self._queue:
            call = self._queue[0]
            if not isinstance(call, Settle):
                # A call that is larger than this by itself must not wait for a moment without outcomes.
                if rows and (rows + call.rows > GROUP_ROWS or size_bytes + call.size_bytes > GROUP_BYTES):
                    break
                rows += call.rows
                size_bytes += call.size_bytes
            taken.append(self._queue.popleft())
            self._queued_rows -= call.rows
            self._queued_bytes -= call.size_bytes
        return taken

    async def _serve(self, taken: list[Call | Aside]) -> None:
        group = [call for call in taken if not isinstance(call, Aside)]
        try:
            if group:
                await self._commit(group)
            for call in taken:
                if isinstance(call, Aside):
                    await self._do(call)
            if self._checkpointer.due:
                await self._checkpoint()
        except BaseException as error:
            for call in taken:
                _refuse(call.answer, _stopped(error))
            raise

    async def _commit(self, group: list[Call]) -> None:
        started = perf_counter()
        outcome: Outcome = await self._session.run(lambda db: self._transactions.commit(db, group))
        if self._on_commit is not None:
            self._on_commit(perf_counter() - started, sum(call.rows for call in group))
        self._checkpointer.count(sum(call.rows for call in group), sum(call.size_bytes for call in group))
        for call, answer in outcome.answers.items():
            if isinstance(answer, Unfinished):
                self._put(call)
            elif not call.answer.done():
                call.answer.set_result(answer)
        for call, error in outcome.errors.items():
            _refuse(call.answer, error)
        if outcome.fatal is not None:
            raise outcome.fatal

    async def _do(self, aside: Aside) -> None:
        try:
            answer = await self._session.run(aside.work)
        except StoreError as error:
            _refuse(aside.answer, error)
            if ends_the_writer(error):
                raise
        else:
            if not aside.answer.done():
                aside.answer.set_result(answer)

    async def _checkpoint(self) -> None:
        try:
            await self._session.run(self._checkpointer.run)
        except StoreUnavailableError as error:
            # The log stays whole and is tried again later; only a disk that fails must end the writer.
            if ends_the_writer(error):
                raise

    def _fail(self, error: BaseException) -> None:
        self._failure.set_result(error)
        while self._queue:
            _refuse(self._queue.popleft().answer, _stopped(error))
        self._queued_rows = self._queued_bytes = 0


def new_answer() -> asyncio.Future[Any]:
    """Return a future for the answer of a call."""
    return asyncio.get_running_loop().create_future()


def _refuse(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _stopped(error: BaseException) -> BaseException:
    if isinstance(error, StoreError):
        return error
    stopped = StoreUnavailableError(f"the writer stopped: {type(error).__name__}: {error}")
    stopped.__cause__ = error
    return stopped
