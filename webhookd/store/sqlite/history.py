"""Reading what happened: single rows, lists that stay bounded on tables of millions, and counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

import orjson

from webhookd.core.delivery import Delivery, DeliveryState
from webhookd.core.event import EventSummary
from webhookd.core.ids import EndpointId, lowest_id_at
from webhookd.core.ports import Counts
from webhookd.core.queries import DeliveryFilter, EventFilter, Page
from webhookd.store.sqlite.listing import LISTED_UPTO
from webhookd.store.sqlite.rows import SELECT_DELIVERY, delivery_of

WINDOW_ROWS = 20_000
"""Rows that one page may look through for a filter without an index; a page may so come back short, and go on."""

_MAX_ID = 2**63 - 1

SELECT_EVENTS = """
SELECT e.id, e.type, e.tenant, e.content_type, length(e.payload), e.accepted_at_ms, e.deliver_at_ms
FROM candidates AS c CROSS JOIN events AS e ON e.id = c.id
"""

# Pending ones, and those that ended badly, by indexes that hold nothing else; the total by its smallest index.
COUNT_DELIVERIES = "SELECT count(*) FROM deliveries"
COUNT_PENDING = "SELECT count(*) FROM deliveries INDEXED BY deliveries_due WHERE state = 'pending'"
COUNT_HELD = """
SELECT count(*) FROM endpoints AS p CROSS JOIN deliveries AS d INDEXED BY deliveries_due ON d.endpoint_id = p.id
WHERE d.state = 'pending' AND p.disabled_reason IS NOT NULL
"""
COUNT_UNACKNOWLEDGED = """
SELECT state, count(*) FROM deliveries WHERE state IN ('dead', 'cancelled') GROUP BY state
"""
COUNT_EVENTS = "SELECT value FROM figures WHERE name = 'events'"
COUNT_PENDING_BY_ENDPOINT = """
SELECT asked.value, (SELECT count(*) FROM deliveries AS d INDEXED BY deliveries_due
                     WHERE d.state = 'pending' AND d.endpoint_id = asked.value)
