"""The clock of the machine."""

from __future__ import annotations

import asyncio
import time

from webhookd.clock import SystemClock
from webhookd.core.ports import Clock

CLOCK: Clock = SystemClock()


def test_now_is_the_wall_clock_in_milliseconds():
    before = int(time.time() * 1000)
    assert before <= CLOCK.now_ms() <= int(time.time() * 1000)


def test_monotonic_time_is_the_one_the_loop_goes_by():
    before = time.monotonic()
    assert before <= CLOCK.monotonic() <= time.monotonic()


async def test_sleep_takes_as_long_as_it_was_asked_to():
    started = time.monotonic()
    await CLOCK.sleep(0.02)
    assert 0.019 <= time.monotonic() - started < 1


async def test_a_timer_calls_back_after_its_delay():
    called = asyncio.Event()
    CLOCK.call_later(0.01, called.set)
    assert not called.is_set()
    await asyncio.wait_for(called.wait(), 1)


async def test_a_cancelled_timer_never_calls_back():
    calls: list[str] = []
    CLOCK.call_later(0.005, lambda: calls.append("cancelled")).cancel()
    CLOCK.call_later(0.01, lambda: calls.append("kept"))
    await asyncio.sleep(0.03)
    assert calls == ["kept"]
