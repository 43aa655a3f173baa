"""The engine against chance: whatever happens in whatever order, nothing accepted is lost, repeated or out of order."""

# ruff: noqa: SLF001 - what must never drift lies inside

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import EngineUnderTest, SimpleSchema
from tests.kit.starting import StartsBySending
from tests.kit.values import replace
from webhookd.core.attempt import AttemptError, ErrorClass, Outcome, Trigger
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.event import Draft
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.queries import ReplayFilter
from webhookd.core.settings import DeliveryRules, EndpointDefinition, Ingest, RetryList
from webhookd.engine.outbox_buffer import cost_bytes
from webhookd.errors import ConflictError, NotFoundError, StoreUnavailableError

ENDPOINTS = tuple(EndpointId(f"e{number}") for number in range(4))
TYPES = ("order.made", "order.paid", "user.made")
STEPS = 90


class RulesFromKeys(SimpleSchema):
    """A schema by which the keys of an endpoint are its rules."""

    def resolve(self, endpoint_id: EndpointId, given: Mapping[str, object], **more: Any) -> EndpointDefinition:
        numbers = {key: value for key, value in given.items() if isinstance(value, (int, float))}
        rate = numbers.get("rate")
        types = given.get("types")
        return replace(
            super().resolve(endpoint_id, given, **more),
            types=(types,) if isinstance(types, str) else (),
            rules=DeliveryRules(
                retry=RetryList((1.0, 4.0, 30.0, 300.0)),
                timeout_seconds=5.0,
                concurrency=int(numbers.get("concurrency", 8)),
                rate_per_second=None if rate is None else float(rate),
                ordered=given.get("ordered") is True,
                disable_after_days=0,
            ),
        )


@dataclass
class Receivers(StartsBySending):
    """Fills the Sender port: answers by chance while `chaotic`, else 200; and looks at what each attempt may not be."""

    clock: VirtualClock
    rng: random.Random
    look_at: Callable[[Work, EndpointDefinition], None]
    chaotic: bool = True
    flying: dict[int, Work] = field(default_factory=dict)

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        self.look_at(work, endpoint)
        self.flying[work.id] = work
        began = self.clock.monotonic()
        try:
            seconds = self.rng.choice((0.0, 0.0, 0.01, 0.3, 1.5, 6.0)) if self.chaotic else 0.01
            await self.clock.sleep(min(seconds, endpoint.rules.timeout_seconds))
            duration_ms = (self.clock.monotonic() - began) * 1000
            if seconds >= endpoint.rules.timeout_seconds:
                return Outcome(duration_ms=duration_ms, error=AttemptError(kind=ErrorClass.TIMEOUT, text="scripted"))
            return self._answer(duration_ms)
        finally:
            del self.flying[work.id]

    def _answer(self, duration_ms: float) -> Outcome:
        draw = self.rng.random() if self.chaotic else 1.0
        if draw > 0.55:
            return Outcome(duration_ms=duration_ms, status=200)
        if draw > 0.25:
            return Outcome(duration_ms=duration_ms, status=500)
        if draw > 0.2:
            return Outcome(duration_ms=duration_ms, status=503, retry_after_seconds=self.rng.choice((0.5, 3.0, 40.0)))
        if draw > 0.03:
            kind = self.rng.choice((ErrorClass.CONNECT, ErrorClass.DNS, ErrorClass.LOCAL, ErrorClass.PROTOCOL))
            return Outcome(duration_ms=duration_ms, error=AttemptError(kind=kind, text="scripted"))
        if draw > 0.02:
            return Outcome(duration_ms=duration_ms, status=410)
        raise RuntimeError("a bug of ours")

    async def close(self) -> None:
        pass


