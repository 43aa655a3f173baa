"""A whole engine on a real database file, in virtual time and against a scripted network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.kit import builders
from tests.kit.clock import VirtualClock, watched
from tests.kit.scripted import ScriptedSender, Sent
from webhookd.core.attempt import Attempt
from webhookd.core.delivery import Delivery
from webhookd.core.endpoint import EndpointRecord
from webhookd.core.event import Draft
from webhookd.core.ids import DeliveryId, EndpointId, IdGenerator
from webhookd.core.ports import Acceptance, DueBatch, Outbox
from webhookd.core.queries import DeliveryFilter
from webhookd.core.services import EndpointSchema, SecretMaker
from webhookd.core.settings import EndpointDefinition, Ingest, Signature, Storage
from webhookd.engine import reconcile
from webhookd.engine.announcer import Announcer
from webhookd.engine.desk import DeliveryDesk
from webhookd.engine.directory import EndpointDirectory
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoint, LiveEndpoints
from webhookd.engine.intake import Intake
from webhookd.engine.recorder import Recorder
from webhookd.errors import StoreError
from webhookd.metrics import Metrics
from webhookd.store.sqlite import SqliteStore, open_store


class SimpleSchema:
    """Resolves API-made endpoints to their URL with default rules."""

    def resolve(
        self,
        endpoint_id: EndpointId,
        given: Mapping[str, object],
        *,
        secret: str | None,
        sample: bytes | None,
        make_secret: SecretMaker | None = None,
    ) -> EndpointDefinition:
        """Return a definition with the given URL."""
        if secret is None and make_secret is not None:
            secret = make_secret((Signature(),))
        return builders.endpoint(
            endpoint_id, url=str(given.get("url", "")), secret=secret, sample=sample, given=dict(given)
        )


class EngineUnderTest:
    """The rooms joined as the daemon joins them, with time, chance and the network in the test's hands."""

    def __init__(self, clock: VirtualClock, path: Path, *, seed: int, max_in_flight: int, ingest: Ingest) -> None:
        self.clock = clock
        self.sender = ScriptedSender(clock=clock)
        self.endpoints = LiveEndpoints()
        self._path = path
        self._random = random.Random(seed)
        self._max_in_flight = max_in_flight
        self._ingest = ingest
        self.schema: EndpointSchema = SimpleSchema()

    async def start(self, definitions: Sequence[EndpointDefinition]) -> None:
        """Open the database and begin."""
        self.store = await self._open()
        self.ids = IdGenerator(highest=await self.store.highest_id())
        declared = {definition.id: definition for definition in definitions}
        announcer = Announcer(endpoints=self.endpoints, ids=self.ids)
        await reconcile.load(
            self.endpoints,
            clock=self.clock,
            store=self.store,
            announcer=announcer,
            declared=declared,
            schema=self.schema,
        )
        self.recorder = Recorder(store=self.store, endpoints=self.endpoints, announcer=announcer, clock=self.clock)
        self.dispatcher = Dispatcher(
            clock=self.clock,
            store=self.store,
            sender=self.sender,
            endpoints=self.endpoints,
            recorder=self.recorder,
            metrics=Metrics(version="test"),
            draw=self._random.random,
            max_in_flight=self._max_in_flight,
        )
        self.intake = Intake(
            clock=self.clock,
            store=self.store,
            endpoints=self.endpoints,
            dispatcher=self.dispatcher,
            ids=self.ids,
            settings=self._ingest,
        )
        self.directory = EndpointDirectory(
            clock=self.clock,
            store=self.store,
            sender=self.sender,
            endpoints=self.endpoints,
            dispatcher=self.dispatcher,
            announcer=announcer,
            ids=self.ids,
            schema=self.schema,
        )
        self.desk = DeliveryDesk(
            clock=self.clock, store=self.store, endpoints=self.endpoints, dispatcher=self.dispatcher
        )
        self._recording = asyncio.create_task(self.recorder.run())
        await self.dispatcher.start()

    async def _open(self) -> SqliteStore:
        """Return the store to work on; time passes only while nothing is asked of it."""
        store = await open_store(
            Storage(path=self._path),
            idempotency_window_seconds=self._ingest.idempotency_window_seconds,
            clock=self.clock,
            mint=lambda: self.ids.mint(self.clock.now_ms()),
        )
        asked, self.outstanding = watched(store)
        self.clock.wait_for(self.outstanding)
        return asked

    async def stop(self) -> None:
        """Close, and raise whatever went wrong outside an attempt."""
        self._recording.cancel()
        await asyncio.gather(self._recording, return_exceptions=True)
        self.dispatcher.abort()
        await self.dispatcher.drain(0.0)
        await self.store.close()
        if self.dispatcher.failed.done():
            self.dispatcher.failed.result()

    async def accept(self, *drafts: Draft) -> list[Acceptance]:
        """Hand in events and wait until they are on disk."""
        return await self.hand_in(*drafts or [builders.draft()])

    def hand_in(self, *drafts: Draft) -> asyncio.Future[list[Acceptance]]:
        """Hand in events; the future holds what is answered, and whoever waits for it may give up."""
        future: asyncio.Future[list[Acceptance]] = asyncio.get_running_loop().create_future()

        def answered(outcome: list[Acceptance] | Exception) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.intake.accept(drafts, answered)
        return future

    def count_reads(self) -> list[EndpointId]:
        """Return what will name every endpoint that is read for from now on."""
        reads: list[EndpointId] = []
        read = self.store.due

        async def counted(endpoint_id: EndpointId, **how: Any) -> DueBatch:
            reads.append(endpoint_id)
            return await read(endpoint_id, **how)

        refills: Any = self.dispatcher._refills  # noqa: SLF001 - the seam itself is what is being watched
        refills._store = SimpleNamespace(due=counted)  # noqa: SLF001
        return reads

    def draining(self, *, grace_seconds: float) -> asyncio.Task[int]:
        """Begin to drain; the task ends, as time passes, with how many attempts were aborted."""

        async def drain() -> int:
            interrupted = await self.dispatcher.drain(grace_seconds)
            await self.recorder.flushed()
            return interrupted

        return asyncio.create_task(drain())

    def fail_settling(self, error: StoreError) -> asyncio.Event:
        """Let every attempt to record outcomes fail with `error` until the returned event is cleared."""
        failing = asyncio.Event()
        failing.set()
        settle = self.recorder._store.settle  # noqa: SLF001 - the seam itself is what is being cut

        class Failing:
            def settle(self, *args: Any) -> Awaitable[None]:
                if failing.is_set():
                    raise error
                return settle(*args)

        self.recorder._store = cast("Outbox", Failing())  # noqa: SLF001
        return failing

    def live(self, endpoint_id: str = builders.ORDERS) -> LiveEndpoint:
        """Return an endpoint that exists."""
        live = self.endpoints.get(EndpointId(endpoint_id))
        assert live is not None
        return live

    def record(self, endpoint_id: str = builders.ORDERS) -> EndpointRecord:
        """Return the endpoint's record with its present health."""
        return self.live(endpoint_id).current_record()

    def sent(self, endpoint_id: str = builders.ORDERS) -> list[Sent]:
        """Return the attempts made so far, in order."""
        return self.sender.to(endpoint_id)

    async def deliveries(self, which: DeliveryFilter | None = None) -> list[Delivery]:
        """Return all deliveries in the store, oldest first."""
        found: list[Delivery] = []
        before: int | None = None
        while True:
            page = await self.store.deliveries(which or DeliveryFilter(), limit=500, before=before)
            found += page.items
            before = page.next_before
            if before is None:
                return found[::-1]

    async def attempts(self, delivery_id: DeliveryId) -> list[Attempt]:
        """Return the recorded attempts of a delivery, oldest first."""
        return await self.store.attempts(delivery_id)


@asynccontextmanager
async def running_engine(
    clock: VirtualClock,
    directory: Path,
    *definitions: EndpointDefinition,
    seed: int = 1,
    max_in_flight: int = 64,
    ingest: Ingest | None = None,
) -> AsyncIterator[EngineUnderTest]:
    """Run an engine over `directory / "webhookd.db"`; a second one over it continues the first one's work."""
    engine = EngineUnderTest(
        clock, directory / "webhookd.db", seed=seed, max_in_flight=max_in_flight, ingest=ingest or Ingest()
    )
    await engine.start(definitions)
    try:
        yield engine
    finally:
        await engine.stop()
