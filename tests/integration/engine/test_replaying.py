"""Replays go out behind everything else of their endpoint, and in nobody else's way."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import EngineUnderTest, running_engine
from webhookd.core.attempt import Trigger
from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EndpointId
from webhookd.core.queries import ReplayFilter
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.errors import NotFoundError

ONE_AT_A_TIME = DeliveryRules(jitter=0.0, retry=RetryList(()), concurrency=1)
ORDERS = EndpointId("orders")


def to(endpoint_id: str, rules: DeliveryRules = ONE_AT_A_TIME, types: tuple[str, ...] = ()) -> EndpointDefinition:
    return builders.endpoint(endpoint_id, rules=rules, types=types, declared=True)


async def all_dead(engine: EngineUnderTest, count: int, event_type: str = "order.completed") -> None:
    """Let `count` deliveries of the first endpoint die."""
    engine.sender.script("orders", 400)
    await engine.accept(*[builders.draft(event_type) for _ in range(count)])
    await engine.clock.run_for(60)
    assert {delivery.state for delivery in await engine.deliveries()} == {DeliveryState.DEAD}
    engine.sender.script("orders", 200)


async def replay(engine: EngineUnderTest, **more: object) -> int:
    return await engine.desk.replay(ReplayFilter(endpoint_id=ORDERS, **more), dry_run=False)


async def test_what_died_is_sent_again_by_hand_and_in_order_of_acceptance(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await all_dead(engine, 300)
        assert await replay(engine) == 300
        await clock.run_for(60)
        again = engine.sent()[300:]
        assert [sent.delivery_id for sent in again] == [sent.delivery_id for sent in engine.sent()[:300]]
        assert {(sent.number, sent.trigger) for sent in again} == {(2, Trigger.MANUAL)}
        assert {delivery.state for delivery in await engine.deliveries()} == {DeliveryState.DELIVERED}


async def test_every_tenth_turn_is_a_replays_while_others_wait(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await all_dead(engine, 100)
        engine.sender.script("orders", 200, latency=0.1)
        await engine.accept(*[builders.draft() for _ in range(200)])
        await replay(engine)
        await clock.run_for(21)
        turns = [sent.trigger is Trigger.MANUAL for sent in engine.sent()[100:]]
        replayed = [number for number, manual in enumerate(turns) if manual]
        assert len(turns) >= 200
        assert 18 <= len(replayed) <= 22
        assert {after - before for before, after in pairwise(replayed)} == {10}
        await clock.run_for(60)
        assert {delivery.state for delivery in await engine.deliveries()} == {DeliveryState.DELIVERED}


async def test_retries_go_before_replays_as_well(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList((1.0,)), concurrency=1)
    async with running_engine(clock, tmp_path, to("orders", rules)) as engine:
        await all_dead(engine, 50)
        await engine.directory.disable(ORDERS)
        await engine.accept(*[builders.draft() for _ in range(20)])
        await replay(engine)
        engine.sender.script("orders", *[400] * 20, 200, latency=0.1)
        at = len(engine.sent())
        await engine.directory.enable(ORDERS)
        await clock.run_for(4)
        # The first attempts fail, and come back in the place of those that have not been made yet.
        replayed = sum(sent.trigger is Trigger.MANUAL for sent in engine.sent()[at : at + 30])
        assert replayed <= 3


async def test_a_fresh_delivery_waits_for_one_replay_at_most(clock: VirtualClock, tmp_path: Path) -> None:
    """Also when the backlog is far larger than what is in memory: it need not be read past."""
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await all_dead(engine, 600)
        engine.sender.script("orders", 200, latency=0.1)
        await replay(engine)
        await clock.run_for(3)
        for _ in range(20):
            (accepted,) = await engine.accept()
            accepted_ms = clock.now_ms()
            await clock.run_for(0.35)
            (sent,) = [sent for sent in engine.sent() if sent.event_id == accepted.event_id]
            assert sent.at_ms - accepted_ms <= 200


async def test_a_replay_does_not_delay_other_endpoints(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList(()))
    others = [to(f"other-{number}", types=("user.*",)) for number in range(10)]
    async with running_engine(clock, tmp_path, to("orders", rules), *others, max_in_flight=160) as engine:
        await all_dead(engine, 1000)
        engine.sender.latency = 0.1
        engine.sender.script("orders", 200, latency=0.5)
        await replay(engine)
        for _ in range(20):
            await engine.accept(builders.draft("user.made"))
            accepted_ms = clock.now_ms()
            await clock.run_for(0.5)
            for other in others:
                assert engine.sent(other.id)[-1].at_ms - accepted_ms <= 100
        assert engine.sender.peak["orders"] <= 32


async def test_a_replay_goes_on_after_a_restart(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await all_dead(engine, 50)
        engine.sender.script("orders", 200, latency=0.1)
        await replay(engine)
        await clock.run_for(1)
        begun = len(engine.sent()) - 50
        assert 0 < begun < 50
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await engine.accept()
        await clock.run_for(60)
        assert {delivery.state for delivery in await engine.deliveries()} == {DeliveryState.DELIVERED}
        assert engine.sent()[0].trigger is Trigger.MANUAL


async def test_an_ordered_endpoint_gets_replays_in_order_of_acceptance(clock: VirtualClock, tmp_path: Path) -> None:
    """Order is promised; so what was accepted earlier goes first, replayed or not."""
    rules = DeliveryRules(jitter=0.0, retry=RetryList(()), ordered=True)
    async with running_engine(clock, tmp_path, to("orders", rules)) as engine:
        await all_dead(engine, 5)
        await engine.directory.disable(ORDERS)
        await engine.accept(builders.draft())
        await replay(engine)
        await engine.directory.enable(ORDERS)
        await clock.run_for(60)
        sent = [sent.event_id for sent in engine.sent()[5:]]
        assert len(sent) == 6
        assert sent == sorted(sent)


async def test_replays_to_a_disabled_endpoint_are_held(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await all_dead(engine, 3)
        await engine.directory.disable(ORDERS)
        assert await replay(engine) == 3
        await clock.run_for(60)
        assert len(engine.sent()) == 3
        assert all(delivery.held for delivery in await engine.deliveries())


async def test_a_replay_is_tried_by_a_fresh_schedule_and_age(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList((1.0, 2.0)), give_up_after_seconds=100.0)
    async with running_engine(clock, tmp_path, to("orders", rules)) as engine:
        await all_dead(engine, 1)
        await clock.run_for(3600)
        engine.sender.script("orders", 500, 500, 200)
        await replay(engine)
        await clock.run_for(10)
        sent = engine.sent()[3:]
        assert [one.trigger for one in sent] == [Trigger.MANUAL, Trigger.SCHEDULED, Trigger.SCHEDULED]
        assert [one.number for one in sent] == [4, 5, 6]
        (delivery,) = await engine.deliveries()
        assert delivery.state is DeliveryState.DELIVERED


async def test_a_dry_run_counts_and_changes_nothing(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await all_dead(engine, 3)
        assert await engine.desk.replay(ReplayFilter(endpoint_id=ORDERS), dry_run=True) == 3
        await clock.run_for(60)
        assert len(engine.sent()) == 3


async def test_an_endpoint_that_is_not_there(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        with pytest.raises(NotFoundError):
            await engine.desk.replay(ReplayFilter(endpoint_id=EndpointId("other")), dry_run=True)
