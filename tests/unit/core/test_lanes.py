"""Endpoints that hang get their own lane and cannot use up the room of those that answer."""

from __future__ import annotations

import pytest

from webhookd.core.lanes import SLOW_AFTER_SECONDS, Lane, Lanes, Pace

QUICK = SLOW_AFTER_SECONDS / 2


def slow() -> Pace:
    pace = Pace()
    pace.hung()
    return pace


def filled(total: int = 8, *, fast: int = 0, slow: int = 0) -> Lanes:
    lanes = Lanes(total)
    for _ in range(slow):
        lanes.enter(Lane.SLOW)
    for _ in range(fast):
        lanes.enter(Lane.FAST)
    return lanes


def test_an_endpoint_starts_in_the_fast_lane():
    assert Pace().lane is Lane.FAST


def test_a_request_that_hangs_makes_its_endpoint_slow():
    assert slow().lane is Lane.SLOW


@pytest.mark.parametrize(("seconds", "lane"), [(0.999, Lane.FAST), (1.0, Lane.SLOW), (14.0, Lane.SLOW)])
def test_an_answer_after_a_second_makes_its_endpoint_slow(seconds, lane):
    pace = Pace()
    pace.answered(seconds)
    assert pace.lane is lane


def test_two_quick_answers_in_a_row_leave_the_slow_lane():
    pace = slow()
    pace.answered(QUICK)
    assert pace.lane is Lane.SLOW
    pace.answered(QUICK)
    assert pace.lane is Lane.FAST


@pytest.mark.parametrize("spoil", [Pace.hung, Pace.failed, lambda pace: pace.answered(2.0)])
def test_quick_answers_that_are_not_in_a_row_do_not(spoil):
    pace = slow()
    for _ in range(10):
        pace.answered(QUICK)
        spoil(pace)
    assert pace.lane is Lane.SLOW


def test_an_endpoint_that_becomes_slow_again_needs_two_quick_answers_again():
    pace = slow()
    pace.answered(QUICK)
    pace.answered(QUICK)
    pace.hung()
    pace.answered(QUICK)
    assert pace.lane is Lane.SLOW


def test_a_quick_failure_does_not_make_an_endpoint_slow():
    pace = Pace()
    pace.failed()
    assert pace.lane is Lane.FAST


def test_a_slow_endpoint_may_try_the_fast_lane_once_in_thirty_seconds():
    pace = slow()
    assert pace.may_have_parole(100.0)
    pace.paroled(100.0)
    assert [pace.may_have_parole(now) for now in (100.0, 129.9, 130.0)] == [False, False, True]


def test_asking_for_parole_uses_nothing_up():
    """The lanes have to grant it too, and if they do not the endpoint asks again at its next turn."""
    pace = slow()
    assert [pace.may_have_parole(100.0) for _ in range(3)] == [True, True, True]


def test_lanes_that_are_opened_begin_with_sixteen_each():
    lanes, sizes = Lanes(1024), []
    for share in (0.0, 0.5, 1.0):
        lanes.open(share)
        sizes.append((lanes.most[Lane.FAST], lanes.most[Lane.SLOW]))
    assert sizes == [(16, 16), (136, 392), (256, 768)]


def test_lanes_of_less_than_sixteen_are_open_at_once():
    lanes = Lanes(40)
    lanes.open(0.0)
    assert lanes.most == {Lane.FAST: 10, Lane.SLOW: 16}


def test_a_changed_total_does_not_open_the_lanes():
    lanes = Lanes(1024)
    lanes.open(0.0)
    lanes.resize(512)
    assert lanes.most == {Lane.FAST: 16, Lane.SLOW: 16}
    lanes.open(1.0)
    assert lanes.most == {Lane.FAST: 128, Lane.SLOW: 384}


