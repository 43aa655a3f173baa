"""Operational events: told of a change in its own transaction, to whoever subscribes, and never about themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import EngineUnderTest, SimpleSchema, running_engine
from webhookd.core.delivery import Delivery, DeliveryState
from webhookd.core.endpoint import DisabledReason
from webhookd.core.event import OPERATIONAL_TENANT
from webhookd.core.ids import EndpointId, delivery_text, event_text
from webhookd.core.queries import DeliveryFilter, EventFilter
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.errors import StoreUnavailableError

DAY_SECONDS = 86_400
ONCE = DeliveryRules(jitter=0.0, retry=RetryList(()), disable_after_days=0)
DAILY = DeliveryRules(jitter=0.0, retry=RetryList(()), disable_after_days=3, disable_min_failures=1)


def orders(rules: DeliveryRules = ONCE) -> EndpointDefinition:
    return builders.endpoint(rules=rules, declared=True)


def alerts(*types: str, name: str = "alerts", rules: DeliveryRules = ONCE) -> EndpointDefinition:
    return builders.endpoint(name, tenant=OPERATIONAL_TENANT, types=types, rules=rules, declared=True)


async def told(engine: EngineUnderTest) -> list[dict[str, Any]]:
    """Return the payloads of all operational events on disk, oldest first."""
    page = await engine.store.events(EventFilter(tenant=OPERATIONAL_TENANT), limit=500, before=None)
    events = [await engine.store.event(event.id) for event in reversed(page.items)]
    payloads = [json.loads(event.payload) for event in events]
    assert [payload["type"] for payload in payloads] == [event.type for event in events]
    return payloads


async def types_told(engine: EngineUnderTest) -> list[str]:
    return [payload["type"].removeprefix("webhookd.") for payload in await told(engine)]


async def deliveries_of(engine: EngineUnderTest, endpoint_id: str) -> Sequence[Delivery]:
    return await engine.deliveries(DeliveryFilter(endpoint_id=EndpointId(endpoint_id)))


async def test_a_death_is_told_with_what_it_takes_to_look_into_it(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.sender.script("orders", 500)
        (acceptance,) = await engine.accept(builders.draft("order.paid", payload=b'{"card":"4111"}'))
        await clock.run_for(1)
        (dead,) = await deliveries_of(engine, "orders")
        assert await told(engine) == [
            {
                "type": "webhookd.delivery.dead",
                "occurred_at": "2025-01-01T00:00:00.000Z",
                "endpoint": {
                    "id": "orders",
                    "tenant": "default",
                    "declared": True,
                    "status": "enabled",
                    "disabled_reason": None,
                    "failing_days": 1,
                    "failed_attempts": 1,
                    "last_success_at": None,
                },
                "delivery": {
                    "id": delivery_text(dead.id),
                    "event": event_text(acceptance.event_id),
                    "type": "order.paid",
                    "tenant": "default",
                    "reason": "retries_exhausted",
                    "attempt_count": 1,
                    "last_status": 500,
                    "last_error": None,
                },
            }
        ]


async def test_what_is_told_goes_out_at_once_and_like_any_other(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(0.1)
        (sent,) = engine.sent("alerts")
        assert sent.at_ms == START_MS
        (delivery,) = await deliveries_of(engine, "alerts")
        assert (delivery.state, delivery.tenant, delivery.event_type) == (
            DeliveryState.DELIVERED,
            OPERATIONAL_TENANT,
            "webhookd.delivery.dead",
        )


async def test_only_the_types_asked_for_are_told(clock: VirtualClock, tmp_path: Path) -> None:
    """News nobody subscribes to leaves no row; and `*` as a tenant does not mean operational events."""
    everything = builders.endpoint("everything", tenant="*", rules=ONCE, declared=True)
    async with running_engine(clock, tmp_path, orders(), everything, alerts("webhookd.endpoint.*")) as engine:
        engine.sender.script("orders", 500, 410)
        await engine.accept()
        await clock.run_for(1)
        assert await told(engine) == []
        await engine.accept()
        await clock.run_for(1)
        assert await types_told(engine) == ["endpoint.disabled"]
        assert [delivery.event_type for delivery in await deliveries_of(engine, "alerts")] == [
            "webhookd.endpoint.disabled"
        ]


async def test_a_streak_is_told_on_its_second_date_and_at_its_end(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(DAILY), alerts("webhookd.endpoint.*")) as engine:
        engine.sender.script("orders", 500)
        for _ in range(4):
            await engine.accept(builders.draft(), builders.draft())
            await clock.run_for(DAY_SECONDS)
        failing, disabled = await told(engine)
        assert (failing["type"], failing["occurred_at"]) == ("webhookd.endpoint.failing", "2025-01-02T00:00:00.000Z")
        assert (failing["endpoint"]["failing_days"], failing["endpoint"]["failed_attempts"]) == (2, 3)
        assert failing["delivery"]["last_status"] == 500
        assert failing["delivery"]["reason"] is None
        assert (disabled["type"], disabled["occurred_at"]) == ("webhookd.endpoint.disabled", "2025-01-03T00:00:00.000Z")
        assert (disabled["endpoint"]["status"], disabled["endpoint"]["disabled_reason"]) == ("disabled", "failing")


async def test_a_streak_that_begins_again_is_told_again(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList(()), disable_after_days=0)
    async with running_engine(clock, tmp_path, orders(rules), alerts("*.failing")) as engine:
        engine.sender.script("orders", 500, 500, 200, 500, 500, 500)
        for _ in range(6):
            await engine.accept()
            await clock.run_for(DAY_SECONDS)
        assert [payload["occurred_at"][:10] for payload in await told(engine)] == ["2025-01-02", "2025-01-05"]


async def test_what_an_operator_does_is_told_without_a_delivery(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        await engine.directory.disable(builders.ORDERS)
        await engine.directory.disable(builders.ORDERS)
        await clock.run_for(1)
        await engine.directory.enable(builders.ORDERS)
        await engine.directory.enable(builders.ORDERS)
        await clock.run_for(1)
        off, on = await told(engine)
        assert (off["type"], off["endpoint"]["disabled_reason"], off["delivery"]) == (
            "webhookd.endpoint.disabled",
            "operator",
            None,
        )
        assert (on["type"], on["endpoint"]["status"], on["occurred_at"]) == (
            "webhookd.endpoint.enabled",
            "enabled",
            "2025-01-01T00:00:01.000Z",
        )
        assert len(engine.sent("alerts")) == 2


@pytest.mark.parametrize("at_restart", [False, True])
async def test_leaving_the_file_and_coming_back_is_told(clock: VirtualClock, tmp_path: Path, at_restart: bool) -> None:
    """Also to an endpoint that comes in the same file; one that goes in it is not told any more."""
    if at_restart:
        async with running_engine(clock, tmp_path, orders(), alerts(name="old")):
            pass
        async with running_engine(clock, tmp_path, alerts(name="new")) as engine:
            await clock.run_for(1)
            assert await types_told(engine) == ["endpoint.disabled", "endpoint.disabled"]
        async with running_engine(clock, tmp_path, orders(), alerts(name="new")) as engine:
            await clock.run_for(1)
            payloads = await told(engine)
            assert len(await deliveries_of(engine, "new")) == len(payloads) == 3
    else:
        async with running_engine(clock, tmp_path, orders(), alerts(name="old")) as engine:
            new = alerts(name="new")
            await engine.directory.reload({new.id: new}, SimpleSchema())
            await clock.run_for(1)
            # What is told of operational endpoints themselves is nothing, as long as their definition is known.
            assert await types_told(engine) == ["endpoint.disabled"]
            await engine.directory.reload({new.id: new, builders.ORDERS: orders()}, SimpleSchema())
            await clock.run_for(1)
            payloads = await told(engine)
            assert len(engine.sent("new")) == len(payloads) == 2
    assert [
        (payload["endpoint"]["id"], payload["endpoint"]["status"], payload["endpoint"]["disabled_reason"])
        for payload in payloads
        if payload["endpoint"]["id"] == "orders"
    ] == [("orders", "disabled", "removed"), ("orders", "enabled", None)]
    assert engine.sent("old") == []


async def test_trouble_with_operational_events_is_not_told(clock: VirtualClock, tmp_path: Path) -> None:
    """Neither a death, nor a streak, nor a disabling of who is told, whoever caused it."""
    impatient = DeliveryRules(jitter=0.0, retry=RetryList(()), disable_after_days=2, disable_min_failures=1)
    async with running_engine(clock, tmp_path, orders(), alerts(rules=impatient), alerts(name="log")) as engine:
        engine.sender.script("orders", 500)
        engine.sender.script("alerts", 500)
        for _ in range(3):
            await engine.accept()
            await clock.run_for(DAY_SECONDS)
        assert engine.record("alerts").health.disabled_reason is DisabledReason.FAILING
        await engine.directory.enable(EndpointId("alerts"))
        await engine.directory.disable(EndpointId("alerts"))
        await clock.run_for(1)
        payloads = await told(engine)
        assert {payload["endpoint"]["id"] for payload in payloads} == {"orders"}
        assert [payload["type"] for payload in payloads].count("webhookd.delivery.dead") == 3
        assert len(payloads) == 4


async def test_an_operational_event_resent_elsewhere_causes_none(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.sender.script("orders", 500, 410)
        await engine.accept()
        await clock.run_for(1)
        page = await engine.store.events(EventFilter(tenant=OPERATIONAL_TENANT), limit=1, before=None)
        await engine.desk.resend_event(page.items[0].id, builders.ORDERS)
        await clock.run_for(1)
        assert engine.record().health.disabled_reason is DisabledReason.GONE
        assert await types_told(engine) == ["delivery.dead"]


async def test_a_delivery_that_was_cancelled_in_flight_is_not_told_dead(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.sender.script("orders", 500, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        (delivery,) = await engine.deliveries()
        await engine.desk.cancel(delivery.id)
        await clock.run_for(10)
        assert [attempt.outcome.status for attempt in await engine.attempts(delivery.id)] == [500]
        assert await told(engine) == []
        assert engine.sent("alerts") == []


async def test_a_change_that_could_not_be_written_is_told_with_it_later(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        failing = engine.fail_settling(StoreUnavailableError("the disk is full"))
        engine.sender.script("orders", 410)
        await engine.accept()
        await clock.run_for(5)
        assert await told(engine) == []
        failing.clear()
        await clock.run_for(5)
        assert await types_told(engine) == ["delivery.dead", "endpoint.disabled"]


async def test_what_is_untold_goes_with_the_record_if_that_is_written_first(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Any write of an endpoint carries its health, and so must carry the news of it: a crash may follow."""
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.fail_settling(StoreUnavailableError("the disk is full"))
        engine.sender.script("orders", 410)
        await engine.accept()
        await clock.run_for(0.5)
        await engine.directory.disable(builders.ORDERS)
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        assert engine.record().health.disabled_reason is DisabledReason.GONE
        assert await types_told(engine) == ["endpoint.disabled"]


