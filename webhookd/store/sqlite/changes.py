"""Single changes that operators and the directory of endpoints ask for; each checks before it writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import Enum

from webhookd.core.delivery import Delivery, DeliveryState, EndReason
from webhookd.core.endpoint import EndpointRecord
from webhookd.core.ids import DeliveryId, EndpointId, EventId, delivery_text, event_text
from webhookd.core.ports import Submission
from webhookd.errors import ConflictError, NotFoundError
from webhookd.store.sqlite.intake import accept
from webhookd.store.sqlite.listing import Listed, list_late
from webhookd.store.sqlite.rows import SELECT_DELIVERY, delivery_of, endpoint_row, find_delivery
from webhookd.store.sqlite.statements import RowStatement

REMOVAL_ROWS = 2000
"""Deliveries that one transaction of a removal ends: an endpoint owed a million must not stop intake for seconds."""


class Unfinished(Enum):
    """What a change answers that has more to do than one transaction should hold; it is asked again."""

    UNFINISHED = "unfinished"


OWE_AGAIN = """
UPDATE deliveries SET
    state = 'pending', reason = NULL, trigger = 'manual', retries_used = 0, replayed = {replayed},
    owed_since_ms = :now_ms, due_at_ms = :now_ms, finished_at_ms = NULL,
    acknowledged_at_ms = iif(state = 'delivered', finished_at_ms, acknowledged_at_ms)
"""

_RESEND = f"{OWE_AGAIN.format(replayed=0)} WHERE id = :id"

_OWE = """
INSERT INTO deliveries (id, event_id, endpoint_id, trigger, owed_since_ms, created_at_ms, due_at_ms)
VALUES (:id, :event_id, :endpoint_id, 'manual', :now_ms, :now_ms, :now_ms)
"""

FIND_OWED = """
SELECT d.id FROM deliveries AS d
WHERE d.event_id = ? AND EXISTS (SELECT 1 FROM endpoints AS p WHERE p.id = d.endpoint_id)
ORDER BY d.id
"""

FIND_OWED_TO = "SELECT d.id FROM deliveries AS d WHERE d.event_id = ? AND +d.endpoint_id = ? ORDER BY d.id LIMIT 1"

# One that was delivered before its resend is that again; the others end for `reason`. `by` may rule an index out.
END = """
UPDATE deliveries {by} SET
    state = iif(acknowledged_at_ms IS NULL, :state, 'delivered'),
    reason = iif(acknowledged_at_ms IS NULL, :reason, NULL),
    trigger = 'scheduled', replayed = 0, due_at_ms = NULL,
    finished_at_ms = coalesce(acknowledged_at_ms, :now_ms), acknowledged_at_ms = NULL