def test_a_slow_endpoint_that_failed_gets_no_parole_until_it_answers():
    pace = slow()
    pace.failed()
    assert not pace.may_have_parole(100.0)
    pace.answered(14.0)
    assert pace.may_have_parole(100.0)


@pytest.mark.parametrize(
    ("total", "fast", "slow"), [(1024, 256, 768), (8, 2, 6), (7, 1, 6), (4, 1, 3), (3, 1, 2), (2, 1, 1)]
)
def test_a_quarter_may_be_fast_and_three_quarters_slow(total, fast, slow):
    assert Lanes(total).most == {Lane.FAST: fast, Lane.SLOW: slow}


@pytest.mark.parametrize("lane", Lane)
def test_a_lane_has_room_up_to_its_share(lane):
    lanes = Lanes(8)
    while lanes.has_room(lane):
        lanes.enter(lane)
    assert lanes.busy[lane] == lanes.most[lane]


def test_a_full_slow_lane_leaves_the_fast_lane_its_room():
    lanes = filled(8, slow=6)
    assert (lanes.has_room(Lane.SLOW), lanes.has_room(Lane.FAST)) == (False, True)


def test_recharging_makes_room_in_the_fast_lane():
    lanes = filled(8, fast=2)
    assert not lanes.has_room(Lane.FAST)
    lanes.recharge()
    assert lanes.has_room(Lane.FAST)
    assert lanes.busy == {Lane.FAST: 1, Lane.SLOW: 1}


def test_recharging_displaces_slow_admission():
    lanes = filled(8, fast=1, slow=5)
    lanes.recharge()
    assert not lanes.has_room(Lane.SLOW)


def test_recharging_beyond_the_slow_share_keeps_the_total():
    lanes = filled(8, slow=6)
    for _ in range(2):
        lanes.enter(Lane.FAST)
        lanes.recharge()
    assert lanes.in_flight == lanes.total == 8
    assert not lanes.has_room(Lane.FAST)


def test_a_finished_request_makes_room_in_the_lane_it_is_charged_to():
    lanes = filled(8, slow=6)
    lanes.leave(Lane.SLOW)
    assert lanes.has_room(Lane.SLOW)


def test_a_smaller_total_lets_those_in_flight_finish_and_admits_none():
    lanes = filled(8, fast=2, slow=6)
    lanes.resize(4)
    assert lanes.in_flight == 8
    for _ in range(4):
        lanes.leave(Lane.SLOW)
    lanes.leave(Lane.FAST)
    assert not lanes.has_room(Lane.FAST)
    assert lanes.has_room(Lane.SLOW)


def test_a_larger_total_makes_room_at_once():
    lanes = filled(4, fast=1, slow=3)
    lanes.resize(8)
    assert (lanes.has_room(Lane.FAST), lanes.has_room(Lane.SLOW)) == (True, True)


def test_at_most_four_paroles_are_granted_a_second():
    lanes = Lanes(1024)
    assert [lanes.grants_parole(100 + n / 10) for n in range(10)] == [True] * 4 + [False] * 6
    assert lanes.grants_parole(101.0)


def test_paroles_not_used_are_not_saved():
    lanes = Lanes(1024)
    lanes.grants_parole(100.0)
    assert sum(lanes.grants_parole(200.0) for _ in range(100)) == 4


def test_no_parole_is_granted_while_the_slow_lane_is_full():
    lanes = filled(8, slow=6)
    assert not lanes.grants_parole(100.0)
    lanes.leave(Lane.SLOW)
    assert lanes.grants_parole(100.0)


def test_no_parole_is_granted_while_the_fast_lane_is_full():
    assert not filled(8, fast=2).grants_parole(100.0)


def test_a_parole_that_was_refused_for_want_of_room_costs_nothing():
    lanes = filled(8, slow=6)
    for _ in range(10):
        lanes.grants_parole(100.0)
    lanes.leave(Lane.SLOW)
    assert sum(lanes.grants_parole(100.0) for _ in range(10)) == 4
