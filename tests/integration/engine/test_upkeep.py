"""What happens by the clock: when retention runs, and what the heartbeat takes for a sign of life."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.kit.clock import VirtualClock
from webhookd.core.ports import Store
from webhookd.core.settings import Storage
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.engine.intake import Intake
from webhookd.engine.monitor import STUCK_AFTER_SECONDS, EngineMonitor
from webhookd.engine.recorder import Recorder
from webhookd.engine.upkeep import Heartbeat, Upkeep
from webhookd.errors import StoreFullError, StoreIOError, StoreUnavailableError
from webhookd.metrics import Metrics

DAY = 86_400.0
NOWHERE = Path("unused.db")


class Pruned:
    """A store that has nothing left to prune, and remembers when it was asked."""

    def __init__(self, clock: VirtualClock, *batches: int) -> None:
        self.clock, self.batches = clock, list(batches)
        self.asked_at: list[float] = []

    async def prune(self, *, now_ms: int) -> int:
        assert now_ms == self.clock.now_ms()
        self.asked_at.append(round(self.clock.monotonic() - 1000, 3))
        return self.batches.pop(0) if self.batches else 0


def upkeep(clock: VirtualClock, store: Pruned, *, delivered: float, dead: float = 30 * DAY) -> Upkeep:
    storage = Storage(path=NOWHERE, keep_delivered_seconds=delivered, keep_dead_seconds=dead)
    return Upkeep(clock=clock, store=cast("Store", store), storage=storage)


@contextlib.asynccontextmanager
async def running(kept: Upkeep):
    task = asyncio.ensure_future(kept.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("delivered", "dead", "asked_at"),
    [
        (7 * DAY, 30 * DAY, [60, 660, 1260]),
        (600.0, 30 * DAY, [60, 120, 180]),
        (7 * DAY, 300.0, [30, 60, 90]),
        (0.5, 0.5, [1, 2, 3]),
    ],
)
async def test_rounds_come_as_often_as_the_shortest_time_asks_for(
    clock: VirtualClock, delivered: float, dead: float, asked_at: list[float]
) -> None:
    store = Pruned(clock)
    async with running(upkeep(clock, store, delivered=delivered, dead=dead)):
        await clock.run_for(asked_at[-1] + 0.5)
        assert store.asked_at == asked_at


async def test_a_round_goes_on_until_nothing_is_left(clock: VirtualClock) -> None:
    store = Pruned(clock, 1000, 1000, 7)
    async with running(upkeep(clock, store, delivered=7 * DAY)):
        await clock.run_for(61)
        assert store.asked_at == [60, 60.05, 60.1, 60.15]


async def test_a_reload_that_keeps_less_is_followed(clock: VirtualClock) -> None:
    store = Pruned(clock)
    kept = upkeep(clock, store, delivered=7 * DAY)
    async with running(kept):
        await clock.run_for(61)
        kept.storage = Storage(path=NOWHERE, keep_delivered_seconds=100.0)
        await clock.run_for(620)
        assert store.asked_at == [60, 660, 670, 680]


class Unwilling(Pruned):
    """A store that refuses at first, and whose writer may be too busy to be asked for a sign."""

    refusals: tuple[StoreUnavailableError, ...] = ()

    async def prune(self, *, now_ms: int) -> int:
        asked = await super().prune(now_ms=now_ms)
        self._refuse()
        return asked

    async def ping(self) -> None:
        self.asked_at.append(round(self.clock.monotonic() - 1000, 3))
        self._refuse()

    def _refuse(self) -> None:
        if self.refusals:
            refusal, *rest = self.refusals
            self.refusals = tuple(rest)
            raise refusal


async def test_a_full_disk_puts_retention_off_and_does_not_end_it(clock: VirtualClock) -> None:
    store = Unwilling(clock)
    store.refusals = (StoreFullError("the disk is full"),)
    async with running(upkeep(clock, store, delivered=7 * DAY)):
        await clock.run_for(700)
    assert store.asked_at == [60, 660]


async def test_a_disk_that_fails_ends_retention(clock: VirtualClock) -> None:
    store = Unwilling(clock)
    store.refusals = (StoreIOError("gone"),)
    task = asyncio.ensure_future(upkeep(clock, store, delivered=7 * DAY).run())
    await clock.run_for(700)
    with pytest.raises(StoreIOError):
        await task


async def test_a_writer_too_busy_to_be_asked_owes_a_sign_and_ends_nothing(clock: VirtualClock) -> None:
    store, signs = Unwilling(clock), list[float]()
    store.refusals = (StoreUnavailableError("the queue is full"), StoreUnavailableError("the queue is full"))
    heartbeat = Heartbeat(
        clock=clock,
        store=cast("Store", store),
        dispatcher=cast("Dispatcher", None),
        metrics=Metrics(version="test"),
        alive=lambda: signs.append(clock.monotonic() - 1000),
    )
    task = asyncio.ensure_future(heartbeat.run())
    await clock.run_for(2.5)
    assert (signs, heartbeat.asked_at) == ([], 1000)
    await clock.run_for(1)
    assert signs == [3]
    task.cancel()
    await asyncio.wait([task])


async def test_time_in_which_the_process_was_frozen_is_not_held_against_the_writer(clock: VirtualClock) -> None:
    store = Unwilling(clock)
    recorder = SimpleNamespace(commit_started=clock.monotonic())
    heartbeat = Heartbeat(
        clock=clock,
        store=cast("Store", store),
        dispatcher=cast("Dispatcher", None),
        metrics=Metrics(version="test"),
        alive=lambda: None,
    )
    monitor = EngineMonitor(
        clock=clock,
        store=cast("Store", store),
        endpoints=LiveEndpoints(),
        dispatcher=cast("Dispatcher", SimpleNamespace(reading_since=None)),
        recorder=cast("Recorder", recorder),
        intake=cast("Intake", None),
        heartbeat=heartbeat,
    )
    task = asyncio.ensure_future(heartbeat.run())
    await clock.settle()
    # All at once, as for a process that is stopped: no task ran in between.
    clock.advance(600)
    await clock.settle()
    assert monitor.stuck() is None
    await clock.run_for(STUCK_AFTER_SECONDS)
    assert monitor.stuck() is None
    await clock.run_for(1)
    assert monitor.stuck() == "recording outcomes has not got on for 16 s"
    task.cancel()
    await asyncio.wait([task])
