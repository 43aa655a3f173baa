"""What holds when operators, and refusals of the database, come in between."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import EngineUnderTest, SimpleSchema, running_engine
from webhookd.core.attempt import Trigger
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import DisabledReason
from webhookd.core.ids import EndpointId
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.engine.dispatcher import Dispatcher
from webhookd.errors import StoreUnavailableError
from webhookd.metrics import Metrics

ONE_AT_A_TIME = DeliveryRules(jitter=0.0, retry=RetryList((60.0,)), concurrency=1)
IN_ORDER = DeliveryRules(jitter=0.0, retry=RetryList((3600.0,)), ordered=True)


def orders(rules: DeliveryRules) -> EndpointDefinition:
    return builders.endpoint(rules=rules, declared=True)


def refuse(room: Any, call: str) -> None:
    """Let the store refuse `call` where `room` makes it."""
    store = room._store  # noqa: SLF001 - the seam itself is what is being cut

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            if name == call:
                raise StoreUnavailableError(f"no {name} now")
            return getattr(store, name)

    room._store = Refusing()  # noqa: SLF001


async def pending(engine: EngineUnderTest) -> int:
    return sum(delivery.state is DeliveryState.PENDING for delivery in await engine.deliveries())


async def test_a_resend_that_the_database_refuses_loses_nothing(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 200, latency=1.0)
        await engine.accept(builders.draft(), builders.draft())
        await clock.run_for(0.5)
        _, waiting = await engine.deliveries()
        refuse(engine.desk, "resend")
        with pytest.raises(StoreUnavailableError):
            await engine.desk.resend(waiting.id)
        await clock.run_for(10)
        assert await pending(engine) == 0


async def test_cancelling_the_head_of_an_ordered_endpoint_lets_the_next_one_go(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, orders(IN_ORDER)) as engine:
        engine.sender.script("orders", 500, 200)
        await engine.accept(builders.draft(), builders.draft())
        await clock.run_for(1)
        head, after = await engine.deliveries()
        await engine.desk.cancel(head.id)
        await clock.run_for(1)
        assert [sent.delivery_id for sent in engine.sent()] == [head.id, after.id]


async def test_a_delivery_resent_while_in_flight_begins_afresh_when_the_attempt_fails(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """The attempt under way was the last of the old schedule, which must not end the delivery that was just resent."""
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 500, latency=10.0)
        await engine.accept()
        await clock.run_for(75)
        (last_chance,) = await engine.deliveries()
        assert (last_chance.attempt_count, len(engine.sent())) == (1, 2)
        await engine.desk.resend(last_chance.id)
        await clock.run_for(200)
        assert [(sent.trigger, sent.at_ms - START_MS) for sent in engine.sent()] == [
            (Trigger.SCHEDULED, 0),
            (Trigger.SCHEDULED, 70_000),
            (Trigger.MANUAL, 80_000),
            (Trigger.SCHEDULED, 150_000),
        ]
        (dead,) = await engine.deliveries()
        assert (dead.state, dead.attempt_count) == (DeliveryState.DEAD, 4)


async def test_an_attempt_acknowledged_after_a_resend_settles_it(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 200, latency=10.0)
        await engine.accept()
        await clock.run_for(5)
        (under_way,) = await engine.deliveries()
        await engine.desk.resend(under_way.id)
        await clock.run_for(60)
        assert await pending(engine) == 0
        assert len(engine.sent()) == 1


async def test_a_rate_that_comes_free_while_attempts_are_started_does_not_go_round_for_ever(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Time passes between two lines of code too: here, a tenth of a millisecond at every look at the clock."""

    class Creeping(VirtualClock):
        def monotonic(self) -> float:
            self._monotonic_ns += 100_000
            looks.append(1)
            assert len(looks) < 50_000, "it goes round for ever"
            return super().monotonic()

    looks: list[int] = []
    rules = DeliveryRules(jitter=0.0, rate_per_second=20_000.0)
    async with running_engine(Creeping(), tmp_path, orders(rules), max_in_flight=256) as engine:
        station = engine.dispatcher._stations.of(builders.ORDERS)  # noqa: SLF001
        assert station is not None
        station.window.size = 32
        now = engine.clock.monotonic() + 0.5
        while station.rate.next_start <= now:
            station.rate.started(now)
        await engine.accept(*[builders.draft() for _ in range(100)])
        await engine.clock.run_for(1)
        assert len(engine.sent()) == 100


class OrderInKeys(SimpleSchema):
    """Resolves API-made endpoints to order or none, as the key says."""

    def resolve(self, endpoint_id: EndpointId, given: Mapping[str, object], **more: Any) -> EndpointDefinition:
        definition = super().resolve(endpoint_id, given, **more)
        return replace(definition, rules=replace(IN_ORDER, ordered=given.get("ordered") is True))


