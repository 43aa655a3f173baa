"""Thousands of endpoints in virtual time: the real engine, a store in memory, and receivers of every kind."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import EngineUnderTest
from tests.kit.memory_store import MemoryStore
from tests.kit.starting import StartsBySending
from webhookd.core.attempt import AttemptError, ErrorClass, Outcome
from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.ports import Acceptance
from webhookd.core.settings import EndpointDefinition, Ingest

if TYPE_CHECKING:
    from webhookd.store.sqlite import SqliteStore

COMMIT_SECONDS = 0.002
READ_SECONDS = 0.001


class Kind(StrEnum):
    """What a receiver is like."""

    WELL = "well"
    TARPIT = "tarpit"
    """Answers 200 after 14 seconds."""
    DEAD = "dead"
    """Nothing listens there."""
    SILENT = "silent"
    """Takes the request and never answers."""
    BROKEN = "broken"
    """Answers 500 at once, always."""
    HOPELESS = "hopeless"
    """As broken, with so short a plan that deliveries die."""
    FLAPPING = "flapping"
    """Refuses connections for ten minutes of every forty."""
    THROTTLED = "throttled"
    """Takes three requests a minute, and asks for 90 seconds of silence by 429 beyond that."""
    GONE = "gone"
    """Answers 410 from its sixth request on."""
    ORDERED = "ordered"
    """Takes deliveries in order only, and fails one in five."""
    RATED = "rated"
    """Takes one request in two seconds by its rules."""


@dataclass(slots=True)
class Receiver:
    """One receiver and what it remembers."""

    kind: Kind
    phase_seconds: float
    calls: int = 0
    recent: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Made:
    """One attempt; moments are monotonic seconds, `status` is None where there was no answer."""

    delivery_id: DeliveryId
    number: int
    due_at_ms: int
    started_at_ms: int
    ended_at_ms: int
    status: int | None
    retry_after_seconds: float | None


class World(StartsBySending):
    """Fills the Sender port: receivers that answer by what they are, by the clock, and by chance from one seed.

    Everything that happens is kept in `made` and goes into `trace`.
    """

    def __init__(self, clock: VirtualClock, rng: random.Random, kinds: Mapping[EndpointId, Kind]) -> None:
        self._clock = clock
        self._rng = rng
        self.receivers = {name: Receiver(kind, 2400 * rng.random()) for name, kind in kinds.items()}
        self.made: dict[EndpointId, list[Made]] = {name: [] for name in kinds}
        self.all_are_well = False
        self.in_flight = 0
        self.most_in_flight = 0
        self.trace = hashlib.blake2b(digest_size=16)

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        started, started_at_ms = self._clock.monotonic(), self._clock.now_ms()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            seconds, answer, retry_after_seconds = self._answer(self.receivers[endpoint.id])
            if seconds >= endpoint.rules.timeout_seconds:
                seconds, answer = endpoint.rules.timeout_seconds, ErrorClass.TIMEOUT
            await self._clock.sleep(seconds)
        finally:
            self.in_flight -= 1
        status = answer if isinstance(answer, int) else None
        error = AttemptError(kind=answer, text="simulated") if isinstance(answer, ErrorClass) else None
        ended_at_ms = self._clock.now_ms()
        self.made[endpoint.id].append(
            Made(
                work.id,
                work.attempt_count + 1,
                work.due_at_ms,
                started_at_ms,
                ended_at_ms,
                status,
                retry_after_seconds,
            )
        )
        self.trace.update(
            f"{endpoint.id} {work.id} {work.attempt_count} {started_at_ms} {ended_at_ms} {answer}".encode()
        )
        return Outcome(
            duration_ms=1000 * (self._clock.monotonic() - started),
            status=status,
            error=error,
            retry_after_seconds=retry_after_seconds,
        )

    async def close(self) -> None:
        pass

    def _answer(self, receiver: Receiver) -> tuple[float, int | ErrorClass, float | None]:
        """Return after how many seconds it answers what, and the Retry-After with it."""
        receiver.calls += 1
        now = self._clock.monotonic()
        quick = 0.02 + 0.2 * self._rng.random() ** 3
        if self.all_are_well:
            return quick, 200, None
        match receiver.kind:
            case Kind.TARPIT:
                return 14.0, 200, None
            case Kind.DEAD:
                return 0.001, ErrorClass.CONNECT, None
            case Kind.SILENT:
                return 1e9, 200, None
            case Kind.BROKEN | Kind.HOPELESS:
                return quick, 500, None
            case Kind.FLAPPING if (now + receiver.phase_seconds) % 2400 < 600:
                return 0.001, ErrorClass.CONNECT, None
            case Kind.THROTTLED:
                receiver.recent = [at for at in receiver.recent if at > now - 60]
                if len(receiver.recent) >= 3:
                    return quick, 429, 90.0
                receiver.recent.append(now)
            case Kind.GONE if receiver.calls > 5:
                return quick, 410, None
            case Kind.ORDERED if self._rng.random() < 0.2:
                return quick, 500, None
            case _:
                pass
        return quick, 200, None


class SimulatedEngine(EngineUnderTest):
    """An engine on a store in memory, which takes its time as a disk does."""

    async def _open(self) -> SqliteStore:
        self.memory = MemoryStore(
            clock=self.clock,
            mint=lambda: self.ids.mint(self.clock.now_ms()),
            idempotency_window_seconds=self._ingest.idempotency_window_seconds,
            commit_seconds=COMMIT_SECONDS,
            read_seconds=READ_SECONDS,
        )
        return cast("SqliteStore", self.memory)


@dataclass(slots=True, kw_only=True)
class Simulation:
    """A running engine in its world; `accepted` is what producers were told: how many deliveries by event."""

    clock: VirtualClock
    engine: SimulatedEngine
    world: World
    rng: random.Random
    accepted: dict[EventId, int] = field(default_factory=dict)

    async def produce(self, per_second: float, seconds: float, some_types: Callable[[], list[str]]) -> None:
        """While `seconds` pass, hand in a batch of events at random moments, `per_second` on average."""
        until = self.clock.monotonic() + seconds
        while (gap_seconds := self.rng.expovariate(per_second)) + self.clock.monotonic() < until:
            await self.clock.sleep(gap_seconds)
            drafts = [builders.draft(event_type) for event_type in some_types()]
            self.engine.hand_in(*drafts).add_done_callback(self._note)

    def _note(self, done: asyncio.Future[list[Acceptance]]) -> None:
        self.accepted.update({acceptance.event_id: acceptance.deliveries for acceptance in done.result()})


@asynccontextmanager
async def simulating(
    definitions: Sequence[EndpointDefinition],
    kinds: Mapping[EndpointId, Kind],
    *,
    clock: VirtualClock,
    seed: int,
    max_in_flight: int = 1024,
) -> AsyncIterator[Simulation]:
    """Run an engine in a world of `kinds`; all chance in it comes from `seed`."""
    rng = random.Random(seed)
    engine = SimulatedEngine(clock, Path(), seed=rng.randrange(1 << 30), max_in_flight=max_in_flight, ingest=Ingest())
    world = World(clock, random.Random(rng.randrange(1 << 30)), kinds)
    engine.sender = world  # type: ignore[assignment]
    # The store answers by the clock, so that time has to pass for there to be a beginning.
    starting = asyncio.create_task(engine.start(definitions))
    await clock.run_while(lambda: not starting.done(), within_seconds=60)
    await starting
    try:
        yield Simulation(clock=clock, engine=engine, world=world, rng=rng)
    finally:
        await engine.stop()
