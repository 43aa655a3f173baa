"""The consecutive-days rule: when an endpoint's failures disable it, and what enabling means."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from webhookd.core.endpoint import MOST_HOLDS, DisabledReason, Health
from webhookd.core.ids import DeliveryId
from webhookd.core.settings import DeliveryRules

_DAY_MS = 86_400_000
_JUMP_MS = 3_600_000
_DISTRUST_SECONDS = 43_200.0


class DateTrust:
    """Says whether the wall clock's date may be counted as another date of failure.

    A jump of more than an hour within one run of the daemon takes that trust away for half a day of real time, so that
    no jump, and no series of them, can disable an endpoint that has not failed for days.
    """

    def __init__(self) -> None:
        self._offset_ms: float | None = None
        self._trusted_from = 0.0

    def holds(self, wall_ms: int, monotonic_seconds: float) -> bool:
        """Take one reading of both clocks, and say whether a date told by the wall clock counts now."""
        offset_ms = wall_ms - 1000 * monotonic_seconds
        if self._offset_ms is not None and abs(offset_ms - self._offset_ms) > _JUMP_MS:
            self._trusted_from = monotonic_seconds + _DISTRUST_SECONDS
        self._offset_ms = offset_ms
        return monotonic_seconds >= self._trusted_from


def after_success(health: Health, *, at_ms: int, attempt: tuple[DeliveryId, int]) -> Health:
    """Return the health after an acknowledged attempt: whatever streak there was is over."""
    return Health(
        disabled_reason=health.disabled_reason,
        disabled_at_ms=health.disabled_at_ms,
        last_success_at_ms=at_ms,
        last_attempt=attempt,
        holds=health.holds,
    )


def after_failure(
    health: Health, *, at_ms: int, attempt: tuple[DeliveryId, int], rules: DeliveryRules, date_counts: bool = True
) -> Health:
    """Return the health after a failed attempt, disabled if the streak now reaches both bounds of `rules`.

    The streak holds the number of different UTC dates with a failure; dates without attempts neither count nor end it.
    A date that is not later than the last one counted is not counted again, so a clock that goes back adds nothing, and
    `date_counts` is false while the clock's date is not to be trusted.
    """
    date = at_ms // _DAY_MS
    new_date = (date > health.last_failing_date and date_counts) or health.failing_days == 0
    failed = replace(
        health,
        failing_days=health.failing_days + 1 if new_date else health.failing_days,
        last_failing_date=date if new_date else health.last_failing_date,
        failed_attempts=health.failed_attempts + 1,
        last_attempt=attempt,
    )
    streak_is_over_the_bounds = (
        0 < rules.disable_after_days <= failed.failing_days and failed.failed_attempts >= rules.disable_min_failures
    )
    if streak_is_over_the_bounds:
        return disabled(failed, DisabledReason.FAILING, at_ms=at_ms)
    return failed


def disabled(health: Health, reason: DisabledReason, *, at_ms: int) -> Health:
    """Return the health of an endpoint that is disabled from now on; one that already is keeps reason and moment."""
    if health.disabled_reason is not None:
        return health
    return replace(health, disabled_reason=reason, disabled_at_ms=at_ms)


def enabled(health: Health, *, at_ms: int) -> Health:
    """Return the health of an endpoint that is enabled from now on: no streak, and the time of disablement noted."""
    holds = health.holds
    if health.disabled_at_ms is not None and at_ms > health.disabled_at_ms:
        holds = (*holds, (health.disabled_at_ms, at_ms))[-MOST_HOLDS:]
    return Health(last_success_at_ms=health.last_success_at_ms, last_attempt=health.last_attempt, holds=holds)


def age_ms(health: Health, *, owed_since_ms: int, now_ms: int, skipped: Iterable[tuple[int, int]] = ()) -> int:
    """Return how long a delivery has been owed, leaving out the time in which its endpoint was disabled.

    `skipped` is from where to where the clock jumped: that was no time at all.

    Never negative: after the clock went back, holds may overlap or lie in the future, and no moment is left out twice.
    """
    holds = (*health.holds, *skipped)
    if health.disabled_at_ms is not None:
        holds = (*holds, (health.disabled_at_ms, now_ms))
    age, looked_at_until = max(0, now_ms - owed_since_ms), owed_since_ms
    for start, end in sorted(holds):
        held_until = min(end, now_ms)
        age -= max(0, held_until - max(start, looked_at_until))
        looked_at_until = max(looked_at_until, held_until)
    return age