FROM json_each(?) AS asked
"""

# What the endpoint's list holds, and above that the few deliveries that it does not hold yet.
_OF_ENDPOINT = f"""
SELECT id FROM (
    SELECT * FROM (
        SELECT delivery_id AS id FROM endpoint_deliveries
        WHERE endpoint_id = :endpoint_id AND delivery_id >= :lowest AND delivery_id < :below
        ORDER BY delivery_id DESC LIMIT :window
    )
    UNION ALL
    SELECT id FROM deliveries NOT INDEXED
    WHERE id > ({LISTED_UPTO}) AND id >= :lowest AND id < :below AND endpoint_id = :endpoint_id
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """Ids in descending order, by an index, and whether rows must then still be looked at to see if they match."""

    sql: str
    filtered: bool


def _range(since_ms: int | None, until_ms: int | None, before: int | None) -> dict[str, object]:
    # Ids carry their time of acceptance, so a range of times is a range of the primary key.
    lowest = 0 if since_ms is None else min(lowest_id_at(since_ms), _MAX_ID)
    bounds = [bound for bound in (before, None if until_ms is None else lowest_id_at(until_ms)) if bound is not None]
    return {"lowest": lowest, "below": min([_MAX_ID, *bounds])}


def events(db: sqlite3.Connection, which: EventFilter, *, limit: int, before: int | None) -> Page[EventSummary]:
    """Return a page of events; see `History.events`."""
    conditions = []
    if which.tenant is not None:
        conditions.append("e.tenant = :tenant")
    if which.type is not None:
        conditions.append("e.type = :type")
    values = _range(which.since_ms, which.until_ms, before) | {"tenant": which.tenant, "type": which.type}
    walk = _Walk(sql="SELECT id FROM events WHERE id >= :lowest AND id < :below", filtered=bool(conditions))
    rows, next_before = _page(db, walk, SELECT_EVENTS, "e.id", conditions, values, limit)
    return Page([_summary_of(row) for row in rows], next_before)


def deliveries(db: sqlite3.Connection, which: DeliveryFilter, *, limit: int, before: int | None) -> Page[Delivery]:
    """Return a page of deliveries; see `History.deliveries`."""
    conditions = []
    if which.tenant is not None:
        conditions.append("e.tenant = :tenant")
    if which.type is not None:
        conditions.append("e.type = :type")
    walk, on_rows = _delivery_walk(which)
    conditions += on_rows
    values = _range(which.since_ms, which.until_ms, before) | {
        "tenant": which.tenant,
        "type": which.type,
        "event_id": which.event_id,
        "endpoint_id": which.endpoint_id,
    }
    select = SELECT_DELIVERY.replace(
        "FROM deliveries AS d", "FROM candidates AS c CROSS JOIN deliveries AS d ON d.id = c.id"
    )
    rows, next_before = _page(db, _Walk(sql=walk, filtered=bool(conditions)), select, "d.id", conditions, values, limit)
    return Page([delivery_of(row) for row in rows], next_before)


def _delivery_walk(which: DeliveryFilter) -> tuple[str, list[str]]:
    # State words are written out, as the indexes have them: SQLite takes a partial index only where the statement
    # itself shows the same condition.
    select = "SELECT id FROM deliveries"
    bounds = "id >= :lowest AND id < :below"
    state = which.state
    if which.event_id is not None:
        on_rows = [] if which.endpoint_id is None else ["d.endpoint_id = :endpoint_id"]
        on_rows += [] if state is None else [f"d.state = '{state.value}'"]
        return f"{select} INDEXED BY deliveries_by_event WHERE event_id = :event_id AND {bounds}", on_rows
    if which.endpoint_id is not None:
        if state is DeliveryState.PENDING:
            index = "deliveries_in_order"
            return (
                f"{select} INDEXED BY {index} WHERE endpoint_id = :endpoint_id AND state = 'pending' AND {bounds}",
                [],
            )
        return _OF_ENDPOINT, [] if state is None else [f"d.state = '{state.value}'"]
    if state in (DeliveryState.DEAD, DeliveryState.CANCELLED):
        ended = f"state IN ('dead', 'cancelled') AND state = '{state.value}'"
        return f"{select} INDEXED BY deliveries_unacknowledged WHERE {ended} AND {bounds}", []
    return f"{select} NOT INDEXED WHERE {bounds}", [] if state is None else [f"d.state = '{state.value}'"]


def _page(
    db: sqlite3.Connection,
    walk: _Walk,
    select: str,
    key: str,
    conditions: list[str],
    values: dict[str, object],
    limit: int,
) -> tuple[list[tuple], int | None]:  # type: ignore[type-arg]  # the columns of `select`
    values = {**values, "window": WINDOW_ROWS if walk.filtered else limit + 1, "wanted": limit + 1}
    candidates = f"WITH candidates (id) AS MATERIALIZED ({walk.sql} ORDER BY id DESC LIMIT :window)"
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = db.execute(f"{candidates} {select} {where} ORDER BY {key} DESC LIMIT :wanted", values).fetchall()
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1][0]
    if walk.filtered:
        looked_at, lowest = db.execute(f"{candidates} SELECT count(*), min(id) FROM candidates", values).fetchone()
        if looked_at == WINDOW_ROWS:
            return rows, lowest
    return rows, None


def _summary_of(row: tuple) -> EventSummary:  # type: ignore[type-arg]  # the columns of SELECT_EVENTS
    return EventSummary(
        id=row[0],
        type=row[1],
        tenant=row[2],
        content_type=row[3],
        size_bytes=row[4],
        accepted_at_ms=row[5],
        deliver_at_ms=row[6],
    )


def counts(db: sqlite3.Connection) -> Counts:
    """Count everything, as of one moment."""
    db.execute("BEGIN")
    try:
        (total,) = db.execute(COUNT_DELIVERIES).fetchone()
        (pending,) = db.execute(COUNT_PENDING).fetchone()
        (held,) = db.execute(COUNT_HELD).fetchone()
        unacknowledged = dict(db.execute(COUNT_UNACKNOWLEDGED).fetchall())
        (event_count,) = db.execute(COUNT_EVENTS).fetchone()
    finally:
        db.execute("ROLLBACK")
    dead, cancelled = unacknowledged.get("dead", 0), unacknowledged.get("cancelled", 0)
    return Counts(
        pending=pending,
        held=held,
        delivered=total - pending - dead - cancelled,
        dead=dead,
        cancelled=cancelled,
        events=event_count,
    )


def pending_by_endpoint(db: sqlite3.Connection, endpoint_ids: Collection[EndpointId]) -> dict[EndpointId, int]:
    """Count what is pending at each endpoint that has any."""
    asked = orjson.dumps(list(endpoint_ids)).decode()
    return {endpoint_id: count for endpoint_id, count in db.execute(COUNT_PENDING_BY_ENDPOINT, (asked,)) if count}
