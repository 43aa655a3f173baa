"""An endpoint that has failed on enough dates, often enough and without a success between them is disabled."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.kit.clock import START_MS
from webhookd.core.endpoint import MOST_HOLDS, DisabledReason, EndpointStatus, Health
from webhookd.core.health import DateTrust, after_failure, after_success, age_ms, disabled, enabled
from webhookd.core.ids import DeliveryId
from webhookd.core.settings import DeliveryRules

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NOW_MS = 200 * DAY_MS
ATTEMPT = (DeliveryId(1), 1)
RULES = DeliveryRules(disable_after_days=3, disable_min_failures=5)
BY_DAYS = DeliveryRules(disable_after_days=3, disable_min_failures=0)


def failed(health: Health, *days: float, rules: DeliveryRules = BY_DAYS) -> Health:
    """Let the endpoint fail once at each of these moments, in days after midnight of the first date."""
    for day in days:
        at_ms = START_MS + round(day * DAY_MS)
        health = after_failure(health, at_ms=at_ms, attempt=ATTEMPT, rules=rules)
    return health


def succeeded(health: Health, day: float) -> Health:
    return after_success(health, at_ms=START_MS + round(day * DAY_MS), attempt=ATTEMPT)


def is_disabled(health: Health) -> bool:
    return health.status is EndpointStatus.DISABLED


def test_failures_on_enough_dates_disable_at_the_failure_that_reaches_them():
    before = failed(Health(), 0, 1)
    assert not is_disabled(before)
    after = failed(before, 2)
    assert (after.disabled_reason, after.disabled_at_ms) == (DisabledReason.FAILING, START_MS + 2 * DAY_MS)


def test_many_failures_of_one_date_are_one_date():
    health = failed(Health(), *[hour / 24 for hour in range(24)])
    assert (health.failing_days, health.failed_attempts, is_disabled(health)) == (1, 24, False)


def test_dates_are_those_of_utc_and_not_periods_of_a_day():
    minute = 1 / 1440
    assert failed(Health(), 1 - minute, 1 + minute).failing_days == 2


def test_dates_without_attempts_neither_count_nor_break_the_streak():
    health = failed(Health(), 0, 40)
    assert (health.failing_days, is_disabled(health)) == (2, False)
    assert is_disabled(failed(health, 400))


def test_enough_dates_without_enough_failures_do_not_disable():
    health = failed(Health(), 0, 1, 2, 3, rules=RULES)
    assert (health.failing_days, is_disabled(health)) == (4, False)
    assert is_disabled(failed(health, 3.5, rules=RULES))


def test_enough_failures_without_enough_dates_do_not_disable():
    health = failed(Health(), *[0.001 * n for n in range(100)], 1, rules=RULES)
    assert (health.failed_attempts, is_disabled(health)) == (101, False)


def test_by_default_the_twelfth_failure_on_a_fifth_date_disables():
    eleven = failed(Health(), 0, 0.1, 0.2, 1, 1.1, 1.2, 2, 2.1, 2.2, 3, 4, rules=DeliveryRules())
    assert not is_disabled(eleven)
    assert is_disabled(failed(eleven, 4.1, rules=DeliveryRules()))
    twelve_on_four_dates = failed(Health(), *[0.3 * n for n in range(12)], rules=DeliveryRules())
    assert (twelve_on_four_dates.failing_days, is_disabled(twelve_on_four_dates)) == (4, False)


def test_zero_days_never_disables():
    rules = DeliveryRules(disable_after_days=0, disable_min_failures=0)
    assert not is_disabled(failed(Health(), *range(400), rules=rules))


def test_one_day_and_one_failure_disable_at_once():
    assert is_disabled(failed(Health(), 0, rules=DeliveryRules(disable_after_days=1, disable_min_failures=1)))


def test_a_success_ends_the_streak():
    health = succeeded(failed(Health(), 0, 1), 1.5)
    assert (health.failing_days, health.failed_attempts, health.last_failing_date) == (0, 0, 0)
    assert not is_disabled(failed(health, 2, 3))


def test_a_success_between_failures_of_one_date_starts_a_new_streak_with_that_date():
    health = failed(succeeded(failed(Health(), 0, 1, 1.1), 1.2), 1.3)
    assert (health.failing_days, health.failed_attempts) == (1, 1)


def test_the_rules_of_the_moment_count_for_a_streak_already_running():
    health = failed(Health(), 0, 1, 2, 3, rules=DeliveryRules(disable_after_days=9))
    assert is_disabled(failed(health, 3.5, rules=BY_DAYS))


def test_a_clock_that_goes_back_adds_no_date():
    health = failed(Health(), 5, 3, 4, 5.5, 1)
    assert (health.failing_days, health.failed_attempts, is_disabled(health)) == (1, 5, False)


def trusted(*readings: tuple[float, float]) -> list[bool]:
    """Read both clocks at these moments, in hours, and return whether a date would count at each."""
    trust = DateTrust()
    return [trust.holds(START_MS + round(wall * HOUR_MS), 3600 * monotonic) for wall, monotonic in readings]


def test_dates_count_while_the_wall_clock_is_only_corrected_a_little():
    assert trusted((0, 0), (2.5, 2), (2.75, 3), (4.5, 4)) == [True] * 4


@pytest.mark.parametrize("jump", [120, 1.01, -1.01, -120])
def test_dates_do_not_count_for_half_a_day_after_a_jump(jump):
    assert trusted((0, 0), (2 + jump, 2), (13 + jump, 13), (14 + jump, 14)) == [True, False, False, True]


def test_a_clock_that_jumps_ahead_each_minute_adds_no_date():
    trust, health = DateTrust(), Health()
    for minute in range(60):
        at_ms = START_MS + minute * DAY_MS
        health = after_failure(
            health, at_ms=at_ms, attempt=ATTEMPT, rules=BY_DAYS, date_counts=trust.holds(at_ms, 60 * minute)
        )
    assert (health.failing_days, is_disabled(health)) == (1, False)


def test_failing_names_the_last_attempt_and_keeps_the_last_success():
    health = after_failure(
        Health(last_success_at_ms=7), at_ms=START_MS, attempt=(DeliveryId(9), 3), rules=DeliveryRules()
    )
    assert (health.last_attempt, health.last_success_at_ms) == ((DeliveryId(9), 3), 7)


def test_a_success_names_its_moment_and_attempt():
    health = after_success(Health(), at_ms=START_MS, attempt=(DeliveryId(9), 3))
    assert (health.last_attempt, health.last_success_at_ms) == ((DeliveryId(9), 3), START_MS)


@pytest.mark.parametrize("reason", DisabledReason)
def test_an_endpoint_disabled_for_any_reason_is_disabled(reason):
    health = disabled(Health(), reason, at_ms=NOW_MS)
    assert (health.status, health.disabled_reason, health.disabled_at_ms) == (EndpointStatus.DISABLED, reason, NOW_MS)


def test_disabling_again_keeps_the_first_reason_and_moment():
    first = disabled(Health(), DisabledReason.OPERATOR, at_ms=1)
    again = disabled(first, DisabledReason.GONE, at_ms=2)
    assert (again.disabled_reason, again.disabled_at_ms) == (DisabledReason.OPERATOR, 1)


def test_failures_that_come_in_late_keep_the_reason_and_moment():
    health = failed(disabled(Health(), DisabledReason.OPERATOR, at_ms=1), 0, 1, 2)
    assert (health.disabled_reason, health.disabled_at_ms) == (DisabledReason.OPERATOR, 1)


def test_a_success_that_comes_in_late_does_not_enable():
    health = succeeded(failed(Health(), 0, 1, 2), 2.1)
    assert (health.disabled_reason, health.disabled_at_ms) == (DisabledReason.FAILING, START_MS + 2 * DAY_MS)
    assert health.failing_days == 0


def test_enabling_ends_the_streak():
    health = enabled(failed(Health(), 0, 1, 2), at_ms=START_MS + 2 * DAY_MS)
    assert (health.status, health.failing_days, health.failed_attempts) == (EndpointStatus.ENABLED, 0, 0)
    assert not is_disabled(failed(health, 2.5, 3))


def test_enabling_ends_the_streak_of_an_endpoint_that_was_not_disabled_yet():
    health = enabled(failed(Health(), 0, 1), at_ms=START_MS + 2 * DAY_MS)
    assert (health.failing_days, health.holds) == (0, ())


def test_enabling_keeps_the_last_success_and_attempt():
    health = enabled(disabled(succeeded(Health(), 1), DisabledReason.GONE, at_ms=NOW_MS), at_ms=NOW_MS)
    assert (health.last_success_at_ms, health.last_attempt) == (START_MS + DAY_MS, ATTEMPT)


def held(*periods: tuple[int, int]) -> Health:
    """Disable and enable an endpoint over these periods, in ms."""
    health = Health()
    for start, end in periods:
        health = enabled(disabled(health, DisabledReason.OPERATOR, at_ms=start), at_ms=end)
    return health


def test_the_time_an_endpoint_was_disabled_is_noted():
    assert held((10, 20), (30, 45)).holds == ((10, 20), (30, 45))


@pytest.mark.parametrize("keep", [lambda health: succeeded(health, 1), lambda health: failed(health, 1)])
def test_attempts_do_not_forget_the_time_an_endpoint_was_disabled(keep):
    assert keep(held((10, 20))).holds == ((10, 20),)


def test_only_the_latest_holds_are_kept():
    periods = [(10 * n, 10 * n + 5) for n in range(MOST_HOLDS + 3)]
    assert held(*periods).holds == tuple(periods[3:])


def test_a_hold_that_ended_before_it_began_is_none():
    assert held((20, 10)).holds == ()


AGES: list[tuple[str, Health, int, int, int]] = [
    ("never disabled", Health(), 100, 350, 250),
    ("disabled in between", held((150, 200)), 100, 350, 200),
    ("disabled twice", held((150, 200), (300, 340)), 100, 350, 160),
    ("disabled before", held((10, 90)), 100, 350, 250),
    ("accepted while disabled", held((10, 120)), 100, 350, 230),
    ("disabled still", disabled(Health(), DisabledReason.GONE, at_ms=300), 100, 350, 200),
    ("disabled again", disabled(held((150, 200)), DisabledReason.GONE, at_ms=300), 100, 350, 150),
    ("accepted while disabled still", disabled(Health(), DisabledReason.GONE, at_ms=50), 100, 350, 0),
    ("the clock went back between two holds", held((150, 300), (200, 340)), 100, 350, 60),
    ("the clock went back after a hold", held((150, 900)), 100, 350, 50),
    ("the clock went back behind acceptance", Health(), 100, 50, 0),
    ("the clock went back behind acceptance and a hold", held((150, 900)), 100, 50, 0),
    ("the clock went back behind the disabling", disabled(Health(), DisabledReason.GONE, at_ms=900), 100, 350, 250),
]


def _names(rows: Iterable[tuple[object, ...]]) -> list[str]:
    return [str(row[0]) for row in rows]


@pytest.mark.parametrize(("health", "since", "now", "age"), [row[1:] for row in AGES], ids=_names(AGES))
def test_a_delivery_does_not_age_while_its_endpoint_is_disabled(health, since, now, age):
    assert age_ms(health, owed_since_ms=since, now_ms=now) == age
