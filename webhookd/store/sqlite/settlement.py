"""Settling: attempts and what they make of their deliveries, as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import orjson

from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import Health
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Settlement, Submission
from webhookd.store.sqlite.rows import (
    ATTEMPT_COLUMNS,
    PLAIN_ATTEMPT_COLUMNS,
    attempt_row,
    health_row,
    is_plain,
    plain_attempt_row,
)
from webhookd.store.sqlite.statements import RowStatement

_DELIVERED = DeliveryState.DELIVERED


def _insert_attempts(columns: str) -> RowStatement:
    # Of a delivery that retention has already taken nothing is kept: no later round would find the row.
    return RowStatement(
        f"WITH told ({columns}) AS (VALUES ",
        f"({', '.join('?' for _ in columns.split(','))})",
        f""")
        INSERT INTO attempts ({columns})
        SELECT told.* FROM told WHERE EXISTS (SELECT 1 FROM deliveries AS d WHERE d.id = told.delivery_id)
        """,
    )


INSERT_ATTEMPTS = _insert_attempts(ATTEMPT_COLUMNS)

# Nearly all are answered on a connection that was kept, and have nothing in six of their columns.
INSERT_PLAIN_ATTEMPTS = _insert_attempts(PLAIN_ATTEMPT_COLUMNS)

# A delivery that was ended while the attempt was in flight stays as it is, and so does one that was resent then and has
# a fresh schedule before it, unless the attempt was acknowledged.
_STANDS = "(d.state <> 'pending' OR (d.trigger = 'manual' AND told.trigger <> 'manual' AND told.state <> 'delivered'))"

# The attempt is counted in any case. A delivery that was delivered before goes back to that.
_UPDATE_DELIVERIES = f"""
    UPDATE deliveries AS d SET
        attempt_count = max(d.attempt_count, told.number),
        state = iif({_STANDS}, d.state, iif(d.acknowledged_at_ms IS NULL, told.state, 'delivered')),
        reason = iif({_STANDS}, d.reason, iif(d.acknowledged_at_ms IS NULL, told.reason, NULL)),
        trigger = iif({_STANDS}, d.trigger, 'scheduled'),
        replayed = iif({_STANDS}, d.replayed, 0),
        retries_used = iif({_STANDS}, d.retries_used, told.retries_used),
        due_at_ms = iif({_STANDS}, d.due_at_ms, iif(d.acknowledged_at_ms IS NULL, told.due_at_ms, NULL)),
        finished_at_ms = CASE
            WHEN {_STANDS} THEN d.finished_at_ms
            WHEN d.acknowledged_at_ms IS NOT NULL AND told.state <> 'delivered' THEN d.acknowledged_at_ms
            ELSE told.finished_at_ms
        END,
        acknowledged_at_ms = iif({_STANDS}, d.acknowledged_at_ms, NULL)
    FROM told WHERE d.id = told.id
"""

UPDATE_DELIVERIES = RowStatement(
    "WITH told (id, number, trigger, state, reason, retries_used, due_at_ms, finished_at_ms) AS (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    f"){_UPDATE_DELIVERIES}",
)

# The same for what was acknowledged, where all but four columns say so. By which trigger no longer matters then.
UPDATE_DELIVERED = RowStatement(
    "WITH brief (id, number, retries_used, finished_at_ms) AS (VALUES ",
    "(?, ?, ?, ?)",
    f"""), told AS (
        SELECT id, number, 'scheduled' AS trigger, 'delivered' AS state, NULL AS reason, retries_used,
               NULL AS due_at_ms, finished_at_ms
        FROM brief
    ){_UPDATE_DELIVERIES}""",
)

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
    """Keep every attempt, and change the deliveries that are still pending."""
    attempts: list[object] = []
    plain: list[object] = []
    delivered: list[object] = []
    changes: list[object] = []
    changed: set[int] = set()
    for settlement in settlements:
        attempt = settlement.attempt
        delivery_id = attempt.delivery_id
        if is_plain(attempt):
            plain += plain_attempt_row(attempt)
        else:
            attempts += attempt_row(attempt)
        if delivery_id in changed:
            # Which of two rows an UPDATE … FROM takes is not defined, so the earlier one goes first by itself.
            _change(db, delivered, changes)
            changed.clear()
        changed.add(delivery_id)
        if settlement.state is _DELIVERED:
            delivered += (delivery_id, attempt.number, settlement.retries_used, settlement.finished_at_ms)
        else:
            changes += (
                delivery_id,
                attempt.number,
                attempt.trigger._value_,
                settlement.state._value_,
                settlement.reason,
                settlement.retries_used,
                settlement.due_at_ms,
                settlement.finished_at_ms,
            )
    INSERT_ATTEMPTS.run(db, attempts)
    INSERT_PLAIN_ATTEMPTS.run(db, plain)
    _change(db, delivered, changes)


def _change(db: sqlite3.Connection, delivered: list[object], changes: list[object]) -> None:
    UPDATE_DELIVERED.run(db, delivered)
    UPDATE_DELIVERIES.run(db, changes)
    delivered.clear()
    changes.clear()


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
