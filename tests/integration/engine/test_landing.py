"""Attempts that end within one turn of the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import EngineUnderTest, running_engine
from webhookd.core.attempt import Outcome
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.core.window import INITIAL_WINDOW

RULES = DeliveryRules(jitter=0.0, retry=RetryList((3600.0,)))

Ended = Callable[[Outcome | Exception], None]


class Request:
    """An attempt that ends when the test says so."""

    def __init__(self, work: Work, ended: Ended) -> None:
        self.work = work
        self.ended = ended
        self.is_cancelled = False
        self.is_answered = False

    def answer(self, status: int) -> None:
        self.is_answered = True
        self.ended(builders.outcome(status))

    def cancel(self) -> None:
        self.is_cancelled = True


async def requests(
    engine: EngineUnderTest, clock: VirtualClock, count: int, *, expected: int | None = None
) -> list[Request]:
    """Hand in as many events, and return their attempts, to which later ones are added; that many begin at once."""
    begun: list[Request] = []

    def start(work: Work, endpoint: EndpointDefinition, ended: Ended) -> Request:
        begun.append(Request(work, ended))
        return begun[-1]

    dispatcher: Any = engine.dispatcher
    dispatcher._sender = SimpleNamespace(start=start)  # noqa: SLF001 - attempts have to end in one turn of the loop
    await engine.accept(*[builders.draft() for _ in range(count)])
    await clock.run_for(0.1)
    assert len(begun) == (count if expected is None else expected)
    return begun


@pytest.mark.parametrize(("statuses", "failed_attempts"), [((200, 500), 1), ((500, 200), 0), ((500, 200, 500, 500), 2)])
async def test_health_is_what_it_would_be_had_they_ended_one_after_the_other(
    clock: VirtualClock, tmp_path: Path, statuses: tuple[int, ...], failed_attempts: int
) -> None:
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        begun = await requests(engine, clock, len(statuses))
        for request, status in zip(begun, statuses, strict=True):
            request.answer(status)
        await clock.run_for(1)
        health = engine.record().health
        assert health.failed_attempts == failed_attempts
        assert health.last_success_at_ms is not None
        assert health.last_attempt == (begun[-1].work.id, 1)
        (kept,) = await engine.store.endpoints()
        assert kept.health == health


async def test_an_attempt_that_ended_just_before_the_others_are_dropped_is_recorded(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """It has been answered: dropped with the others, it would be sent again after the restart."""
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        answered, hanging = await requests(engine, clock, 2)
        draining = engine.draining(grace_seconds=60)
        await clock.run_for(1)
        answered.answer(200)
        engine.dispatcher.abort()
        await clock.run_for(1)
        assert await draining == 1
        assert (answered.is_cancelled, hanging.is_cancelled) == (False, True)
        states = {delivery.id: delivery.state for delivery in await engine.deliveries()}
        assert states == {answered.work.id: DeliveryState.DELIVERED, hanging.work.id: DeliveryState.PENDING}


async def test_an_attempt_that_ended_in_the_turn_in_which_a_stop_begins_is_recorded(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        (answered,) = await requests(engine, clock, 1)
        answered.answer(200)
        assert await engine.dispatcher.drain(60) == 0
        await engine.recorder.flushed()
        (delivery,) = await engine.deliveries()
        assert delivery.state is DeliveryState.DELIVERED


async def test_a_window_widens_by_a_turn_of_answers_as_by_as_many_turns(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, concurrency=32)
    widths = []
    for together in (True, False):
        directory = tmp_path / f"{together}"
        directory.mkdir()
        async with running_engine(clock, directory, builders.endpoint(rules=rules, declared=True)) as engine:
            begun = await requests(engine, clock, 200, expected=INITIAL_WINDOW)
            for _ in range(10):
                under_way = [request for request in begun if not request.is_answered]
                for request in under_way:
                    request.answer(200)
                    if not together:
                        await clock.run_for(0)
                await clock.run_for(0.1)
            widths.append(len([request for request in begun if not request.is_answered]))
    assert widths[0] == widths[1] > INITIAL_WINDOW + 5