class Refusing:
    """A store that now and then takes no writes."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.is_refusing = False

    def __getattr__(self, name: str) -> Any:
        writes = name in {"settle", "resend", "resend_event", "replay", "cancel", "put_endpoints", "remove_endpoint"}
        if self.is_refusing and writes:
            raise StoreUnavailableError("refused by the test")
        return getattr(self._store, name)


class Story:
    """One random history, and what must hold throughout."""

    def __init__(self, seed: int, path: Path) -> None:
        self.rng = random.Random(seed)
        self.path = path / "webhookd.db"
        self.clock = VirtualClock()
        self.max_in_flight = self.rng.choice((2, 4, 16, 64))
        self.owed: set[tuple[EventId, int]] = set()
        self.disabled: set[EndpointId] = set()
        self.latest: Counter[EndpointId] = Counter()
        """Which of the changes of an endpoint that were asked for was the latest to count: they count in that order."""
        self.asked = 0
        self.changing: Counter[EndpointId] = Counter()
        """Endpoints whose order an operator is changing at this moment, so that nothing can be said about it."""
        self.said: list[str] = []
        self.wrong: list[AssertionError] = []

    async def begin(self) -> None:
        engine = EngineUnderTest(
            self.clock, self.path, seed=self.rng.randrange(1 << 30), max_in_flight=self.max_in_flight, ingest=Ingest()
        )
        engine.schema = RulesFromKeys()
        self.sent: set[tuple[DeliveryId, int]] = set()
        """Delivery and number of every attempt in this life."""
        self.receivers = Receivers(self.clock, self.rng, self.look_at)
        engine.sender = self.receivers  # type: ignore[assignment]
        self.engine = engine
        await engine.start([])
        self.writes = Refusing(engine.store)
        for room in (engine.recorder, engine.desk, engine.directory):
            room._store = self.writes  # type: ignore[assignment]
        self.db = sqlite3.connect(self.path.as_uri() + "?mode=ro", uri=True, isolation_level=None)
        self.disabled = {live.record.id for live in engine.endpoints if not live.is_enabled}
        self.changing.clear()

    async def end(self) -> None:
        await self.engine.stop()
        self.db.close()

    def say(self, *words: object) -> None:
        self.said.append(f"{self.clock.monotonic():10.2f} " + " ".join(map(str, words)))

    def rows(self, sql: str, *values: object) -> list[Any]:
        return self.db.execute(sql, values).fetchall()

    # What no attempt may be.

    def look_at(self, work: Work, endpoint: EndpointDefinition) -> None:
        """Keep what is wrong with an attempt for later: raised here, it would be taken for the attempt's outcome."""
        self.say("sent", work.endpoint_id, work.id, work.attempt_count + 1, work.trigger)
        try:
            self.may_send(work, endpoint)
        except AssertionError as error:
            self.say(error)
            self.wrong.append(error)

    def may_send(self, work: Work, endpoint: EndpointDefinition) -> None:
        key = (work.id, work.attempt_count + 1)
        assert key not in self.sent, f"attempt {key} was made twice in one life"
        self.sent.add(key)
        if self.changing[work.endpoint_id]:
            return
        assert work.endpoint_id not in self.disabled, f"{work.id} was sent to a disabled endpoint"
        ((state,),) = self.rows("SELECT state FROM deliveries WHERE id = ?", work.id)
        assert state == "pending", f"{work.id} was sent though {state}"
        if endpoint.rules.ordered:
            before = self.rows(
                "SELECT id FROM deliveries WHERE endpoint_id = ? AND state = 'pending' AND id < ?",
                work.endpoint_id,
                work.id,
            )
            assert not before, f"{work.id} was sent before {before} was settled"

    # What happens.

    async def attempt(self, what: Awaitable[Any], *about: EndpointId) -> Any:
        self.changing.update(about)
        try:
            return await what
        except (NotFoundError, ConflictError, StoreUnavailableError) as refusal:
            self.say("refused", refusal)
            return None
        finally:
            # An attempt that was decided on in the same turn of the loop begins in the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.changing.subtract(about)

    def some_delivery(self) -> tuple[DeliveryId, EndpointId] | None:
        rows = self.rows("SELECT id, endpoint_id FROM deliveries ORDER BY random() LIMIT 1")
        flying = list(self.receivers.flying.values())
        if flying and self.rng.random() < 0.5:
            work = self.rng.choice(flying)
            return work.id, work.endpoint_id
        return rows[0] if rows else None

    def some_draft(self) -> Draft:
        put_off_seconds = self.rng.choice((None,) * 30 + (-5, 3, 600))
        at_ms = None if put_off_seconds is None else self.clock.now_ms() + 1000 * put_off_seconds
        return builders.draft(self.rng.choice(TYPES), deliver_at_ms=at_ms)

    async def accept(self) -> None:
        drafts = [self.some_draft() for _ in range(self.rng.choice((1, 1, 2, 5, 40)))]
        for acceptance in await self.engine.accept(*drafts):
            self.owed.add((acceptance.event_id, acceptance.deliveries))
        self.say("accepted", len(drafts))

    async def pass_time(self) -> None:
        await self.clock.run_for(self.rng.choice((0.0, 0.01, 0.5, 1.0, 2.0, 7.0, 40.0)))

    async def cancel(self) -> None:
        if found := self.some_delivery():
            self.say("cancel", *found)
            await self.attempt(self.engine.desk.cancel(found[0]), found[1])

    async def resend(self) -> None:
        if found := self.some_delivery():
            self.say("resend", *found)
            await self.attempt(self.engine.desk.resend(found[0]), found[1])

    async def resend_event(self) -> None:
        rows = self.rows("SELECT id FROM events ORDER BY random() LIMIT 1")
        if rows:
            self.say("resend event", *rows)
            target = self.rng.choice((None, *ENDPOINTS))
            await self.attempt(self.engine.desk.resend_event(EventId(rows[0][0]), target), *ENDPOINTS)

    async def replay(self) -> None:
        name = self.rng.choice(ENDPOINTS)
        states = self.rng.choice(((DeliveryState.DEAD,), (DeliveryState.CANCELLED, DeliveryState.DELIVERED)))
        self.say("replay", name, *states)
        which = ReplayFilter(endpoint_id=name, states=states)
        await self.attempt(self.engine.desk.replay(which, dry_run=False), name)

    def some_keys(self) -> dict[str, object]:
        keys: dict[str, object] = {
            "ordered": self.rng.random() < 0.4,
            "concurrency": self.rng.choice((1, 3, 16)),
            "types": self.rng.choice((None, None, "order.*")),
            "rate": self.rng.choice((None, None, None, 5, 50)),
        }
        return keys

    async def create(self) -> None:
        name, keys = self.rng.choice(ENDPOINTS), self.some_keys()
        self.say("create", name, keys)
        given = {key: value for key, value in keys.items() if value is not None}
        await self.attempt(self.engine.directory.create(name, given), name)

    async def update(self) -> None:
        name, keys = self.rng.choice(ENDPOINTS), self.some_keys()
        self.say("update", name, keys)
        await self.attempt(self.engine.directory.update(name, keys), name)

    async def remove(self) -> None:
        name = self.rng.choice(ENDPOINTS)
        self.say("remove", name)

        await self.attempt(self.in_turn(name, self.engine.directory.remove(name), self.disabled.discard), name)

    async def disable(self) -> None:
        name = self.rng.choice(ENDPOINTS)
        self.say("disable", name)
        await self.attempt(self.in_turn(name, self.engine.directory.disable(name), self.disabled.add), name)

    async def enable(self) -> None:
        name = self.rng.choice(ENDPOINTS)
        self.say("enable", name)
        await self.attempt(self.in_turn(name, self.engine.directory.enable(name), self.disabled.discard), name)

    async def in_turn(self, name: EndpointId, change: Awaitable[Any], note: Callable[[EndpointId], None]) -> None:
        """Note what a change has led to, unless one that was asked for later was answered before it."""
        self.asked += 1
        asked = self.asked
        await change
        if asked > self.latest[name]:
            self.latest[name] = asked
            note(name)

    async def refuse(self) -> None:
        self.writes.is_refusing = not self.writes.is_refusing
        self.say("refusing", self.writes.is_refusing)

    async def several(self) -> None:
        """Let things happen at the same moment."""
        happenings = self.rng.choices(
            (
                self.accept,
                self.cancel,
                self.resend,
                self.resend_event,
                self.replay,
                self.update,
                self.remove,
                self.create,
                self.enable,
                self.disable,
            ),
            k=3,
        )
        await asyncio.gather(*[happening() for happening in happenings])

    async def restart(self) -> None:
        self.say("restarted")
        await self.end()
        await self.begin()

    async def step(self) -> None:
        (happening,) = self.rng.choices(
            (
                self.accept,
                self.pass_time,
                self.cancel,
                self.resend,
                self.resend_event,
                self.replay,
                self.create,
                self.update,
                self.remove,
                self.disable,
                self.enable,
                self.refuse,
                self.several,
                self.restart,
            ),
            (20, 30, 5, 6, 3, 2, 6, 4, 2, 3, 6, 3, 12, 1),
        )
        await happening()
        if self.rng.random() < 0.5:
            await self.clock.settle()
            self.check_that_all_is_looked_after()

    # What holds whenever nothing more can happen without time passing.

    def check_that_all_is_looked_after(self) -> None:
        if self.wrong:
            raise self.wrong[0]
        dispatcher = self.engine.dispatcher
        flying = list(self.receivers.flying.values())
        stations = {station.live.record.id: station for station in dispatcher.stations}
        assert dispatcher.lanes.in_flight == len(flying)
        assert min(dispatcher.lanes.busy.values()) >= 0
        assert dispatcher.lanes.in_flight <= self.max_in_flight
        assert dispatcher._refills._bytes == sum(cost_bytes(work) for work in flying) + sum(
            station.buffer.bytes for station in stations.values()
        )
        for live in self.engine.endpoints:
            name = live.record.id
            pending = dict(
                self.rows("SELECT id, due_at_ms FROM deliveries WHERE endpoint_id = ? AND state = 'pending'", name)
            )
            if not pending or not live.is_enabled:
                continue
            station = stations.get(name)
            assert station is not None, f"{name} is owed {len(pending)} and not even known"
            buffer = station.buffer
            on_disk = {id_: due for id_, due in pending.items() if id_ not in buffer.known}
            if on_disk:
                due = on_disk[min(on_disk)] if station.is_ordered else min(on_disk.values())
                looks_ms = buffer.first_on_disk_ms()
                assert looks_ms is not None, f"{station!r} forgot {on_disk}"
                assert looks_ms <= max(due, self.clock.now_ms()), f"{station!r} comes too late for {on_disk}"
            assert (
                station.ring is not None
                or station.is_refill_wanted
                or station.busy > 0
                or len(buffer.known) > buffer.count
                or any(at == station.wake_at and of is station for at, _, of in dispatcher._alarms._heap)
            ), f"nothing will ever wake {station!r}, which is owed {pending}"

    # How it ends.

    async def finish(self) -> None:
        """Let every receiver be well, and hold the engine to what it owes."""
        self.say("all receivers are well")
        self.writes.is_refusing = False
        self.receivers.chaotic = False
        await self.clock.run_for(6 * 3600)
        self.check_that_all_is_looked_after()
        held = {live.record.id for live in self.engine.endpoints if not live.is_enabled}
        for delivery in await self.engine.deliveries():
            if delivery.state is DeliveryState.PENDING:
                assert delivery.endpoint_id in held, f"{delivery} was never delivered"
                assert delivery.held, f"{delivery} is held, but not on disk"
            attempts = await self.engine.attempts(delivery.id)
            assert [attempt.number for attempt in attempts] == list(range(1, delivery.attempt_count + 1))
            for attempt, after in pairwise(attempts):
                if attempt.outcome.status == 200:
                    assert after.trigger is Trigger.MANUAL, f"{delivery} was sent again after a recorded success"
        for event_id, deliveries in self.owed:
            ((rows,),) = self.rows("SELECT count(*) FROM deliveries WHERE event_id = ?", event_id)
            assert rows >= deliveries
        for record in await self.engine.store.endpoints():
            assert record == self.engine.record(record.id), "what is on disk is not what is in force"
        dispatcher = self.engine.dispatcher
        assert dispatcher.lanes.in_flight == 0
        assert dispatcher._refills._bytes == 0
        assert [station for station in dispatcher.stations if station.busy or station.buffer.known] == []

    async def run(self) -> None:
        await self.begin()
        try:
            for name in ENDPOINTS[:3]:
                given = {key: value for key, value in self.some_keys().items() if value is not None}
                await self.engine.directory.create(name, given)
            for _ in range(STEPS):
                await self.step()
            await self.finish()
        finally:
            await self.end()


async def tell(seed: int, path: Path) -> None:
    """Run one story; a failure tells its seed and how it went."""
    story = Story(seed, path)
    try:
        await story.run()
    except BaseException as error:
        error.add_note(f"the story of seed {seed}\n" + "\n".join(story.said[-150:]))
        raise


@pytest.mark.parametrize("number", range(24))
async def test_nothing_is_lost_repeated_or_out_of_order(number: int, seed: int, tmp_path: Path) -> None:
    await tell(seed * 1000 + number, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("volume", range(10))
async def test_nothing_is_lost_repeated_or_out_of_order_in_many_stories(
    volume: int, seed: int, scale: int, tmp_path: Path
) -> None:
    for number in range(30 * scale):
        path = tmp_path / str(number)
        path.mkdir()
        await tell((seed * 1000 + 100 + volume * 30) * scale + number, path)
