"""What of the time that the clock left out still counts as left out."""

from __future__ import annotations

from webhookd.core.health import Health, age_ms
from webhookd.core.jumps import ForwardJumps

START_MS = 1_000_000_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def test_what_a_jump_ahead_left_out_makes_nothing_older():
    jumps = ForwardJumps()
    jumps.read(START_MS, 0.0)
    jumps.read(START_MS + 5 * DAY_MS, 1.0)
    owed_since, now = START_MS - HOUR_MS, START_MS + 5 * DAY_MS
    age = age_ms(Health(), owed_since_ms=owed_since, now_ms=now, skipped=jumps.skipped)
    assert age == HOUR_MS + 1000


def test_after_the_jump_is_undone_what_is_accepted_grows_old_as_always():
    jumps = ForwardJumps()
    jumps.read(START_MS, 0.0)
    jumps.read(START_MS + 5 * DAY_MS, 0.0)
    jumps.read(START_MS + 5 * DAY_MS + 60_000, 60.0)
    jumps.read(START_MS + 61_000, 61.0)
    assert list(jumps.skipped) == [(START_MS, START_MS + 61_000)]
    owed_since = START_MS + 61_000
    age = age_ms(Health(), owed_since_ms=owed_since, now_ms=owed_since + DAY_MS, skipped=jumps.skipped)
    assert age == DAY_MS


def test_a_step_back_to_before_a_jump_leaves_nothing_of_it():
    jumps = ForwardJumps()
    jumps.read(START_MS, 0.0)
    jumps.read(START_MS + DAY_MS, 0.0)
    jumps.read(START_MS - DAY_MS, 0.0)
    assert not jumps.skipped


def test_a_small_step_back_changes_nothing():
    jumps = ForwardJumps()
    jumps.read(START_MS, 0.0)
    jumps.read(START_MS + DAY_MS, 0.0)
    jumps.read(START_MS + DAY_MS - 59_000, 0.0)
    assert list(jumps.skipped) == [(START_MS, START_MS + DAY_MS)]
