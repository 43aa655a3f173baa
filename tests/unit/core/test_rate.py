"""A rate spaces starts evenly, also after a pause, and late timers do not lower it."""

from __future__ import annotations

import pytest

from webhookd.core.rate import RateLimit


def starts(limit: RateLimit, count: int, *, now: float) -> list[float]:
    """Start as soon as allowed, this many times, and return when, in seconds after `now`."""
    moments = []
    for _ in range(count):
        at = max(now + sum(moments[-1:]), limit.next_start)
        limit.started(at)
        moments.append(at - now)
    return moments


def test_without_a_rate_everything_may_start_at_once():
    assert starts(RateLimit(None), 1000, now=100.0) == [0.0] * 1000


def test_nothing_waits_before_the_first_start():
    assert RateLimit(0.001).next_start <= 0.0


@pytest.mark.parametrize(("per_second", "seconds"), [(4, 0.25), (1, 1.0), (0.5, 2.0), (1 / 64, 64.0)])
def test_starts_are_evenly_spaced_from_the_first_on(per_second, seconds):
    assert starts(RateLimit(per_second), 4, now=100.0) == [0, seconds, 2 * seconds, 3 * seconds]


def test_a_pause_saves_nothing_up():
    limit = RateLimit(4)
    starts(limit, 100, now=100.0)
    assert starts(limit, 3, now=100_000.0) == [0, 0.25, 0.5]


def test_a_start_that_comes_a_little_late_does_not_put_off_the_ones_after_it():
    limit = RateLimit(4)
    limit.started(100.0)
    limit.started(100.28125)
    assert limit.next_start == 100.5


def test_a_start_that_comes_much_too_late_is_where_the_spacing_begins_anew():
    limit = RateLimit(4)
    limit.started(100.0)
    limit.started(100.5)
    assert limit.next_start == 100.75


def test_a_higher_rate_does_not_wait_for_the_lower_one_before_it():
    limit = RateLimit(0.001)
    limit.started(100.0)
    assert limit.next_start == 1100.0
    limit.change(2)
    assert limit.next_start <= 100.5


def test_no_limit_does_not_wait_for_the_rate_before_it():
    limit = RateLimit(0.001)
    limit.started(100.0)
    limit.change(None)
    assert limit.next_start <= 100.0


def test_a_lower_rate_holds_from_the_last_start_on():
    limit = RateLimit(50)
    limit.started(100.0)
    limit.change(0.1)
    assert limit.next_start == pytest.approx(110.0)


def test_the_same_rate_again_changes_nothing():
    limit = RateLimit(4)
    starts(limit, 6, now=100.0)
    before = limit.next_start
    limit.change(4)
    assert limit.next_start == before


def test_a_first_rate_for_an_endpoint_long_in_use_starts_fresh():
    limit = RateLimit(None)
    limit.started(100.0)
    limit.change(0.5)
    assert starts(limit, 2, now=100.0) == [0, 2]
