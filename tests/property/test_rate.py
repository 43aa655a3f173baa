"""In no window of time does more start than the rate allows, and nothing waits without need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.rate import RateLimit

CATCH_UP_SECONDS = 0.05
rates = st.floats(min_value=0.01, max_value=200)
gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 100)), min_size=1, max_size=80)


@given(rates, gaps)
def test_no_window_of_time_holds_more_than_rate_times_time_and_a_burst(per_second, wanted):
    limit, now, moments = RateLimit(per_second), 1000.0, []
    for gap in wanted:
        now = max(now + gap, limit.next_start)
        limit.started(now)
        moments.append(now)
    burst = 1 + CATCH_UP_SECONDS * per_second
    for first, opened in enumerate(moments):
        for last in range(first, len(moments)):
            assert last - first + 1 <= per_second * (moments[last] - opened) + burst + 1e-6


@given(rates, st.integers(1, 300))
def test_an_endpoint_kept_busy_gets_all_of_its_rate(per_second, count):
    limit, now = RateLimit(per_second), 1000.0
    for _ in range(count):
        now = max(now, limit.next_start)
        limit.started(now)
    assert now - 1000.0 == pytest.approx((count - 1) / per_second, abs=1e-6)


@given(st.one_of(st.none(), rates), st.one_of(st.none(), rates), st.integers(1, 50))
def test_after_a_change_the_wait_is_at_most_one_interval_and_the_burst_already_spent(before, after, count):
    limit, now = RateLimit(before), 1000.0
    for _ in range(count):
        now = max(now, limit.next_start)
        limit.started(now)
    limit.change(after)
    assert limit.next_start <= now + (1 / after if after else 0) + 1 + 1e-6