async def test_a_crash_before_the_commit_leaves_neither_change_nor_event(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.fail_settling(StoreUnavailableError("the disk is full"))
        engine.sender.script("orders", 410)
        await engine.accept()
        await clock.run_for(1)
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.sender.script("orders", 410)
        assert engine.record().health.disabled_reason is None
        assert await told(engine) == []
        await clock.run_for(1)
        assert engine.record().health.disabled_reason is DisabledReason.GONE
        assert "endpoint.disabled" in await types_told(engine)


async def test_what_was_told_before_a_crash_is_delivered_after_it(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        engine.sender.script("orders", 500)
        engine.sender.script("alerts", 200, latency=10.0)
        await engine.accept()
        await clock.run_for(1)
        assert len(engine.sent("alerts")) == 1
    async with running_engine(clock, tmp_path, orders(), alerts()) as engine:
        await clock.run_for(60)
        assert len(engine.sent("alerts")) == 1
        (delivery,) = await deliveries_of(engine, "alerts")
        assert delivery.state is DeliveryState.DELIVERED


async def test_every_death_of_a_storm_is_told_once(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(), alerts("*.dead")) as engine:
        engine.sender.script("orders", 500)
        await engine.accept(*[builders.draft() for _ in range(300)])
        await clock.run_for(60)
        dead = {delivery_text(delivery.id) for delivery in await deliveries_of(engine, "orders")}
        payloads = await told(engine)
        assert len(payloads) == len(dead) == 300
        assert {payload["delivery"]["id"] for payload in payloads} == dead
        assert len(engine.sent("alerts")) == 300


async def test_removing_who_is_told_while_news_waits_leaves_nothing_owed(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders()) as engine:
        made = builders.endpoint("ep_alerts", tenant=OPERATIONAL_TENANT, rules=ONCE)
        engine.schema = engine.directory.schema = _Fixed(made)
        await engine.directory.create(EndpointId("ep_alerts"), {"url": made.url})
        failing = engine.fail_settling(StoreUnavailableError("the disk is full"))
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(1)
        await engine.directory.remove(EndpointId("ep_alerts"))
        failing.clear()
        await clock.run_for(5)
        assert await told(engine) == []
        assert [delivery.state for delivery in await engine.deliveries()] == [DeliveryState.DEAD]


class _Fixed(SimpleSchema):
    def __init__(self, definition: EndpointDefinition) -> None:
        self._definition = definition

    def resolve(self, *_args: object, **_more: object) -> EndpointDefinition:
        return self._definition
