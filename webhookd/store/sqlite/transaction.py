"""One group of calls as one transaction: what goes in first, what fails alone, and what fails together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from msgspec import Struct

from webhookd.core.endpoint import Health
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Answer, Settlement, Submission
from webhookd.errors import StoreError, StoreFullError, StoreUnavailableError, WebhookdError
from webhookd.store.sqlite.failures import ends_the_writer
from webhookd.store.sqlite.intake import accept
from webhookd.store.sqlite.listing import LIST_EVERY_ROWS, Listed
from webhookd.store.sqlite.presence import Presence
from webhookd.store.sqlite.room import Room
from webhookd.store.sqlite.settlement import record_health, settle, without_false_deaths


class Accept(Struct, frozen=True, kw_only=True, eq=False):
    """A call of `Intake.accept`, or a part of one."""

    calls: Sequence[Sequence[Submission]]
    rows: int
    size_bytes: int
    answer: asyncio.Future[Any]

    @classmethod
    def of(cls, calls: Sequence[Sequence[Submission]], answer: asyncio.Future[Any]) -> Accept:
        """Return `calls` with what they will take to write."""
        rows = size_bytes = 0
        for submissions in calls:
            for submission in submissions:
                rows += 1 + len(submission.deliveries)
                size_bytes += len(submission.event.payload)
        return cls(calls=calls, rows=rows, size_bytes=size_bytes, answer=answer)


class Settle(Struct, frozen=True, kw_only=True, eq=False):
    """A call of `Outbox.settle`."""

    settlements: Sequence[Settlement]
    health: Mapping[EndpointId, Health]
    events: Sequence[Submission]
    rows: int
    answer: asyncio.Future[Any]
    size_bytes: int = 0


class Change(Struct, frozen=True, kw_only=True, eq=False):
    """Any other call that writes: `apply` gives the answer, or Unfinished to be called again."""

    apply: Callable[[sqlite3.Connection], object]
    answer: asyncio.Future[Any]
    rows: int = 1
    size_bytes: int = 0


Call = Accept | Settle | Change


@dataclass(slots=True)
class Outcome:
    """What became of a group: an answer or an error for each call, and the error that nothing may be written after."""

    answers: dict[Call, Any] = field(default_factory=dict)
    errors: dict[Call, WebhookdError] = field(default_factory=dict)
    fatal: StoreError | None = None


class Transactions:
    """Commits groups; used in the writer's thread only."""

    def __init__(self, room: Room, presence: Presence, *, idempotency_window_ms: int) -> None:
        self._room = room
        self._presence = presence
        self.window_ms = idempotency_window_ms
        self._listed = Listed()
        # Unknown at the start, so the first events bring the list up to date.
        self._unlisted_rows = LIST_EVERY_ROWS

    def commit(self, db: sqlite3.Connection, group: Sequence[Call]) -> Outcome:
        """Commit `group` as one transaction, and where that fails, what of it can be committed without the culprit."""
        outcome = Outcome()
        self._commit(db, group, outcome)
        return outcome

    def _commit(self, db: sqlite3.Connection, group: Sequence[Call], outcome: Outcome) -> None:
        try:
            answers, errors = self._attempt(db, group)
        except MemoryError:
            # No value's fault, and nothing that the next call would be spared.
            raise
        except Exception as cause:  # noqa: BLE001 -- whatever one call's values provoke must not reach its neighbours
            error = self._mapped(cause)
        else:
            self._note_written(group)
            outcome.answers |= answers
            outcome.errors |= errors
            return
        if ends_the_writer(error):
            outcome.fatal = error
            outcome.errors |= dict.fromkeys(group, error)
        elif isinstance(error, StoreFullError):
            # What is owed can often still be recorded, in pages that are free inside the file: events give way.
            others = [call for call in group if not isinstance(call, Accept)]
            refused = group if len(others) == len(group) else [call for call in group if isinstance(call, Accept)]
            outcome.errors |= dict.fromkeys(refused, error)
            if others and len(others) < len(group):
                self._commit(db, others, outcome)
        elif isinstance(error, StoreUnavailableError) or _is_single(group):
            outcome.errors |= dict.fromkeys(group, error)
        else:
            self._commit_apart(db, group, outcome)

    def _commit_apart(self, db: sqlite3.Connection, group: Sequence[Call], outcome: Outcome) -> None:
        for call in group:
            if outcome.fatal is not None:
                outcome.errors[call] = outcome.fatal
            elif isinstance(call, Accept):
                outcome.answers[call] = self._answers_apart(db, call, outcome)
            else:
                self._commit(db, [call], outcome)

    def _answers_apart(self, db: sqlite3.Connection, call: Accept, outcome: Outcome) -> list[Answer]:
        answers: list[Answer] = []
        for submissions in call.calls:
            if outcome.fatal is None:
                part = Accept.of([submissions], call.answer)
                alone = self.commit(db, [part])
                outcome.fatal = alone.fatal
                answers += alone.answers.get(part) or [alone.errors[part]]
            else:
                answers.append(outcome.fatal)
        return answers

    def _attempt(
        self, db: sqlite3.Connection, group: Sequence[Call]
    ) -> tuple[dict[Call, Any], dict[Call, WebhookdError]]:
        answers: dict[Call, Any] = {}
        errors: dict[Call, WebhookdError] = {}
        try:
            self._presence.require(db)
            db.execute("BEGIN IMMEDIATE")
            self._accept(db, [call for call in group if isinstance(call, Accept)], answers, errors)
            self._settle(db, [call for call in group if isinstance(call, Settle)])
            self._change(db, [call for call in group if not isinstance(call, Accept)], answers, errors)
            unlisted_rows = self._unlisted_rows + sum(call.rows for call in answers if isinstance(call, Accept))
            if unlisted_rows >= LIST_EVERY_ROWS:
                self._listed.catch_up(db)
                unlisted_rows = 0
            db.execute("COMMIT")
        except BaseException:
            _roll_back(db)
            raise
        self._unlisted_rows = unlisted_rows
        return answers, errors

    def _note_written(self, group: Sequence[Call]) -> None:
        # How much a change writes is not known, nor is it where the list has just been brought up to date.
        if self._unlisted_rows == 0 or any(isinstance(call, Change) for call in group):
            self._room.wrote()
        else:
            self._room.wrote(
                rows=sum([call.rows for call in group]), size_bytes=sum([call.size_bytes for call in group])
            )

    def _mapped(self, cause: Exception) -> StoreError:
        if isinstance(cause, sqlite3.Error):
            error = self._room.explained(cause)
        elif isinstance(cause, StoreError):
            return cause
        else:
            error = StoreError(f"a value cannot be stored: {type(cause).__name__}: {cause}")
        error.__cause__ = cause
        return error

    def _accept(
        self,
        db: sqlite3.Connection,
        calls: Sequence[Accept],
        answers: dict[Call, Any],
        errors: dict[Call, WebhookdError],
    ) -> None:
        if not calls:
            return
        if (refusal := self._room.refusal(db)) is not None:
            errors.update(dict.fromkeys(calls, StoreFullError(refusal)))
            return
        handed_in = [submissions for call in calls for submissions in call.calls]
        given = iter(accept(db, handed_in, window_ms=self.window_ms, listed=self._listed))
        for call in calls:
            answers[call] = list(islice(given, len(call.calls)))

    def _settle(self, db: sqlite3.Connection, calls: Sequence[Settle]) -> None:
        settle(db, chain.from_iterable([call.settlements for call in calls]))
        if told := [event for call in calls for event in call.events]:
            accept(db, [without_false_deaths(db, told)], window_ms=self.window_ms, listed=self._listed)

    def _change(
        self,
        db: sqlite3.Connection,
        calls: Sequence[Settle | Change],
        answers: dict[Call, Any],
        errors: dict[Call, WebhookdError],
    ) -> None:
        # Health is also part of an endpoint's record, so both are written in the order in which they were handed in.
        health: dict[EndpointId, Health] = {}
        for call in calls:
            if isinstance(call, Settle):
                health |= call.health
                answers[call] = None
                continue
            record_health(db, health)
            health.clear()
            try:
                answers[call] = call.apply(db)
            except WebhookdError as refusal:
                errors[call] = refusal
        record_health(db, health)


def _is_single(group: Sequence[Call]) -> bool:
    (*others, last) = group
    return not others and not (isinstance(last, Accept) and len(last.calls) > 1)


def _roll_back(db: sqlite3.Connection) -> None:
    # After an error SQLite may or may not have rolled back by itself; see "Response To Errors Within A Transaction".
    if not db.in_transaction:
        return
    try:
        db.execute("ROLLBACK")
    except sqlite3.Error:
        if db.in_transaction:
            raise
