"""Accepting: events, what they are owed as and what their keys stand for, as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import cast

import orjson
from msgspec import Struct

from webhookd.core.ids import EventId
from webhookd.core.ports import Acceptance, Answer, Submission
from webhookd.errors import ConflictError
from webhookd.store.sqlite.listing import Listed, list_late
from webhookd.store.sqlite.statements import RowStatement

_INSERT_EVENTS = RowStatement(
    "INSERT INTO events (id, type, tenant, content_type, accepted_at_ms, deliver_at_ms, payload) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?)",
)

_INSERT_DELIVERIES = RowStatement(
    "INSERT INTO deliveries (id, event_id, endpoint_id, created_at_ms, owed_since_ms, due_at_ms) VALUES ",
    "(?, ?, ?, ?, ?, ?)",
)

# REPLACE, because an expired key may still be there.
_INSERT_KEYS = RowStatement(
    "INSERT OR REPLACE INTO idempotency (event_id, tenant, key, fingerprint, deliveries, expires_at_ms) VALUES ",
    "(?, ?, ?, ?, ?, ?)",
)

FIND_KEYS = """
SELECT known.tenant, known.key, known.event_id, known.fingerprint, known.deliveries, known.expires_at_ms
FROM json_each(?) AS asked
CROSS JOIN idempotency AS known ON known.tenant = asked.value ->> 0 AND known.key = asked.value ->> 1
"""

COUNT_EVENTS = "UPDATE figures SET value = value + ? WHERE name = 'events'"

_Key = tuple[str, str]


class _Known(Struct, frozen=True):
    event_id: EventId
    fingerprint: bytes
    deliveries: int
    expires_at_ms: int


def accept(
    db: sqlite3.Connection, calls: Sequence[Sequence[Submission]], *, window_ms: int, listed: Listed
) -> list[Answer]:
    """Insert what is new in `calls` and answer each call; one whose key conflicts leaves no rows behind.

    A key first seen in an earlier call, or on an earlier line of the same one, counts as known. Whether a key has
    expired is judged by the acceptance time of the event that repeats it.
    """
    fresh = _Fresh(_find(db, calls), window_ms)
    answers: list[Answer] = []
    for call in calls:
        try:
            answers.append(fresh.take(call))
        except ConflictError as conflict:
            answers.append(conflict)
    fresh.insert(db, listed)
    return answers


class _Fresh:
    """What is new, as the values of its rows, and what keys are known to stand for."""

    def __init__(self, known: dict[_Key, _Known], window_ms: int) -> None:
        self._known = known
        self._window_ms = window_ms
        self._events: list[object] = []
        self._deliveries: list[object] = []
        self._keys: list[object] = []

    def take(self, call: Sequence[Submission]) -> list[Acceptance]:
        """Add what is new in `call`, or raise ConflictError and add nothing."""
        events, deliveries = self._events, self._deliveries
        before = len(events), len(deliveries)
        # A call's own keys become known to its neighbours only once the call is sure to be kept.
        own: dict[_Key, _Known] = {}
        answer: list[Acceptance] = []
        for submission in call:
            event = submission.event
            event_id = event.id
            owed = submission.deliveries
            if submission.idempotency_key is not None and (known := self._repeated(submission, own)) is not None:
                if known.fingerprint != submission.fingerprint:
                    del events[before[0] :], deliveries[before[1] :]
                    raise _conflict(len(answer) + 1, call)
                answer.append(Acceptance(known.event_id, True, known.deliveries))
                continue
            accepted_at_ms = event.accepted_at_ms
            due_at_ms = event.due_at_ms
            events += (
                event_id,
                event.type,
                event.tenant,
                event.content_type,
                accepted_at_ms,
                event.deliver_at_ms,
                event.payload,
            )
            for delivery_id, endpoint_id in owed:
                deliveries += (delivery_id, event_id, endpoint_id, accepted_at_ms, due_at_ms, due_at_ms)
            answer.append(Acceptance(event_id, False, len(owed)))
        if own:
            self._keep(own)
        return answer

    def _keep(self, own: dict[_Key, _Known]) -> None:
        for (tenant, key), known in own.items():
            self._keys += (known.event_id, tenant, key, known.fingerprint, known.deliveries, known.expires_at_ms)
        self._known |= own

    def _repeated(self, submission: Submission, own: dict[_Key, _Known]) -> _Known | None:
        """Return what the key of `submission` stands for already; where that is nothing, it stands for this now."""
        event = submission.event
        key = (event.tenant, submission.idempotency_key or "")
        before = own.get(key) or self._known.get(key)
        if before is not None and before.expires_at_ms > event.accepted_at_ms:
            return before
        own[key] = _Known(
            event.id, submission.fingerprint, len(submission.deliveries), event.accepted_at_ms + self._window_ms
        )
        return None

    def insert(self, db: sqlite3.Connection, listed: Listed) -> None:
        """Write everything."""
        if not self._events:
            return
        _INSERT_EVENTS.run(db, self._events)
        db.execute(COUNT_EVENTS, (len(self._events) // _INSERT_EVENTS.width,))
        if self._deliveries:
            _INSERT_DELIVERIES.run(db, self._deliveries)
            ids = cast("list[int]", self._deliveries[:: _INSERT_DELIVERIES.width])
            upto = listed.upto(db)
            if min(ids) <= upto:
                endpoint_ids = cast("list[str]", self._deliveries[2 :: _INSERT_DELIVERIES.width])
                list_late(
                    db, [(name, number) for name, number in zip(endpoint_ids, ids, strict=True) if number <= upto]
                )
        _INSERT_KEYS.run(db, self._keys)


def _conflict(line: int, call: Sequence[Submission]) -> ConflictError:
    where = f"line {line}: " if len(call) > 1 else ""
    return ConflictError("idempotency_conflict", f"{where}this idempotency key already stands for other content")


def _find(db: sqlite3.Connection, calls: Sequence[Sequence[Submission]]) -> dict[_Key, _Known]:
    asked = list(
        {
            (submission.event.tenant, submission.idempotency_key)
            for call in calls
            for submission in call
            if submission.idempotency_key is not None
        }
    )
    if not asked:
        return {}
    rows = db.execute(FIND_KEYS, (orjson.dumps(asked).decode(),)).fetchall()
    return {(tenant, key): _Known(*rest) for tenant, key, *rest in rows}
