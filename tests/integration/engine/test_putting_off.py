"""`deliver_at`: nothing is sent before its time, and everything that counts time counts from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import running_engine
from webhookd.core.delivery import DeliveryState
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.errors import ConflictError, InvalidRequestError

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
PROMPT = DeliveryRules(jitter=0.0, retry=RetryList((1.0, 2.0)))


def to(endpoint_id: str = "orders", rules: DeliveryRules = PROMPT) -> EndpointDefinition:
    return builders.endpoint(endpoint_id, rules=rules, declared=True)


@pytest.mark.parametrize("ahead_ms", [1, 1500, HOUR_MS, 100 * DAY_MS, YEAR_MS])
async def test_a_delivery_is_made_at_its_time_and_not_before(
    clock: VirtualClock, tmp_path: Path, ahead_ms: int
) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        await engine.accept(builders.draft(deliver_at_ms=START_MS + ahead_ms))
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.created_at_ms, delivery.due_at_ms) == (
            DeliveryState.PENDING,
            START_MS,
            START_MS + ahead_ms,
        )
        await clock.run_until(START_MS + ahead_ms - 1)
        assert engine.sent() == []
        await clock.run_for(1)
        assert [sent.at_ms for sent in engine.sent()] == [START_MS + ahead_ms]


@pytest.mark.parametrize("at_ms", [0, START_MS - DAY_MS, START_MS - 1, START_MS])
async def test_a_time_that_is_past_means_now(clock: VirtualClock, tmp_path: Path, at_ms: int) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        (acceptance,) = await engine.accept(builders.draft(deliver_at_ms=at_ms))
        await clock.run_for(1)
        assert [sent.at_ms for sent in engine.sent()] == [START_MS]
        assert (await engine.store.event(acceptance.event_id)).deliver_at_ms == at_ms


async def test_a_year_is_as_far_as_it_goes(clock: VirtualClock, tmp_path: Path) -> None:
    far, near = (builders.draft(deliver_at_ms=START_MS + YEAR_MS + more) for more in (1, 0))
    async with running_engine(clock, tmp_path, to()) as engine:
        with pytest.raises(InvalidRequestError) as refused:
            await engine.accept(far)
        assert (refused.value.slug, refused.value.status) == ("invalid_event", 422)
        assert [fault.pointer for fault in refused.value.faults] == ["/deliver_at"]
        with pytest.raises(InvalidRequestError) as refused:
            await engine.accept(near, far, near, far)
        assert [fault.pointer for fault in refused.value.faults] == ["/2/deliver_at", "/4/deliver_at"]
        assert await engine.deliveries() == []
        await engine.accept(near)


async def test_schedule_and_age_begin_at_its_time(clock: VirtualClock, tmp_path: Path) -> None:
    """Ten days ahead with two hours to give up after: retries are made within two hours of then."""
    rules = DeliveryRules(jitter=0.0, retry=RetryList((3600.0,) * 9), give_up_after_seconds=2 * 3600)
    async with running_engine(clock, tmp_path, to(rules=rules)) as engine:
        engine.sender.script("orders", 500)
        due_ms = START_MS + 10 * DAY_MS
        await engine.accept(builders.draft(deliver_at_ms=due_ms))
        await clock.run_until(due_ms + DAY_MS)
        assert [sent.at_ms - due_ms for sent in engine.sent()] == [0, HOUR_MS, 2 * HOUR_MS]
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.reason, delivery.finished_at_ms) == (
            DeliveryState.DEAD,
            "too_old",
            due_ms + 2 * HOUR_MS,
        )


async def test_others_do_not_wait_for_it(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        later = builders.draft(deliver_at_ms=START_MS + HOUR_MS)
        accepted = await engine.accept(later, builders.draft(), later, builders.draft())
        await clock.run_for(1)
        await engine.accept()
        await clock.run_for(1)
        assert {sent.event_id for sent in engine.sent()} >= {accepted[1].event_id, accepted[3].event_id}
        assert len(engine.sent()) == 3
        await clock.run_until(START_MS + HOUR_MS + 1)
        assert {sent.event_id for sent in engine.sent()[3:]} == {accepted[0].event_id, accepted[2].event_id}


async def test_a_backlog_comes_due_in_the_order_of_its_times(clock: VirtualClock, tmp_path: Path) -> None:
    """More of it than memory holds, handed in with the last to come first."""
    minutes = 300
    rules = DeliveryRules(jitter=0.0, concurrency=1)
    async with running_engine(clock, tmp_path, to(rules=rules)) as engine:
        for minute in range(minutes, 0, -1):
            await engine.accept(builders.draft(deliver_at_ms=START_MS + minute * MINUTE_MS))
        await clock.run_until(START_MS + minutes * MINUTE_MS + 1)
        assert [sent.at_ms for sent in engine.sent()] == [
            START_MS + minute * MINUTE_MS for minute in range(1, minutes + 1)
        ]


async def test_in_order_it_holds_back_whatever_was_accepted_after_it(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, ordered=True)
    async with running_engine(clock, tmp_path, to(rules=rules)) as engine:
        accepted = await engine.accept(
            builders.draft(),
            builders.draft(deliver_at_ms=START_MS + HOUR_MS),
            builders.draft(),
            builders.draft(deliver_at_ms=START_MS + 2 * HOUR_MS),
            builders.draft(deliver_at_ms=START_MS + 1),
        )
        await clock.run_for(60)
        accepted += await engine.accept()
        await clock.run_until(START_MS + HOUR_MS - 1)
        assert [sent.event_id for sent in engine.sent()] == [accepted[0].event_id]
        await clock.run_until(START_MS + 3 * HOUR_MS)
        assert [sent.event_id for sent in engine.sent()] == [acceptance.event_id for acceptance in accepted]
        assert [sent.at_ms - START_MS for sent in engine.sent()] == [
            0,
            HOUR_MS,
            HOUR_MS,
            2 * HOUR_MS,
            2 * HOUR_MS,
            2 * HOUR_MS,
        ]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("away_ms", [MINUTE_MS, 2 * HOUR_MS])
async def test_its_time_outlasts_a_restart(clock: VirtualClock, tmp_path: Path, away_ms: int, ordered: bool) -> None:
    due_ms = START_MS + HOUR_MS
    endpoint = to(rules=DeliveryRules(jitter=0.0, ordered=ordered))
    async with running_engine(clock, tmp_path, endpoint) as engine:
        await engine.accept(builders.draft(deliver_at_ms=due_ms))
        await clock.run_for(60)
        assert engine.sent() == []
    clock.advance(away_ms / 1000)
    async with running_engine(clock, tmp_path, endpoint) as engine:
        await clock.run_for(2 * 3600)
        assert [sent.at_ms for sent in engine.sent()] == [max(due_ms, START_MS + MINUTE_MS + away_ms)]
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.created_at_ms, delivery.owed_since_ms) == (
            DeliveryState.DELIVERED,
            START_MS,
            due_ms,
        )


@pytest.mark.parametrize("step_hours", [-24, -1, 1])
async def test_its_time_is_that_of_the_wall_clock(clock: VirtualClock, tmp_path: Path, step_hours: int) -> None:
    """Whoever sets the clock changes how long it is until then, and not when it is."""
    due_ms = START_MS + 3 * HOUR_MS
    async with running_engine(clock, tmp_path, to()) as engine:
        await engine.accept(builders.draft(deliver_at_ms=due_ms))
        await clock.run_for(60)
        clock.step_wall(3600 * step_hours)
        engine.dispatcher.clock_stepped()
        await clock.run_until(due_ms - 1)
        assert engine.sent() == []
        await clock.run_for(1)
        assert [sent.at_ms for sent in engine.sent()] == [due_ms]


async def test_a_step_over_its_time_makes_it_due(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        await engine.accept(builders.draft(deliver_at_ms=START_MS + HOUR_MS))
        await clock.run_for(60)
        clock.step_wall(2 * 3600)
        engine.dispatcher.clock_stepped()
        await clock.run_for(0)
        assert len(engine.sent()) == 1


async def test_held_past_its_time_it_goes_out_when_the_endpoint_is_enabled(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        await engine.directory.disable(builders.ORDERS)
        await engine.accept(builders.draft(deliver_at_ms=START_MS + HOUR_MS))
        await clock.run_for(2 * 3600)
        assert engine.sent() == []
        await engine.directory.enable(builders.ORDERS)
        await clock.run_for(1)
        assert len(engine.sent()) == 1


async def test_asked_for_by_hand_it_goes_out_before_its_time_and_once(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        await engine.accept(builders.draft(deliver_at_ms=START_MS + HOUR_MS))
        (delivery,) = await engine.deliveries()
        await engine.desk.resend(delivery.id)
        await clock.run_for(2 * 3600)
        assert [sent.at_ms for sent in engine.sent()] == [START_MS]


async def test_its_time_belongs_to_what_an_idempotency_key_stands_for(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to()) as engine:
        at_ms = START_MS + HOUR_MS
        (first,) = await engine.accept(builders.draft(deliver_at_ms=at_ms, idempotency_key="k"))
        (again,) = await engine.accept(builders.draft(deliver_at_ms=at_ms, idempotency_key="k"))
        assert (again.event_id, again.duplicate) == (first.event_id, True)
        for other in (None, at_ms + 1, 0):
            with pytest.raises(ConflictError):
                await engine.accept(builders.draft(deliver_at_ms=other, idempotency_key="k"))
        await clock.run_until(at_ms + 1)
        assert len(engine.sent()) == 1
