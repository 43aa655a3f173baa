"""Retries come when the plan says, a little later, and never sooner."""

from __future__ import annotations

import pytest

from webhookd.core.schedule import delay_seconds, delays, retry_at_ms
from webhookd.core.settings import DAY, HOUR, MINUTE, DeliveryRules, RetryGrowth, RetryList

NOW_MS = 1_735_689_600_000


def growth(
    *, first_seconds: float = 300, factor: float = 2, retries: int = 9, max_seconds: float = 14 * HOUR
) -> RetryGrowth:
    return RetryGrowth(first_seconds=first_seconds, factor=factor, retries=retries, max_seconds=max_seconds)


def test_the_default_schedule_is_nine_retries_over_more_than_three_days():
    default = delays(DeliveryRules().retry)
    assert default == (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, DAY)
    assert sum(default) == 75 * HOUR + 35 * MINUTE + 5


def test_the_default_schedule_ends_before_a_delivery_is_too_old_even_with_all_jitter():
    rules = DeliveryRules()
    assert sum(delays(rules.retry)) * (1 + rules.jitter) < rules.give_up_after_seconds


def test_delays_grow_by_the_factor_up_to_the_most():
    minutes = [delay / MINUTE for delay in delays(growth())]
    assert minutes == [5, 10, 20, 40, 80, 160, 320, 640, 840]


def test_a_factor_of_one_keeps_the_first_delay():
    assert delays(growth(factor=1, retries=3)) == (300, 300, 300)


def test_the_first_delay_too_is_at_most_the_most():
    assert delays(growth(max_seconds=60, retries=2)) == (60, 60)


@pytest.mark.parametrize("factor", [2, 2.0, 1e300])
def test_growth_beyond_every_number_stays_at_the_most(factor):
    assert delay_seconds(growth(factor=factor, retries=100_000), 99_999) == 14 * HOUR


@pytest.mark.parametrize("plan", [RetryList((5, 7)), growth(first_seconds=5, factor=1.4, retries=2)])
def test_after_the_first_attempt_the_first_delay_counts(plan):
    assert [delay_seconds(plan, used) for used in range(4)] == [5, 7, None, None]


@pytest.mark.parametrize("plan", [RetryList(()), growth(retries=0)])
def test_a_plan_may_have_no_retries(plan):
    assert delays(plan) == ()
    assert retry_at_ms(plan, 0, now_ms=NOW_MS, jitter=0.1, draw=0.5) is None


@pytest.mark.parametrize(("draw", "delay_ms"), [(0.0, 10_000), (0.5, 10_500), (0.999, 10_999)])
def test_jitter_lengthens_the_delay_by_up_to_its_share(draw, delay_ms):
    assert retry_at_ms(RetryList((10,)), 0, now_ms=NOW_MS, jitter=0.1, draw=draw) == NOW_MS + delay_ms


def test_without_jitter_the_draw_is_nothing():
    assert retry_at_ms(RetryList((0.25,)), 0, now_ms=NOW_MS, jitter=0, draw=0.999) == NOW_MS + 250
