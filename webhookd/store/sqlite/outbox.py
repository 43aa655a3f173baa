"""Reading what is owed: the heads of all endpoints, and the work that is due at one."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import orjson

from webhookd.core.attempt import Trigger
from webhookd.core.delivery import Work
from webhookd.core.event import Event
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.ports import DueBatch, Head

# A skip-scan: one descent of the index per endpoint, however many deliveries wait behind its first. The index is named,
# since the other one over what is pending looks as good to SQLite but would have to read the table.
WITH_HEADS = """
WITH RECURSIVE head (endpoint_id) AS (
    SELECT min(endpoint_id) FROM deliveries INDEXED BY deliveries_due WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(d.endpoint_id) FROM deliveries AS d INDEXED BY deliveries_due
            WHERE d.state = 'pending' AND d.endpoint_id > head.endpoint_id)
    FROM head WHERE head.endpoint_id IS NOT NULL
)"""

_HEAD = """
(SELECT min(d.due_at_ms) FROM deliveries AS d INDEXED BY deliveries_due
 WHERE d.state = 'pending' AND d.endpoint_id = head.endpoint_id AND d.replayed = {replayed})"""

_LAST = _HEAD.replace("min(", "max(")

HEADS = f"""{WITH_HEADS}
SELECT endpoint_id, {_HEAD.format(replayed=0)}, {_HEAD.format(replayed=1)},
       {_LAST.format(replayed=0)}, {_LAST.format(replayed=1)}
FROM head WHERE endpoint_id IS NOT NULL
"""

# The row after the last one wanted tells when to come back; its payload is then not needed, unless it is due as well.
_SELECT_WORK = """
SELECT d.id, d.due_at_ms, d.owed_since_ms, d.attempt_count, d.retries_used, d.trigger, d.acknowledged_at_ms IS NOT NULL,
       e.id, e.type, e.tenant, e.content_type, e.accepted_at_ms, e.deliver_at_ms,
       iif(d.due_at_ms <= :now_ms, e.payload, NULL), d.replayed
FROM deliveries AS d INDEXED BY {index} CROSS JOIN events AS e ON e.id = d.event_id
WHERE d.endpoint_id = :endpoint_id AND d.state = 'pending' AND {wanted}
ORDER BY {order} LIMIT :limit + 1
"""

BY_DUE_MOMENT, REPLAYED = (
    _SELECT_WORK.format(
        index="deliveries_due",
        wanted=f"d.replayed = {replayed} AND d.id NOT IN (SELECT value FROM json_each(:exclude))",
        order="d.due_at_ms, d.id",
    )
    for replayed in (0, 1)
)

# One that is not due stands in the way of all behind it, even while it is excluded.
BY_ACCEPTANCE = _SELECT_WORK.format(
    index="deliveries_in_order",
    wanted="(d.due_at_ms > :now_ms OR d.id NOT IN (SELECT value FROM json_each(:exclude)))",
    order="d.id",
)

FORWARD_ROWS = 1000

_TOO_LATE = """
SELECT d.id FROM deliveries AS d INDEXED BY deliveries_due
WHERE d.state = 'pending' AND d.endpoint_id = :endpoint_id AND d.replayed IN (0, 1) AND d.due_at_ms > :now_ms
  AND CASE WHEN d.attempt_count = 0
           THEN coalesce((SELECT e.deliver_at_ms FROM events AS e WHERE e.id = d.event_id), 0) < d.due_at_ms
           ELSE d.due_at_ms > iif(d.trigger = 'manual', :now_ms, :latest_ms) END
LIMIT :limit
"""

_BRING_FORWARD = """
UPDATE deliveries SET due_at_ms = iif(attempt_count > 0 AND trigger = 'scheduled', :latest_ms, :now_ms)
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'pending' AND due_at_ms > :now_ms
"""


def heads(db: sqlite3.Connection) -> list[Head]:
    """Return the earliest due moments of every endpoint that is owed something."""
    return [
        Head(
            endpoint_id=row[0],
            due_at_ms=row[1],
            replay_due_ms=row[2],
            last_due_ms=max((last for last in row[3:] if last is not None), default=None),
        )
        for row in db.execute(HEADS).fetchall()
    ]


def too_late(db: sqlite3.Connection, endpoint_id: EndpointId, *, now_ms: int, latest_ms: int) -> list[DeliveryId]:
    """Return up to `FORWARD_ROWS` deliveries that wait longer than there is reason to; see `Outbox.bring_forward`."""
    values = {"endpoint_id": endpoint_id, "now_ms": now_ms, "latest_ms": latest_ms, "limit": FORWARD_ROWS}
    return [row[0] for row in db.execute(_TOO_LATE, values).fetchall()]


def bring_forward(db: sqlite3.Connection, ids: Collection[DeliveryId], *, now_ms: int, latest_ms: int) -> int:
    """Give deliveries found by `too_late` their new moment; return how many."""
    values = {"ids": orjson.dumps(list(ids)).decode(), "now_ms": now_ms, "latest_ms": latest_ms}
    return db.execute(_BRING_FORWARD, values).rowcount


def due(  # noqa: PLR0913 - see the port; all by name
    db: sqlite3.Connection,
    endpoint_id: EndpointId,
    *,
    now_ms: int,
    limit: int,
    max_bytes: int,
    ordered: bool,
    exclude: Collection[DeliveryId],
    replay_limit: int,
    replay_max_bytes: int,
) -> DueBatch:
    """Return the work that is due at an endpoint; see `Outbox.due`."""
    values = {"endpoint_id": endpoint_id, "now_ms": now_ms, "exclude": orjson.dumps(list(exclude)).decode()}
    work, next_due_ms = _read(db, BY_ACCEPTANCE if ordered else BY_DUE_MOMENT, values, limit, max_bytes)
    if ordered:
        return DueBatch(work, next_due_ms)
    replayed, next_replay_ms = _read(db, REPLAYED, values, replay_limit, replay_max_bytes)
    return DueBatch(work + replayed, next_due_ms, next_replay_ms)


def _read(
    db: sqlite3.Connection, sql: str, values: dict[str, object], limit: int, max_bytes: int
) -> tuple[list[Work], int | None]:
    work: list[Work] = []
    size_bytes = 0
    cursor = db.execute(sql, {**values, "limit": limit})
    try:
        for row in cursor:
            size_bytes += len(row[13] or b"")
            if row[1] > values["now_ms"] or len(work) == limit or (work and size_bytes > max_bytes):
                return work, row[1]
            work.append(_work_of(row, str(values["endpoint_id"])))
        return work, None
    finally:
        # Ends the read, which would otherwise last until the cursor is collected and keep the log from being reset.
        cursor.close()


def _work_of(row: tuple, endpoint_id: str) -> Work:  # type: ignore[type-arg]  # the columns of _SELECT_WORK
    return Work(
        id=row[0],
        endpoint_id=EndpointId(endpoint_id),
        event=Event(
            id=row[7],
            type=row[8],
            tenant=row[9],
            content_type=row[10],
            payload=row[13],
            accepted_at_ms=row[11],
            deliver_at_ms=row[12],
        ),
        due_at_ms=row[1],
        owed_since_ms=row[2],
        attempt_count=row[3],
        retries_used=row[4],
        trigger=Trigger(row[5]),
        acknowledged=bool(row[6]),
        replayed=bool(row[14]),
    )
