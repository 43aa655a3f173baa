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
    whole = dict(zip(ATTEMPT_COLUMNS.split(", "), attempt_row(attempt), strict=True))
    plain = tuple(whole.pop(column) for column in PLAIN_ATTEMPT_COLUMNS.split(", "))
    is_all = not any(value is not None for value in whole.values())
    assert plain_attempt_row(attempt) == (plain if is_all else None)
