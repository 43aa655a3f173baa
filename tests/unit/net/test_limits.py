"""Deadlines: each comes when it should, whoever else stands in line, and nothing is left behind."""

import asyncio
from time import monotonic

import pytest

from webhookd.net.limits import TimeLimits


class Waiting:
    """Notes when its time was over."""

    def __init__(self):
        self.times = []

    @property
    def over_at(self):
        return self.times[0] if self.times else None

    def out_of_time(self):
        self.times.append(monotonic())


@pytest.fixture
async def limits():
    return TimeLimits()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - there is nobody who could set an event
            await asyncio.sleep(0.002)


async def test_each_ends_at_its_own_deadline(limits):
    begun = monotonic()
    first, second, long = Waiting(), Waiting(), Waiting()
    limits.enter(long, 0.08, begun)
    limits.enter(first, 0.03, begun)
    limits.enter(second, 0.03, begun + 0.02)
    await until(lambda: long.over_at)
    assert first.over_at >= begun + 0.029
    assert second.over_at >= begun + 0.049
    assert long.over_at >= begun + 0.079
    assert [len(one.times) for one in (first, second, long)] == [1, 1, 1]
    assert len(limits) == 0


async def test_who_has_left_is_not_ended(limits):
    begun = monotonic()
    gone, last = Waiting(), Waiting()
    limits.enter(gone, 0.02, begun)
    limits.enter(last, 0.02, begun + 0.01)
    limits.leave(gone, 0.02)
    limits.leave(gone, 0.02)
    await until(lambda: last.over_at)
    assert gone.over_at is None
    assert last.over_at >= begun + 0.029


async def test_one_that_begins_after_all_have_left_has_its_whole_time(limits):
    begun = monotonic()
    gone = Waiting()
    limits.enter(gone, 0.03, begun)
    limits.leave(gone, 0.03)
    await asyncio.sleep(0.02)
    late, later = Waiting(), monotonic()
    limits.enter(late, 0.03, later)
    await until(lambda: late.over_at)
    assert late.over_at >= later + 0.029


async def test_a_deadline_that_is_past_comes_at_once(limits):
    late = Waiting()
    limits.enter(late, 0.05, monotonic() - 1)
    assert late.over_at is None
    await until(lambda: late.over_at)


async def test_one_that_fails_does_not_keep_the_others_from_their_end(limits):
    class Failing:
        def out_of_time(self):
            raise RuntimeError("a bug of ours")

    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    begun, sound = monotonic(), Waiting()
    limits.enter(Failing(), 0.01, begun)
    limits.enter(sound, 0.01, begun)
    await until(lambda: sound.over_at)


async def test_nothing_stays_of_a_length_that_nobody_uses_any_more(limits):
    for number in range(1, 20):
        waiting = Waiting()
        limits.enter(waiting, number / 1000, monotonic())
        limits.leave(waiting, number / 1000)
    await until(lambda: not limits._lines)  # noqa: SLF001 - memory that nothing else shows
