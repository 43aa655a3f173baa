"""Rows of attempts, whole and without the columns that are nearly always empty."""

from __future__ import annotations

from itertools import product

import pytest

from webhookd.core.attempt import Attempt, AttemptError, ErrorClass, Outcome, Phases, Trigger
from webhookd.core.ids import DeliveryId
from webhookd.store.sqlite.rows import (
    ATTEMPT_COLUMNS,
    PLAIN_ATTEMPT_COLUMNS,
    attempt_of,
    attempt_row,
    plain_attempt_row,
)

BROKEN = AttemptError(kind=ErrorClass.TLS, text="no")


@pytest.mark.parametrize("error", [None, BROKEN])
@pytest.mark.parametrize("phases", list(product((None, 0.5), repeat=4)))
@pytest.mark.parametrize("retry_after_seconds", [None, 2.0])
def test_what_is_plain_says_everything_in_fewer_columns(
    error: AttemptError | None, phases: tuple[float | None, ...], retry_after_seconds: float | None
) -> None:
    dns_ms, connect_ms, tls_ms, first_byte_ms = phases
    attempt = Attempt(
        delivery_id=DeliveryId(1),
        number=2,
        trigger=Trigger.MANUAL,
        started_at_ms=3,
        outcome=Outcome(
            duration_ms=4.0,
            status=200 if error is None else None,
            error=error,
            phases=Phases(dns_ms=dns_ms, connect_ms=connect_ms, tls_ms=tls_ms, first_byte_ms=first_byte_ms),
            excerpt=b"5",
            retry_after_seconds=retry_after_seconds,
        ),
    )
    assert attempt_of(attempt_row(attempt)) == attempt
    only_plain = error is None and retry_after_seconds is None and dns_ms is connect_ms is tls_ms is None
    row = plain_attempt_row(attempt)
    assert (row is not None) == only_plain
    if row is not None:
        plain = dict(zip(PLAIN_ATTEMPT_COLUMNS.split(", "), row, strict=True))
        assert attempt_of(tuple(plain.get(column) for column in ATTEMPT_COLUMNS.split(", "))) == attempt
