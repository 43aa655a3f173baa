"""The consecutive-days rule and a delivery's age agree with their plain definitions, for every history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.health import after_failure, after_success, age_ms, disabled, enabled
from webhookd.core.ids import DeliveryId
from webhookd.core.settings import DeliveryRules

DAY_MS = 86_400_000
ATTEMPT = (DeliveryId(1), 1)

gaps_ms = st.one_of(st.integers(0, DAY_MS), st.integers(0, 5 * DAY_MS))
happenings = st.sampled_from(["failure", "failure", "failure", "failure", "success", "enable"])
all_rules = st.builds(DeliveryRules, disable_after_days=st.integers(0, 4), disable_min_failures=st.integers(0, 8))


@given(st.lists(st.tuples(gaps_ms, happenings), max_size=40), all_rules)
def test_an_endpoint_is_disabled_exactly_when_its_streak_reaches_both_bounds(history, rules):
    health, now_ms, streak = Health(), 20_000 * DAY_MS, []
    is_disabled = False
    for gap_ms, happening in history:
        now_ms += gap_ms
        match happening:
            case "failure":
                health = after_failure(health, at_ms=now_ms, attempt=ATTEMPT, rules=rules)
                streak.append(now_ms // DAY_MS)
                enough = len(set(streak)) >= rules.disable_after_days and len(streak) >= rules.disable_min_failures
                is_disabled |= enough and rules.disable_after_days > 0
            case "success":
                health = after_success(health, at_ms=now_ms, attempt=ATTEMPT)
                streak = []
            case "enable":
                health = enabled(health, at_ms=now_ms)
                streak, is_disabled = [], False
        assert (health.disabled_reason is DisabledReason.FAILING) == is_disabled
        assert (health.failing_days, health.failed_attempts) == (len(set(streak)), len(streak))


@given(st.lists(st.integers(0, 30 * DAY_MS), max_size=40), all_rules)
def test_under_any_clock_no_more_dates_are_counted_than_there_were(moments, rules):
    health = Health()
    for at_ms in moments:
        health = after_failure(health, at_ms=at_ms, attempt=ATTEMPT, rules=rules)
    assert health.failing_days <= len({at_ms // DAY_MS for at_ms in moments})
    assert health.failed_attempts == len(moments)


@given(st.lists(st.integers(0, 60), max_size=20), st.integers(0, 60), st.integers(0, 60))
def test_under_any_clock_age_is_the_number_of_moments_in_which_the_endpoint_was_enabled(switches, since, now):
    health, off = Health(), set()
    for number, at_ms in enumerate(switches):
        if number % 2 == 0:
            health = disabled(health, DisabledReason.OPERATOR, at_ms=at_ms)
        else:
            off |= set(range(switches[number - 1], at_ms))
            health = enabled(health, at_ms=at_ms)
    if health.disabled_at_ms is not None:
        off |= set(range(health.disabled_at_ms, now))
    assert age_ms(health, owed_since_ms=since, now_ms=now) == len(set(range(since, now)) - off)
