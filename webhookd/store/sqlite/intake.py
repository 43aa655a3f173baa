"""Accepting: events, what they are owed as and what their keys stand for, as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from webhookd.core.ids import EventId
from webhookd.core.ports import Acceptance, Submission
from webhookd.errors import ConflictError, WebhookdError
from webhookd.store.sqlite.listing import list_late, listed_upto
from webhookd.store.sqlite.statements import RowStatement

_INSERT_EVENTS = RowStatement(
    "INSERT INTO events (id, type, tenant, content_type, accepted_at_ms, deliver_at_ms, payload) VALUES ",
    "({0}, {1}, {2}, {3}, {4}, {5}, {6})",
    width=7,
)

_INSERT_DELIVERIES = RowStatement(
    "INSERT INTO deliveries (id, event_id, endpoint_id, created_at_ms, owed_since_ms, due_at_ms) VALUES ",
    "({0}, {1}, {2}, {3}, {4}, {4})",
    width=5,
)

# REPLACE, because an expired key may still be there.
_INSERT_KEYS = RowStatement(
    "INSERT OR REPLACE INTO idempotency (event_id, tenant, key, fingerprint, deliveries, expires_at_ms) VALUES ",
    "({0}, {1}, {2}, {3}, {4}, {5})",
    width=6,
)

FIND_KEYS = """
SELECT known.tenant, known.key, known.event_id, known.fingerprint, known.deliveries, known.expires_at_ms
FROM json_each(?) AS asked
CROSS JOIN idempotency AS known ON known.tenant = asked.value ->> 0 AND known.key = asked.value ->> 1
"""

COUNT_EVENTS = "UPDATE figures SET value = value + ? WHERE name = 'events'"

Calls = Sequence[Sequence[Submission]]
Answer = list[Acceptance] | WebhookdError
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Known:
    event_id: EventId
    fingerprint: bytes
    deliveries: int
    expires_at_ms: int


def accept(db: sqlite3.Connection, calls: Calls, *, window_ms: int) -> list[Answer]:
    """Insert what is new in `calls` and answer each call; one whose key conflicts leaves no rows behind.

    A key first seen in an earlier call, or on an earlier line of the same one, counts as known. Whether a key has
    expired is judged by the acceptance time of the event that repeats it.
    """
    known = _find(db, calls)
    answers: list[Answer] = []
    fresh: list[Submission] = []
    for call in calls:
        # A call's own keys become known to its neighbours only once the call is sure to be kept.
        own: dict[_Key, _Known] = {}
        try:
            answer = [_answer(submission, line, call, known, own, window_ms) for line, submission in enumerate(call, 1)]
        except ConflictError as conflict:
            answers.append(conflict)
            continue
        known.update(own)
        answers.append(answer)
        fresh += [submission for submission, given in zip(call, answer, strict=True) if not given.duplicate]
    _insert(db, fresh, window_ms)
    return answers


def _answer(
    submission: Submission,
    line: int,
    call: Sequence[Submission],
    known: dict[_Key, _Known],
    own: dict[_Key, _Known],
    window_ms: int,
) -> Acceptance:
    event = submission.event
    if submission.idempotency_key is not None:
        key = (event.tenant, submission.idempotency_key)
        before = own.get(key) or known.get(key)
        if before is not None and before.expires_at_ms > event.accepted_at_ms:
            if before.fingerprint != submission.fingerprint:
                where = f"line {line}: " if len(call) > 1 else ""
                raise ConflictError(
                    "idempotency_conflict", f"{where}this idempotency key already stands for other content"
                )
            return Acceptance(before.event_id, duplicate=True, deliveries=before.deliveries)
        own[key] = _known(submission, window_ms)
    return Acceptance(event.id, duplicate=False, deliveries=len(submission.deliveries))


def _find(db: sqlite3.Connection, calls: Calls) -> dict[_Key, _Known]:
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


def _insert(db: sqlite3.Connection, fresh: Sequence[Submission], window_ms: int) -> None:
    events = []
    deliveries = []
    keys: dict[_Key, tuple[object, ...]] = {}
    for submission in fresh:
        event = submission.event
        accepted_at_ms = event.accepted_at_ms
        events.append(
            (event.id, event.type, event.tenant, event.content_type, accepted_at_ms, event.deliver_at_ms, event.payload)
        )
        due_at_ms = event.due_at_ms
        for delivery_id, endpoint_id in submission.deliveries:
            deliveries.append((delivery_id, event.id, endpoint_id, accepted_at_ms, due_at_ms))
        if (key := submission.idempotency_key) is not None:
            known = _known(submission, window_ms)
            keys[event.tenant, key] = (
                event.id,
                event.tenant,
                key,
                known.fingerprint,
                known.deliveries,
                known.expires_at_ms,
            )
    if events:
        _INSERT_EVENTS.run(db, events)
        db.execute(COUNT_EVENTS, (len(events),))
    if deliveries:
        _INSERT_DELIVERIES.run(db, deliveries)
        upto = listed_upto(db)
        if late := [
            (endpoint_id, delivery_id) for delivery_id, _, endpoint_id, *_ in deliveries if delivery_id <= upto
        ]:
            list_late(db, late)
    _INSERT_KEYS.run(db, list(keys.values()))


def _known(submission: Submission, window_ms: int) -> _Known:
    return _Known(
        submission.event.id,
        submission.fingerprint,
        len(submission.deliveries),
        submission.event.accepted_at_ms + window_ms,
    )