WHERE state = 'pending'
"""

_CANCEL = f"{END.format(by='')} AND id = :id"

CANCEL_SOME = f"""{END.format(by="")}
AND id IN (
    SELECT id FROM deliveries INDEXED BY deliveries_in_order
    WHERE endpoint_id = :endpoint_id AND state = 'pending' ORDER BY id LIMIT :limit
)
RETURNING state"""

_PUT_ENDPOINTS = RowStatement(
    """
    INSERT OR REPLACE INTO endpoints (id, declared, created_at_ms, given, secret, previous_secret,
        previous_secret_until_ms, sample, disabled_reason, disabled_at_ms, failing_days, last_failing_date,
        failed_attempts, last_success_at_ms, last_attempt_delivery_id, last_attempt_number, holds)
    VALUES """,
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)


def resend(db: sqlite3.Connection, delivery_id: DeliveryId, *, now_ms: int) -> Delivery:
    """Owe a delivery again. Raises NotFoundError."""
    db.execute(_RESEND, {"id": delivery_id, "now_ms": now_ms})
    return _shown(db, delivery_id)


def resend_event(
    db: sqlite3.Connection, event_id: EventId, endpoint_id: EndpointId | None, *, spare: DeliveryId, now_ms: int
) -> list[Delivery]:
    """Owe an event again; `spare` is the id of a delivery that has to be added. Raises NotFoundError."""
    if db.execute("SELECT 1 FROM events WHERE id = ?", (event_id,)).fetchone() is None:
        raise NotFoundError(f"there is no event {event_text(event_id)}")
    if endpoint_id is None:
        owed = [DeliveryId(row[0]) for row in db.execute(FIND_OWED, (event_id,)).fetchall()]
        for delivery_id in owed:
            db.execute(_RESEND, {"id": delivery_id, "now_ms": now_ms})
        rows = db.execute(f"{SELECT_DELIVERY} WHERE d.event_id = ? ORDER BY d.id", (event_id,)).fetchall()
        wanted = set(owed)
        return [delivery_of(row) for row in rows if row[0] in wanted]
    if db.execute("SELECT 1 FROM endpoints WHERE id = ?", (endpoint_id,)).fetchone() is None:
        raise NotFoundError(f"there is no endpoint {endpoint_id!r}")
    row = db.execute(FIND_OWED_TO, (event_id, endpoint_id)).fetchone()
    if row is not None:
        return [resend(db, DeliveryId(row[0]), now_ms=now_ms)]
    db.execute(_OWE, {"id": spare, "event_id": event_id, "endpoint_id": endpoint_id, "now_ms": now_ms})
    list_late(db, [(endpoint_id, spare)])
    return [_shown(db, spare)]


def cancel(db: sqlite3.Connection, delivery_id: DeliveryId, *, now_ms: int) -> Delivery:
    """End a pending delivery. Raises NotFoundError or ConflictError (`delivery_ended`)."""
    before = _shown(db, delivery_id)
    if before.state is not DeliveryState.PENDING:
        raise ConflictError("delivery_ended", f"{delivery_text(delivery_id)} is already {before.state}")
    db.execute(_CANCEL, {"id": delivery_id, "state": "cancelled", "reason": EndReason.OPERATOR.value, "now_ms": now_ms})
    return _shown(db, delivery_id)


def _shown(db: sqlite3.Connection, delivery_id: DeliveryId) -> Delivery:
    delivery = find_delivery(db, delivery_id)
    if delivery is None:
        raise NotFoundError(f"there is no delivery {delivery_text(delivery_id)}")
    return delivery


def put_endpoints(db: sqlite3.Connection, records: Sequence[EndpointRecord], *, events: Sequence[Submission]) -> None:
    """Insert or replace every record, and take in the events that tell of it."""
    _PUT_ENDPOINTS.run(db, [value for record in records for value in endpoint_row(record)])
    accept(db, [events], window_ms=0, listed=Listed())


class Removal:
    """The end of an endpoint and of what it is owed, in as many transactions as that takes.

    The endpoint itself goes in the last of them: a crash in between leaves it there, with fewer deliveries, to be
    removed again.
    """

    def __init__(self, endpoint_id: EndpointId, *, now_ms: int) -> None:
        self._endpoint_id = endpoint_id
        self._now_ms = now_ms
        self._cancelled = 0

    def __call__(self, db: sqlite3.Connection) -> int | Unfinished:
        """Do one transaction's worth; return how many deliveries were cancelled in all, once done."""
        ended = cancel_some(db, self._endpoint_id, limit=REMOVAL_ROWS, now_ms=self._now_ms)
        self._cancelled += sum(state == DeliveryState.CANCELLED for state in ended)
        if len(ended) == REMOVAL_ROWS:
            return Unfinished.UNFINISHED
        db.execute("DELETE FROM endpoints WHERE id = ?", (self._endpoint_id,))
        return self._cancelled


def cancel_some(db: sqlite3.Connection, endpoint_id: str, *, limit: int, now_ms: int) -> list[str]:
    """End up to `limit` deliveries owed to an endpoint that is no more; return the state each came to."""
    values = {
        "endpoint_id": endpoint_id,
        "state": DeliveryState.CANCELLED.value,
        "reason": EndReason.ENDPOINT_DELETED.value,
        "limit": limit,
        "now_ms": now_ms,
    }
    return [row[0] for row in db.execute(CANCEL_SOME, values).fetchall()]
