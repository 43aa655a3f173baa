"""An endpoint gets as much at a time as it can take, and is left alone when it takes nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from webhookd.core.window import INITIAL_WINDOW, Window

EVENLY = 0.5
"""The draw that neither shortens nor lengthens a rest."""


def window_of(size: int, *, cap: int = 1000) -> Window:
    """Grow a window to `size` by answers."""
    window = Window(cap)
    while window.size < size:
        window.answered(window.size)
    return window


def resting(*, rests: int = 1, cap: int = 32) -> Window:
    """Let everything fail until this many rests have begun, each probe right at the end of the one before."""
    window, now = Window(cap), 0.0
    for _ in range(rests):
        while not window.failed(now, EVENLY):
            pass
        assert window.resting_until is not None
        now = window.resting_until
    return window


def test_a_new_endpoint_gets_four_at_a_time():
    window = Window(32)
    assert [window.allows(busy, 0) for busy in range(6)] == [True, True, True, True, False, False]


def test_the_cap_bounds_a_new_endpoint():
    assert Window(2).size == 2


@pytest.mark.parametrize("size", range(4, 32))
def test_a_windows_worth_of_answers_widens_it_by_one(size):
    window = window_of(size)
    for _ in range(size - 1):
        window.answered(size)
    assert window.size == size
    window.answered(size)
    assert window.size == size + 1


def test_no_number_of_answers_widens_it_beyond_its_cap():
    window = Window(6)
    for _ in range(1000):
        window.answered(window.size)
    assert window.size == 6


def test_answers_do_not_widen_a_window_that_is_not_used():
    window = window_of(10)
    for _ in range(1000):
        window.answered(10 - INITIAL_WINDOW)
    assert window.size == 10


def test_answers_widen_a_window_that_is_nearly_used():
    window = window_of(10)
    for _ in range(10):
        window.answered(10 - INITIAL_WINDOW + 1)
    assert window.size == 11


def test_a_lower_cap_narrows_at_once():
    window = window_of(20)
    window.set_cap(3)
    assert (window.size, window.allows(3, 0)) == (3, False)


def test_a_higher_cap_has_to_be_earned():
    window = Window(4)
    window.set_cap(32)
    assert window.size == 4
    for _ in range(4):
        window.answered(4)
    assert window.size == 5


@pytest.mark.parametrize("size", [4, 10, 32])
def test_the_first_failure_narrows_at_once_and_the_next_after_a_windows_worth(size):
    window = window_of(size)
    sizes = []
    for _ in range(size + 1):
        window.failed(0, EVENLY)
        sizes.append(window.size)
    assert sizes == [size - 1] * (size - 1) + [size - 2] * 2


def test_no_number_of_failures_narrows_it_below_one():
    window = Window(32)
    for _ in range(1000):
        window.failed(0, EVENLY)
    assert window.size == 1


def test_a_failure_undoes_the_answers_towards_the_next_widening():
    window = window_of(5)
    for _ in range(4):
        window.answered(5)
    window.failed(0, EVENLY)
    for _ in range(3):
        window.answered(4)
    assert window.size == 4
    window.answered(4)
    assert window.size == 5


def failures_until_rest(window: Window) -> int:
    count = 1
    while not window.failed(0, EVENLY):
        count += 1
    return count


@pytest.mark.parametrize("size", range(4, 33))
def test_an_endpoint_rests_after_a_windows_worth_of_failures(size):
    window = window_of(size)
    # The first failure takes 1/size of the window's worth, the others 1/(size - 1): size of them are enough.
    assert failures_until_rest(window) == size


@pytest.mark.parametrize("cap", [1, 2])
def test_an_endpoint_with_a_narrow_window_rests_only_after_three_failures(cap):
    assert failures_until_rest(Window(cap)) == 3


def test_an_answer_between_failures_keeps_the_endpoint_from_resting():
    window = Window(4)
    for _ in range(1000):
        assert not window.failed(0, EVENLY)
        assert not window.failed(0, EVENLY)
        window.answered(1)
    assert not window.is_resting


def test_nothing_starts_during_a_rest():
    window = resting()
    assert window.is_resting
    assert [window.allows(busy, 4.999) for busy in range(3)] == [False, False, False]


def test_after_a_rest_there_is_one_probe_and_no_more():
    window = resting()
    assert [window.allows(busy, 5.0) for busy in range(3)] == [True, False, False]


def test_rests_double_up_to_five_minutes():
    ends = [0.0] + [resting(rests=count).resting_until or 0 for count in range(1, 10)]
    assert [later - sooner for sooner, later in pairwise(ends)] == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_rests_do_not_overflow_however_long_an_endpoint_is_dead():
    sooner, later = resting(rests=5000).resting_until, resting(rests=5001).resting_until
    assert sooner is not None
    assert later is not None
    assert later - sooner == 300


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 4.0), (0.25, 4.5), (0.75, 5.5), (0.999999, 6.0)])
def test_a_rest_is_a_fifth_shorter_or_longer_by_chance(draw, seconds):
    window = Window(1)
    assert [window.failed(100.0, draw) for _ in range(3)] == [False, False, True]
    assert window.resting_until == pytest.approx(100 + seconds, abs=1e-4)


def test_failures_of_requests_already_under_way_do_not_lengthen_a_rest():
    window = resting()
    assert [window.failed(4.9, EVENLY) for _ in range(50)] == [False] * 50
    assert window.resting_until == 5.0


def test_a_failure_after_the_rest_of_a_request_begun_before_it_is_not_the_probes():
    window = resting()
    assert not window.failed(9.0, EVENLY, started=4.9)
    assert window.resting_until == 5.0
    assert window.allows(0, 9.0)


def test_the_probes_failure_begins_the_next_rest_at_once():
    window = resting()
    assert window.failed(6.0, EVENLY, started=5.0)
    assert window.resting_until == 16.0


def test_the_first_answer_opens_the_window_at_one():
    window = resting(cap=32)
    window.answered(1)
    assert (window.is_resting, window.size) == (False, 1)
    assert [window.allows(busy, 0) for busy in range(2)] == [True, False]


def test_a_late_answer_of_a_request_already_under_way_ends_the_rest_too():
    window = resting()
    window.answered(20)
    assert (window.is_resting, window.size) == (False, 1)


def test_a_recovered_endpoint_is_opened_slowly():
    window = resting()
    window.answered(1)
    sizes = []
    for _ in range(9):
        window.answered(window.size)
        sizes.append(window.size)
    assert sizes == [2, 2, 3, 3, 3, 4, 4, 4, 4]


def test_a_recovered_endpoint_needs_three_failures_to_rest_again_and_then_rests_shortly():
    window = resting(rests=5)
    window.answered(1)
    assert [window.failed(1000.0, EVENLY) for _ in range(3)] == [False, False, True]
    assert window.resting_until == 1005.0


def test_an_ordered_endpoint_gets_one_at_a_time_whatever_it_answers():
    window = Window(1)
    for _ in range(100):
        window.answered(1)
    assert [window.allows(busy, 0) for busy in range(2)] == [True, False]


def test_an_enabled_endpoint_starts_over_at_one():
    window = resting(rests=5)
    window.open_gently()
    assert (window.size, window.is_resting, window.allows(0, 0)) == (1, False, True)
    assert [window.failed(1000.0, EVENLY) for _ in range(3)] == [False, False, True]
    assert window.resting_until == 1005.0