async def test_order_asked_for_later_waits_for_what_is_in_flight_to_be_recorded(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Without, the first would come back from disk as a retry behind deliveries that were accepted after it."""
    async with running_engine(clock, tmp_path) as engine:
        engine.directory.schema = OrderInKeys()
        await engine.directory.create(builders.ORDERS, {})
        engine.sender.script("orders", 500, 200, latency=1.0)
        await engine.accept()
        await clock.run_for(0.5)
        await engine.directory.update(builders.ORDERS, {"ordered": True})
        await engine.accept()
        failing = engine.fail_settling(StoreUnavailableError("for a while"))
        await clock.run_for(2)
        failing.clear()
        await clock.run_for(5000)
        first, second = await engine.deliveries()
        assert [sent.delivery_id for sent in engine.sent()] == [first.id, first.id, second.id]


async def test_an_event_accepted_during_the_start_waits_for_what_is_owed_in_order_before_it(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Producers are listened to before it is known what waits on disk."""
    async with running_engine(clock, tmp_path, orders(IN_ORDER)) as engine:
        await engine.dispatcher.drain(0.0)
        await engine.accept(builders.draft(), builders.draft())
        engine.dispatcher = engine.intake._dispatcher = Dispatcher(  # noqa: SLF001 - the next life of the same parts
            clock=clock,
            store=engine.store,
            sender=engine.sender,
            endpoints=engine.endpoints,
            recorder=engine.recorder,
            metrics=Metrics(version="test"),
            draw=lambda: 0.0,
            max_in_flight=64,
        )
        await engine.accept()
        await engine.dispatcher.start()
        await clock.run_for(1)
        assert [sent.delivery_id for sent in engine.sent()] == [delivery.id for delivery in await engine.deliveries()]


async def test_a_delivery_in_flight_is_not_sent_again_for_a_new_endpoint_of_the_same_id(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Its attempts would bear the same number, and could not both be recorded."""
    async with running_engine(clock, tmp_path) as engine:
        await engine.directory.create(builders.ORDERS, {})
        engine.sender.script("orders", 200, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        await engine.directory.remove(builders.ORDERS)
        await engine.directory.create(builders.ORDERS, {})
        (delivery,) = await engine.deliveries()
        await engine.desk.resend(delivery.id)
        await clock.run_for(2)
        assert len(engine.sent()) == 1
        await clock.run_for(60)
        numbers = [attempt.number for attempt in await engine.attempts(delivery.id)]
        assert numbers == list(range(1, len(engine.sent()) + 1))
        assert await pending(engine) == 0


async def test_what_an_endpoint_did_is_not_held_against_its_successor(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path) as engine:
        await engine.directory.create(builders.ORDERS, {})
        engine.sender.script("orders", 410, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        await engine.directory.remove(builders.ORDERS)
        await engine.directory.create(builders.ORDERS, {})
        engine.sender.script("orders", 200)
        await engine.accept()
        await clock.run_for(10)
        assert engine.record().health.disabled_reason is None
        assert engine.record().health.failed_attempts == 0


async def test_nothing_is_remembered_of_deleted_endpoints(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path) as engine:
        await engine.directory.create(builders.ORDERS, {})
        engine.sender.script("orders", 500, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        await engine.directory.remove(builders.ORDERS)
        await clock.run_for(10)
        assert list(engine.dispatcher.stations) == []


async def test_a_retry_owed_to_a_deleted_endpoint_does_not_hold_back_its_successor(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path) as engine:
        engine.directory.schema = OrderInKeys()
        await engine.directory.create(builders.ORDERS, {})
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(1)
        engine.sender.script("orders", 200, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        await engine.directory.remove(builders.ORDERS)
        await engine.directory.create(builders.ORDERS, {"ordered": True})
        await engine.accept()
        await clock.run_for(30)
        assert await pending(engine) == 0


async def test_attempts_dropped_before_they_began_leave_no_trace(clock: VirtualClock, tmp_path: Path) -> None:
    """Warnings are errors here: none may say that anything was never awaited."""
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.dispatcher.offer([builders.work()])
        engine.dispatcher.abort()
        assert await engine.dispatcher.drain(0.0) == 1
        gc.collect()
        assert engine.sent() == []


def hold_back(room: Any, call: str, seconds: float, clock: VirtualClock) -> None:
    """Let the word of a commit come late to `room`."""
    store = room._store  # noqa: SLF001

    class Late:
        def __getattr__(self, name: str) -> Any:
            return late if name == call else getattr(store, name)

    async def late(*args: Any, **kwargs: Any) -> Any:
        try:
            return await getattr(store, call)(*args, **kwargs)
        finally:
            await clock.sleep(seconds)

    room._store = Late()  # noqa: SLF001


async def test_an_outcome_recorded_while_an_endpoint_is_enabled_does_not_disable_it_on_disk(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 500, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        await engine.directory.disable(builders.ORDERS)
        hold_back(engine.directory, "put_endpoints", 10.0, clock)
        enabling = asyncio.ensure_future(engine.directory.enable(builders.ORDERS))
        await clock.run_for(15)
        assert (await enabling).record.health.disabled_reason is None
        (stored,) = await engine.store.endpoints()
        assert stored == engine.record()


async def test_an_outcome_during_a_reload_counts(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 500, latency=5.0)
        await engine.accept()
        await clock.run_for(1)
        hold_back(engine.directory, "put_endpoints", 10.0, clock)
        reloading = asyncio.ensure_future(engine.directory.reload({}, engine.schema))
        await clock.run_for(15)
        await reloading
        (stored,) = await engine.store.endpoints()
        assert stored == engine.record()
        assert (stored.health.disabled_reason, stored.health.failed_attempts) == (DisabledReason.REMOVED, 1)


async def test_an_endpoint_back_in_the_file_is_opened_gently(clock: VirtualClock, tmp_path: Path) -> None:
    definition = orders(DeliveryRules())
    async with running_engine(clock, tmp_path, definition) as engine:
        engine.sender.script("orders", 200, latency=0.5)
        await engine.directory.reload({}, engine.schema)
        await engine.directory.reload({definition.id: definition}, engine.schema)
        await engine.accept(*[builders.draft() for _ in range(20)])
        await clock.run_for(0.1)
        assert len(engine.sent()) == 1


async def test_what_is_accepted_while_a_deletion_fails_is_delivered(clock: VirtualClock, tmp_path: Path) -> None:
    """Its endpoint was not there at the moment the event had been committed."""
    async with running_engine(clock, tmp_path) as engine:
        await engine.directory.create(builders.ORDERS, {})
        store = engine.directory._store  # noqa: SLF001

        class Undecided:
            def __getattr__(self, name: str) -> Any:
                return refused if name == "remove_endpoint" else getattr(store, name)

        async def refused(*_: Any, **__: Any) -> int:
            await clock.sleep(5)
            raise StoreUnavailableError("after a while")

        engine.directory._store = cast("Any", Undecided())  # noqa: SLF001
        accepting = engine.hand_in(builders.draft())
        await asyncio.sleep(0)
        removing = asyncio.ensure_future(engine.directory.remove(builders.ORDERS))
        await clock.run_for(10)
        assert [acceptance.deliveries for acceptance in await accepting] == [1]
        with pytest.raises(StoreUnavailableError):
            await removing
        await clock.run_for(10)
        assert await pending(engine) == 0


async def test_a_draining_daemon_reads_nothing_more(clock: VirtualClock, tmp_path: Path) -> None:
    """However many endpoints have a backlog, only the reads that were under way are waited for."""
    names = [f"e{number}" for number in range(40)]
    definitions = [builders.endpoint(name, rules=ONE_AT_A_TIME, declared=True) for name in names]
    async with running_engine(clock, tmp_path, *definitions) as engine:
        await engine.accept()
        await clock.run_for(1)
        reads = engine.count_reads()
        for name in names:
            engine.dispatcher.wake(EndpointId(name))
        await engine.dispatcher.drain(1.0)
        assert len(reads) == 4


async def test_an_answered_request_is_let_go_of_at_once(clock: VirtualClock, tmp_path: Path) -> None:
    """Its payload no longer counts against the memory for payloads, so nothing may hold on to it."""
    payload = b"x" * 100_000
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 200, latency=0.1)
        await engine.accept(builders.draft(payload=payload))
        await clock.run_for(0.2)
        gc.collect()
        kept = [thing for thing in gc.get_objects() if isinstance(thing, Work) and thing.event.payload == payload]
        assert kept == []


async def test_a_fault_of_ours_in_a_callback_ends_the_dispatcher(clock: VirtualClock, tmp_path: Path) -> None:
    """The loop would log it and go on, with a daemon that has forgotten what it was about to do."""
    async with running_engine(clock, tmp_path, orders(ONE_AT_A_TIME)) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(1)
        (station,) = engine.dispatcher.stations
        station.window = cast("Any", None)
        await clock.run_for(100)
        assert isinstance(engine.dispatcher.failed.exception(), AttributeError)
        engine.dispatcher.failed = asyncio.Future()


async def test_an_event_resent_while_an_endpoint_is_being_made_again_is_delivered(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """The store knows of the new endpoint a moment before those who send do."""
    async with running_engine(clock, tmp_path) as engine:
        await engine.directory.create(builders.ORDERS, {})
        (acceptance,) = await engine.accept()
        await clock.run_for(1)
        await engine.directory.remove(builders.ORDERS)
        await clock.run_for(1)
        hold_back(engine.directory, "put_endpoints", 1.0, clock)
        creating = asyncio.ensure_future(engine.directory.create(builders.ORDERS, {}))
        await clock.run_for(0.5)
        (owed,) = await engine.desk.resend_event(acceptance.event_id, None)
        await clock.run_for(10)
        await creating
        assert [sent.delivery_id for sent in engine.sent()] == [owed.id, owed.id]
        assert await pending(engine) == 0
