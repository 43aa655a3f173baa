"""Rows to data and back, and the selections that name their columns."""

from __future__ import annotations

import json
import sqlite3

import orjson

from webhookd.core.attempt import Attempt, AttemptError, ErrorClass, Outcome, Phases, Trigger
from webhookd.core.delivery import Delivery, DeliveryState
from webhookd.core.endpoint import DisabledReason, EndpointRecord, Health
from webhookd.core.ids import DeliveryId

Row = tuple[object, ...]

SELECT_DELIVERY = """
SELECT d.id, d.event_id, d.endpoint_id, e.tenant, e.type, d.state,
       d.state = 'pending' AND p.disabled_reason IS NOT NULL,
       d.reason, d.attempt_count, d.retries_used, d.owed_since_ms, d.created_at_ms, d.due_at_ms, d.finished_at_ms
FROM deliveries AS d
JOIN events AS e ON e.id = d.event_id
LEFT JOIN endpoints AS p ON p.id = d.endpoint_id
"""

ATTEMPT_COLUMNS = (
    "delivery_id, number, trigger, started_at_ms, duration_ms, status, error_class, error_text, "
    "dns_ms, connect_ms, tls_ms, first_byte_ms, retry_after_seconds, excerpt"
)

PLAIN_ATTEMPT_COLUMNS = "delivery_id, number, trigger, started_at_ms, duration_ms, status, first_byte_ms, excerpt"

SELECT_ATTEMPT = f"SELECT {ATTEMPT_COLUMNS} FROM attempts"

SELECT_ENDPOINT = """
SELECT id, declared, created_at_ms, given, secret, previous_secret, previous_secret_until_ms, sample,
       disabled_reason, disabled_at_ms, failing_days,
       last_failing_date, failed_attempts, last_success_at_ms, last_attempt_delivery_id, last_attempt_number, holds
FROM endpoints
"""


def delivery_of(row: tuple) -> Delivery:  # type: ignore[type-arg]  # the columns of SELECT_DELIVERY
    """Return the delivery in a row of SELECT_DELIVERY."""
    return Delivery(
        id=row[0],
        event_id=row[1],
        endpoint_id=row[2],
        tenant=row[3],
        event_type=row[4],
        state=DeliveryState(row[5]),
        held=bool(row[6]),
        reason=row[7],
        attempt_count=row[8],
        retries_used=row[9],
        owed_since_ms=row[10],
        created_at_ms=row[11],
        due_at_ms=row[12],
        finished_at_ms=row[13],
    )


def find_delivery(db: sqlite3.Connection, delivery_id: DeliveryId) -> Delivery | None:
    """Return one delivery, None where there is none."""
    row = db.execute(f"{SELECT_DELIVERY} WHERE d.id = ?", (delivery_id,)).fetchone()
    return None if row is None else delivery_of(row)


def attempt_row(attempt: Attempt) -> Row:
    """Return ATTEMPT_COLUMNS."""
    outcome = attempt.outcome
    phases = outcome.phases
    error = outcome.error
    return (
        attempt.delivery_id,
        attempt.number,
        attempt.trigger._value_,
        attempt.started_at_ms,
        outcome.duration_ms,
        outcome.status,
        None if error is None else error.kind._value_,
        None if error is None else error.text,
        phases.dns_ms,
        phases.connect_ms,
        phases.tls_ms,
        phases.first_byte_ms,
        outcome.retry_after_seconds,
        outcome.excerpt,
    )


def plain_attempt_row(attempt: Attempt) -> Row | None:
    """Return PLAIN_ATTEMPT_COLUMNS, or None where those are not all that there is to keep."""
    outcome = attempt.outcome
    phases = outcome.phases
    if (
        outcome.error is not None
        or phases.connect_ms is not None
        or phases.dns_ms is not None
        or phases.tls_ms is not None
        or outcome.retry_after_seconds is not None
    ):
        return None
    return (
        attempt.delivery_id,
        attempt.number,
        attempt.trigger._value_,
        attempt.started_at_ms,
        outcome.duration_ms,
        outcome.status,
        phases.first_byte_ms,
        outcome.excerpt,
    )


def attempt_of(row: tuple) -> Attempt:  # type: ignore[type-arg]  # ATTEMPT_COLUMNS
    """Return the attempt in a row of SELECT_ATTEMPT."""
    return Attempt(
        delivery_id=row[0],
        number=row[1],
        trigger=Trigger(row[2]),
        started_at_ms=row[3],
        outcome=Outcome(
            duration_ms=row[4],
            status=row[5],
            error=None if row[6] is None else AttemptError(kind=ErrorClass(row[6]), text=row[7]),
            phases=Phases(dns_ms=row[8], connect_ms=row[9], tls_ms=row[10], first_byte_ms=row[11]),
            retry_after_seconds=row[12],
            excerpt=row[13],
        ),
    )


def health_row(health: Health) -> Row:
    """Return the nine columns of SELECT_ENDPOINT that follow `sample`."""
    delivery_id, number = health.last_attempt or (None, None)
    return (
        None if health.disabled_reason is None else health.disabled_reason.value,
        health.disabled_at_ms,
        health.failing_days,
        health.last_failing_date,
        health.failed_attempts,
        health.last_success_at_ms,
        delivery_id,
        number,
        orjson.dumps(health.holds).decode() if health.holds else None,
    )


def endpoint_row(record: EndpointRecord) -> Row:
    """Return the columns of SELECT_ENDPOINT."""
    # Not orjson, which has no whole numbers of more than 64 bits: a filter may compare with one.
    given = json.dumps(record.given, ensure_ascii=False)
    return (
        record.id,
        int(record.declared),
        record.created_at_ms,
        given,
        record.secret,
        record.previous_secret,
        record.previous_secret_until_ms,
        record.sample,
        *health_row(record.health),
    )


def endpoint_of(row: tuple) -> EndpointRecord:  # type: ignore[type-arg]  # the columns of SELECT_ENDPOINT
    """Return the endpoint in a row of SELECT_ENDPOINT."""
    return EndpointRecord(
        id=row[0],
        declared=bool(row[1]),
        created_at_ms=row[2],
        given=json.loads(row[3]),
        secret=row[4],
        previous_secret=row[5],
        previous_secret_until_ms=row[6],
        sample=row[7],
        health=Health(
            disabled_reason=None if row[8] is None else DisabledReason(row[8]),
            disabled_at_ms=row[9],
            failing_days=row[10],
            last_failing_date=row[11],
            failed_attempts=row[12],
            last_success_at_ms=row[13],
            last_attempt=None if row[14] is None else (row[14], row[15]),
            holds=() if row[16] is None else tuple((start, end) for start, end in orjson.loads(row[16])),
        ),
    )
