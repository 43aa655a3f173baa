"""The scripted sender answers as told, takes as long as told, and remembers."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.scripted import ScriptedSender
from webhookd.core.attempt import ErrorClass
from webhookd.core.ports import Sender
from webhookd.core.settings import DeliveryRules

ORDERS = builders.endpoint()


async def test_without_a_script_everything_is_acknowledged():
    sender: Sender = ScriptedSender(VirtualClock())
    assert (await sender.send(builders.work(), ORDERS)).status == 200


async def test_answers_come_in_order_and_the_last_stays():
    sender = ScriptedSender(VirtualClock())
    sender.script("orders", 500, ErrorClass.CONNECT, builders.outcome(429), lambda _work, _now: builders.outcome(204))
    outcomes = [await sender.send(builders.work(), ORDERS) for _ in range(5)]
    assert [outcome.status for outcome in outcomes] == [500, None, 429, 204, 204]
    assert outcomes[1].error is not None
    assert outcomes[1].error.kind is ErrorClass.CONNECT


async def test_a_scripted_exception_is_raised():
    sender = ScriptedSender(VirtualClock(), otherwise=ValueError("poison"))
    with pytest.raises(ValueError, match="poison"):
        await sender.send(builders.work(), ORDERS)


async def test_latency_passes_on_the_clock_and_counts_in_the_outcome():
    clock = VirtualClock()
    sender = ScriptedSender(clock)
    sender.script("orders", 200, latency=0.25)
    task = asyncio.create_task(sender.send(builders.work(), ORDERS))
    await clock.settle()
    assert sender.in_flight["orders"] == 1
    await clock.run_for(1)
    assert (await task).duration_ms == pytest.approx(250)
    assert (sender.in_flight["orders"], sender.peak["orders"], sender.peak_total) == (0, 1, 1)


async def test_an_answer_slower_than_the_endpoint_allows_is_a_timeout():
    clock = VirtualClock()
    sender = ScriptedSender(clock, latency=60.0)
    endpoint = builders.endpoint(rules=DeliveryRules(timeout_seconds=2.0))
    task = asyncio.create_task(sender.send(builders.work(), endpoint))
    await clock.run_for(2)
    outcome = await task
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.duration_ms) == (ErrorClass.TIMEOUT, 2000)


async def test_every_attempt_is_on_record():
    clock = VirtualClock()
    sender = ScriptedSender(clock)
    owed = builders.work(attempt_count=2)
    clock.advance(3)
    await sender.send(owed, ORDERS)
    (sent,) = sender.to("orders")
    assert sender.of(owed.id) == [sent]
    assert (sent.event_id, sent.number, sent.at_ms) == (owed.event.id, 3, START_MS + 3000)


async def test_a_cancelled_attempt_is_counted():
    clock = VirtualClock()
    sender = ScriptedSender(clock, latency=5.0)
    task = asyncio.create_task(sender.send(builders.work(), ORDERS))
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert (sender.cancelled, sender.in_flight.total()) == (1, 0)


async def test_an_attempt_that_was_started_tells_how_it_ended():
    sender: Sender = ScriptedSender(VirtualClock())
    told: list[object] = []
    sender.start(builders.work(), ORDERS, told.append)
    assert told == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [getattr(outcome, "status", None) for outcome in told] == [200]


async def test_a_cancelled_attempt_tells_nothing():
    clock = VirtualClock()
    sender = ScriptedSender(clock, latency=1.0)
    told: list[object] = []
    started = sender.start(builders.work(), ORDERS, told.append)
    await asyncio.sleep(0)
    started.cancel()
    await clock.run_for(2.0)
    assert told == []
    assert sender.cancelled == 1
