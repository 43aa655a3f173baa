"""Settling: attempts and what they make of their deliveries, as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import orjson

from webhookd.core.endpoint import Health
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Settlement, Submission
from webhookd.store.sqlite.rows import Row, attempt_row, health_row
from webhookd.store.sqlite.statements import RowStatement

# Of a delivery that retention has already taken nothing is kept: no later round would find the row.
INSERT_ATTEMPTS = RowStatement(
    """
    WITH told (delivery_id, number, trigger, started_at_ms, duration_ms, status, error_class, error_text,
               dns_ms, connect_ms, tls_ms, first_byte_ms, retry_after_seconds, excerpt) AS (VALUES """,
    "({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11}, {12}, {13})",
    """)
    INSERT INTO attempts (delivery_id, number, trigger, started_at_ms, duration_ms, status, error_class, error_text,
                          dns_ms, connect_ms, tls_ms, first_byte_ms, retry_after_seconds, excerpt)
    SELECT told.* FROM told WHERE EXISTS (SELECT 1 FROM deliveries AS d WHERE d.id = told.delivery_id)
    """,
    width=14,
)

# A delivery that was ended while the attempt was in flight stays as it is, and so does one that was resent then and has
# a fresh schedule before it, unless the attempt was acknowledged.
_STANDS = "(d.state <> 'pending' OR (d.trigger = 'manual' AND told.trigger <> 'manual' AND told.state <> 'delivered'))"

# The attempt is counted in any case. A delivery that was delivered before goes back to that.
UPDATE_DELIVERIES = RowStatement(
    """
    WITH told (id, number, trigger, state, reason, retries_used, due_at_ms, finished_at_ms) AS (VALUES """,
    "({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7})",
    f""")
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
    """,
    width=8,
)

FIND_DEATHS = """
SELECT d.id, d.finished_at_ms FROM json_each(?) AS told CROSS JOIN deliveries AS d ON d.id = told.value
WHERE d.state = 'dead'
"""

UPDATE_HEALTH = RowStatement(
    """
    WITH told (id, disabled_reason, disabled_at_ms, failing_days, last_failing_date, failed_attempts,
               last_success_at_ms, last_attempt_delivery_id, last_attempt_number, holds) AS (VALUES """,
    "({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9})",
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
    width=10,
)


def settle(db: sqlite3.Connection, settlements: Iterable[Settlement]) -> None:
    """Keep every attempt, and change the deliveries that are still pending."""
    attempts: list[Row] = []
    changes: dict[int, Row] = {}
    for settlement in settlements:
        attempt = settlement.attempt
        attempts.append(attempt_row(attempt))
        if attempt.delivery_id in changes:
            # Which of two rows an UPDATE … FROM takes is not defined, so the earlier one goes first by itself.
            UPDATE_DELIVERIES.run(db, list(changes.values()))
            changes.clear()
        changes[attempt.delivery_id] = (
            attempt.delivery_id,
            attempt.number,
            attempt.trigger.value,
            settlement.state.value,
            settlement.reason,
            settlement.retries_used,
            settlement.due_at_ms,
            settlement.finished_at_ms,
        )
    INSERT_ATTEMPTS.run(db, attempts)
    UPDATE_DELIVERIES.run(db, list(changes.values()))


def without_false_deaths(db: sqlite3.Connection, events: Sequence[Submission]) -> list[Submission]:
    """Return `events` without those that tell of a death which the delivery, ended otherwise meanwhile, did not die."""
    told = [event.death_of for event in events if event.death_of is not None]
    died = dict(db.execute(FIND_DEATHS, (orjson.dumps(told).decode(),)).fetchall()) if told else {}
    return [
        event for event in events if event.death_of is None or died.get(event.death_of) == event.event.accepted_at_ms
    ]


def record_health(db: sqlite3.Connection, health: Mapping[EndpointId, Health]) -> None:
    """Write the health of those endpoints that exist."""
    UPDATE_HEALTH.run(db, [(endpoint_id, *health_row(value)) for endpoint_id, value in health.items()])
