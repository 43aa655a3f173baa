"""Whatever starts, ages and ends, never more requests are in flight than allowed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.lanes import Lane, Lanes

actions = st.lists(
    st.sampled_from(["fast", "fast", "slow", "slow", "age", "age", "end fast", "end slow"]), max_size=200
)


@given(st.integers(2, 40), actions)
def test_the_total_is_never_exceeded(total, taken):
    lanes = Lanes(total)
    expected = Counter({Lane.FAST: 0, Lane.SLOW: 0})
    for action in taken:
        match action.split():
            case ["fast" | "slow" as lane]:
                if lanes.has_room(Lane(lane)):
                    lanes.enter(Lane(lane))
                    expected[Lane(lane)] += 1
            case ["age"]:
                if expected[Lane.FAST]:
                    lanes.recharge()
                    expected[Lane.FAST] -= 1
                    expected[Lane.SLOW] += 1
            case [_, lane]:
                if expected[Lane(lane)]:
                    lanes.leave(Lane(lane))
                    expected[Lane(lane)] -= 1
        assert dict(expected) == lanes.busy
        assert lanes.in_flight == expected.total() <= total
        assert lanes.busy[Lane.FAST] <= max(1, total // 4)


@given(st.integers(2, 40), st.integers(0, 40), st.integers(0, 40))
def test_slow_starts_alone_always_leave_the_fast_lane_its_whole_share(total, tries, fast_tries):
    lanes = Lanes(total)
    for _ in range(tries):
        if lanes.has_room(Lane.SLOW):
            lanes.enter(Lane.SLOW)
    for number in range(fast_tries):
        assert lanes.has_room(Lane.FAST) == (number < max(1, total // 4))
        if lanes.has_room(Lane.FAST):
            lanes.enter(Lane.FAST)


@given(st.lists(st.floats(0, 10), max_size=200))
def test_never_more_than_four_paroles_in_a_second_of_the_clock(moments):
    lanes, granted = Lanes(1024), Counter()
    for now in sorted(moments):
        granted[int(now)] += lanes.grants_parole(now)
    assert all(count <= 4 for count in granted.values())
