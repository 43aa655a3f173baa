"""The virtual clock keeps to the same rules as the real one, and moves only when nothing else can happen."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.kit.clock import START_MS, VirtualClock, watched
from webhookd.core.ports import Clock

DAY = 86_400.0


def test_it_is_a_clock():
    clock: Clock = VirtualClock()
    assert clock.now_ms() == START_MS


def test_advancing_fires_timers_at_their_moments_in_order():
    clock = VirtualClock()
    seen: list[tuple[str, int]] = []
    clock.call_later(2, lambda: seen.append(("second", clock.now_ms() - START_MS)))
    clock.call_later(1, lambda: seen.append(("first", clock.now_ms() - START_MS)))
    clock.call_later(2, lambda: seen.append(("third", clock.now_ms() - START_MS)))
    clock.call_later(9, lambda: seen.append(("later", 0)))
    clock.advance(5)
    assert seen == [("first", 1000), ("second", 2000), ("third", 2000)]
    assert clock.now_ms() == START_MS + 5000
    assert clock.pending_timers == 1


def test_a_cancelled_timer_does_not_fire():
    clock = VirtualClock()
    seen: list[str] = []
    clock.call_later(1, lambda: seen.append("no")).cancel()
    clock.advance(2)
    assert seen == []


def test_what_a_timer_raises_reaches_the_test():
    clock = VirtualClock()
    clock.call_later(1, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        clock.advance(2)


async def test_days_of_sleeping_pass_at_once_and_in_order():
    clock = VirtualClock()
    seen: list[tuple[str, int]] = []

    async def sleeper(name: str, seconds: float, times: int) -> None:
        for _ in range(times):
            await clock.sleep(seconds)
            seen.append((name, (clock.now_ms() - START_MS) // 1000))

    tasks = [asyncio.create_task(sleeper("daily", DAY, 2)), asyncio.create_task(sleeper("often", DAY / 2, 3))]
    started = time.monotonic()
    await clock.run_for(3 * DAY)
    assert time.monotonic() - started < 1
    assert seen == [("often", 43200), ("daily", 86400), ("often", 86400), ("often", 129600), ("daily", 172800)]
    await asyncio.gather(*tasks)


async def test_running_until_a_moment_stops_there():
    clock = VirtualClock()
    seen: list[int] = []
    clock.call_later(1.0, lambda: seen.append(1))
    clock.call_later(1.001, lambda: seen.append(2))
    await clock.run_until(START_MS + 1000)
    assert seen == [1]
    assert clock.now_ms() == START_MS + 1000


async def test_a_step_of_the_wall_clock_moves_no_timer():
    clock = VirtualClock()
    seen: list[int] = []
    clock.call_later(10, lambda: seen.append(clock.now_ms()))
    clock.step_wall(-5 * DAY)
    assert clock.monotonic() == 1000.0
    await clock.run_for(10)
    assert seen == [START_MS - 5 * 86_400_000 + 10_000]


async def test_a_chain_of_ready_callbacks_ends_before_time_moves():
    clock = VirtualClock()
    moments: list[int] = []

    async def long_chain() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        moments.append(clock.now_ms())

    task = asyncio.create_task(long_chain())
    await clock.run_for(1)
    await task
    assert moments == [START_MS]


async def test_time_stands_still_while_a_thread_works_for_a_watched_object():
    class Store:
        async def slow(self) -> str:
            return await asyncio.to_thread(lambda: time.sleep(0.03) or "done")

        def queued(self) -> asyncio.Future[str]:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[str] = loop.create_future()
            threading.Timer(0.03, lambda: loop.call_soon_threadsafe(future.set_result, "queued")).start()
            return future

        def plain(self) -> int:
            return 7

    clock = VirtualClock()
    store, outstanding = watched(Store())
    clock.wait_for(outstanding)
    moments: list[int] = []

    async def user() -> None:
        for call in (store.slow, store.queued):
            await call()
            moments.append(clock.now_ms())
            await clock.sleep(1)

    assert store.plain() == 7
    task = asyncio.create_task(user())
    await clock.run_for(10)
    assert task.done()
    assert moments == [START_MS, START_MS + 1000]
    assert outstanding.count == 0


async def test_a_watched_future_is_the_same_future_so_that_it_can_be_cancelled():
    class Store:
        def __init__(self) -> None:
            self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def accept(self) -> asyncio.Future[None]:
            return self.future

    target = Store()
    store, outstanding = watched(target)
    assert store.accept() is target.future
    assert outstanding.count == 1
    target.future.cancel()
    await asyncio.sleep(0)
    assert outstanding.count == 0


async def test_a_watched_call_that_raises_is_no_longer_outstanding():
    class Store:
        async def broken(self) -> None:
            raise OSError("disk")

    store, outstanding = watched(Store())
    with pytest.raises(OSError, match="disk"):
        await store.broken()
    assert outstanding.count == 0


async def test_a_call_that_never_comes_back_is_named():
    class Store:
        async def lost(self) -> None:
            await asyncio.Event().wait()

    clock = VirtualClock()
    store, outstanding = watched(Store(), patience_seconds=0.02)
    task = asyncio.create_task(store.lost())
    with pytest.raises(TimeoutError, match=r"1 of lost"):
        await clock.run_for(1, idle=outstanding)
    task.cancel()


async def test_running_while_a_condition_holds_stops_at_its_moment():
    clock = VirtualClock()
    seen: list[int] = []
    for second in (1, 2, 3):
        clock.call_later(second, lambda second=second: seen.append(second))
    await clock.run_while(lambda: len(seen) < 2, within_seconds=60)
    assert clock.now_ms() == START_MS + 2000
    with pytest.raises(TimeoutError):
        await clock.run_while(lambda: len(seen) < 9, within_seconds=60)
    assert clock.now_ms() == START_MS + 62_000


async def test_a_cancelled_sleep_leaves_no_timer():
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(100))
    await clock.settle()
    assert clock.pending_timers == 1
    task.cancel()
    await clock.settle()
    assert clock.pending_timers == 0
