"""Jitter only lengthens, growth has a closed form, and every plan ends."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.schedule import delay_seconds, delays, retry_at_ms
from webhookd.core.settings import RetryGrowth, RetryList

durations = st.integers(min_value=0, max_value=30 * 86_400_000).map(lambda ms: ms / 1000)
growths = st.builds(
    RetryGrowth,
    first_seconds=durations,
    factor=st.floats(min_value=1, max_value=10),
    retries=st.integers(0, 30),
    max_seconds=durations,
)
plans = st.one_of(growths, st.lists(durations, max_size=30).map(tuple).map(RetryList))
draws = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(plans, st.integers(0, 40), st.floats(min_value=0, max_value=1), draws)
def test_a_retry_is_never_sooner_than_its_delay_nor_later_than_jitter_allows(plan, used, jitter, draw):
    delay = delay_seconds(plan, used)
    due_at_ms = retry_at_ms(plan, used, now_ms=0, jitter=jitter, draw=draw)
    if delay is None:
        assert due_at_ms is None
    else:
        assert due_at_ms is not None
        assert round(1000 * delay) <= due_at_ms <= 1000 * delay * (1 + jitter) + 1


@given(plans)
def test_the_timeline_shown_is_the_schedule_followed(plan):
    shown = delays(plan)
    assert [delay_seconds(plan, used) for used in range(len(shown) + 1)] == [*shown, None]


@given(growths)
def test_growth_has_a_closed_form(plan):
    expected = [
        min(Fraction(plan.max_seconds), Fraction(plan.first_seconds) * Fraction(plan.factor) ** retry)
        for retry in range(plan.retries)
    ]
    assert [float(delay) for delay in delays(plan)] == pytest.approx([float(delay) for delay in expected])


@given(growths)
def test_grown_delays_never_shrink_and_stay_within_the_most(plan):
    shown = delays(plan)
    assert list(shown) == sorted(shown)
    assert all(0 <= delay <= plan.max_seconds for delay in shown)
