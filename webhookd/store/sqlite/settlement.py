"""Settling: attempts and what they make of their deliveries, as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import orjson

from webhookd.core.attempt import Attempt
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import Health
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.ports import Settlement, Submission
from webhookd.store.sqlite.rows import (
    ATTEMPT_COLUMNS,
    PLAIN_ATTEMPT_COLUMNS,
    attempt_row,
    health_row,
    plain_attempt_row,
)
from webhookd.store.sqlite.statements import RowStatement

_DELIVERED = DeliveryState.DELIVERED


def _insert_attempts(columns: str) -> RowStatement:
    return RowStatement(
        f"INSERT INTO attempts ({columns}) VALUES ",
        f"({', '.join('?' for _ in columns.split(','))})",
    )


INSERT_ATTEMPTS = _insert_attempts(ATTEMPT_COLUMNS)

# Nearly all are answered on a connection that was kept, and have nothing in six of their columns.
INSERT_PLAIN_ATTEMPTS = _insert_attempts(PLAIN_ATTEMPT_COLUMNS)

# A delivery that was ended while the attempt was in flight stays as it is. The condition names both tables: of one on
# deliveries alone, in a database that somebody ran ANALYZE on, SQLite would make a filter by reading them all.
_IS_PENDING = "iif(d.id = told.id, d.state, NULL) = 'pending'"

UPDATE_DELIVERED = RowStatement(
    "WITH told (id, number, retries_used, finished_at_ms) AS (VALUES ",
    "(?, ?, ?, ?)",
    f""")
    UPDATE deliveries AS d SET
        attempt_count = max(d.attempt_count, told.number),
        state = 'delivered',
        reason = NULL,
        trigger = 'scheduled',
        replayed = 0,
        retries_used = told.retries_used,
        due_at_ms = NULL,
        finished_at_ms = told.finished_at_ms,
        acknowledged_at_ms = NULL
    FROM told WHERE d.id = told.id AND {_IS_PENDING}
    """,
)

# Where the attempt did not deliver it, a delivery that was resent meanwhile stays as it is too, with the fresh schedule
# that it has before it. One that was delivered before goes back to that.
UPDATE_UNDELIVERED = RowStatement(
    "WITH told (id, number, trigger, state, reason, retries_used, due_at_ms, finished_at_ms) AS (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    f""")
    UPDATE deliveries AS d SET
        attempt_count = max(d.attempt_count, told.number),
        state = iif(d.acknowledged_at_ms IS NULL, told.state, 'delivered'),
        reason = iif(d.acknowledged_at_ms IS NULL, told.reason, NULL),
        trigger = 'scheduled',
        replayed = 0,
        retries_used = told.retries_used,
        due_at_ms = iif(d.acknowledged_at_ms IS NULL, told.due_at_ms, NULL),
        finished_at_ms = iif(d.acknowledged_at_ms IS NULL, told.finished_at_ms, d.acknowledged_at_ms),
        acknowledged_at_ms = NULL
    FROM told WHERE d.id = told.id AND {_IS_PENDING} AND (d.trigger <> 'manual' OR told.trigger = 'manual')
    """,
)

# An attempt is counted also where the delivery stays as it is. Where it has been counted already, nothing changes.
COUNT_ATTEMPTS = RowStatement(
    "WITH told (id, number) AS (VALUES ",
    "(?, ?)",
    """)
    UPDATE deliveries AS d SET attempt_count = max(d.attempt_count, told.number) FROM told WHERE d.id = told.id
    """,
)

FIND_DELIVERIES = "SELECT d.id FROM json_each(?) AS told CROSS JOIN deliveries AS d ON d.id = told.value"

FIND_DEATHS = """
SELECT d.id, d.finished_at_ms FROM json_each(?) AS told CROSS JOIN deliveries AS d ON d.id = told.value
WHERE d.state = 'dead'
"""

UPDATE_HEALTH = RowStatement(
    """
    WITH told (id, disabled_reason, disabled_at_ms, failing_days, last_failing_date, failed_attempts,
               last_success_at_ms, last_attempt_delivery_id, last_attempt_number, holds) AS (VALUES """,
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    """)
    UPDATE endpoints AS p SET
        disabled_reason = told.disabled_reason,
        disabled_at_ms = told.disabled_at_ms,
        failing_days = told.failing_days,
        last_failing_date = told.last_failing_date,
        failed_attempts = told.failed_attempts,
        last_success_at_ms = told.last_success_at_ms,
        last_attempt_delivery_id = told.last_attempt_delivery_id,
        last_attempt_number = told.last_attempt_number,
        holds = told.holds
    FROM told WHERE p.id = told.id
    """,
)


def settle(db: sqlite3.Connection, settlements: Iterable[Settlement]) -> None:
    """Keep the attempts of all deliveries that are still there, and change those that are still pending."""
    told: dict[DeliveryId, Settlement] = {}
    for settlement in settlements:
        delivery_id = settlement.attempt.delivery_id
        if delivery_id in told:
            # Which of two rows an UPDATE … FROM takes is not defined, so the earlier one goes first by itself.
            _settle(db, told)
            told.clear()
        told[delivery_id] = settlement
    _settle(db, told)


def _settle(db: sqlite3.Connection, told: Mapping[DeliveryId, Settlement]) -> None:
    before = db.total_changes
    _change(db, told.values())
    if db.total_changes - before < len(told):
        # Not all were changed, so some may not even be there.
        numbers = ((delivery_id, settlement.attempt.number) for delivery_id, settlement in told.items())
        COUNT_ATTEMPTS.run(db, list(chain.from_iterable(numbers)))
        # Of a delivery that retention has already taken nothing is kept: no later round would find the row.
        found = db.execute(FIND_DELIVERIES, (orjson.dumps(list(told)).decode(),)).fetchall()
        told = {delivery_id: told[delivery_id] for (delivery_id,) in found}
    _keep(db, [settlement.attempt for settlement in told.values()])


def _change(db: sqlite3.Connection, settlements: Iterable[Settlement]) -> None:
    delivered: list[object] = []
    undelivered: list[object] = []
    for settlement in settlements:
        attempt = settlement.attempt
        if settlement.state is _DELIVERED:
            delivered += (attempt.delivery_id, attempt.number, settlement.retries_used, settlement.finished_at_ms)
        else:
            undelivered += (
                attempt.delivery_id,
                attempt.number,
                attempt.trigger._value_,
                settlement.state._value_,
                settlement.reason,
                settlement.retries_used,
                settlement.due_at_ms,
                settlement.finished_at_ms,
            )
    UPDATE_DELIVERED.run(db, delivered)
    UPDATE_UNDELIVERED.run(db, undelivered)


def _keep(db: sqlite3.Connection, attempts: Iterable[Attempt]) -> None:
    whole: list[object] = []
    plain: list[object] = []
    for attempt in attempts:
        row = plain_attempt_row(attempt)
        if row is None:
            whole += attempt_row(attempt)
        else:
            plain += row
    INSERT_ATTEMPTS.run(db, whole)
    INSERT_PLAIN_ATTEMPTS.run(db, plain)


def without_false_deaths(db: sqlite3.Connection, events: Sequence[Submission]) -> list[Submission]:
    """Return `events` without those that tell of a death which the delivery, ended otherwise meanwhile, did not die."""
    told = [event.death_of for event in events if event.death_of is not None]
    died = dict(db.execute(FIND_DEATHS, (orjson.dumps(told).decode(),)).fetchall()) if told else {}
    return [
        event for event in events if event.death_of is None or died.get(event.death_of) == event.event.accepted_at_ms
    ]


def record_health(db: sqlite3.Connection, health: Mapping[EndpointId, Health]) -> None:
    """Write the health of those endpoints that exist."""
    values: list[object] = []
    for endpoint_id, value in health.items():
        values += (endpoint_id, *health_row(value))
    UPDATE_HEALTH.run(db, values)
