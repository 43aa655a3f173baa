"""After a start, retries that are long overdue go within thirty seconds, each at a moment of its own."""

from __future__ import annotations

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS
from webhookd.core.attempt import Trigger
from webhookd.core.ids import IdGenerator
from webhookd.core.spread import RestartSpread


def overdue(seconds: float, **more):
    return builders.work(due_at_ms=START_MS - round(1000 * seconds), **{"attempt_count": 1, **more})


@pytest.mark.parametrize(
    "work",
    [
        overdue(60),
        overdue(-5),
        overdue(86_400, attempt_count=0),
        overdue(86_400, trigger=Trigger.MANUAL),
    ],
)
def test_only_retries_that_are_overdue_for_more_than_a_minute_are_put_off(work):
    spread = RestartSpread(started_ms=START_MS, draw=0.5)
    assert spread.put_off_until_ms(work) is None
    assert spread.put_off_until_ms(overdue(61)) is not None


def test_they_are_spread_evenly_over_thirty_seconds():
    ids = IdGenerator()
    spread = RestartSpread(started_ms=START_MS, draw=0.25)
    moments = [spread.put_off_until_ms(overdue(90, id=ids.mint(START_MS))) - START_MS for _ in range(3000)]
    assert 0 <= min(moments) < 100
    assert 29_900 < max(moments) < 30_000
    by_second = [sum(second * 1000 <= moment < second * 1000 + 1000 for moment in moments) for second in range(30)]
    assert 80 < min(by_second) <= max(by_second) < 120


def test_one_delivery_keeps_its_moment_and_another_start_gives_another():
    work = overdue(90)
    once, again, later = (
        RestartSpread(started_ms=START_MS, draw=draw).put_off_until_ms(work) for draw in (0.1, 0.1, 0.7)
    )
    assert once == again != later


@pytest.mark.parametrize(("seconds", "is_over"), [(0, False), (29.9, False), (30, True), (-1, True)])
def test_after_thirty_seconds_it_is_over(seconds, is_over):
    spread = RestartSpread(started_ms=START_MS, draw=0.5)
    assert spread.is_over(START_MS + round(1000 * seconds)) is is_over
