"""The store in memory answers as the one on disk does, whatever is asked of both in whatever order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.intake import accepted
from tests.kit.memory_store import EngineStore, MemoryStore
from tests.kit.values import replace
from webhookd.core.delivery import DeliveryState, EndReason, Work
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.ids import DeliveryId, EndpointId, EventId, IdGenerator
from webhookd.core.ports import Settlement
from webhookd.core.queries import ReplayFilter
from webhookd.core.settings import DAY, Storage
from webhookd.errors import ConflictError, NotFoundError
from webhookd.store.sqlite import SqliteStore, open_store

NAMES = tuple(EndpointId(name) for name in ("a", "b", "c"))
STEPS = 150


class Twins:
    """Two stores that are asked the same, one after the other."""

    def __init__(self, seed: int, disk: SqliteStore, memory: MemoryStore) -> None:
        self.rng = random.Random(seed)
        self.disk = disk
        self.memory = memory
        self.now_ms = START_MS
        self.deliveries: list[DeliveryId] = []
        self.events: list[EventId] = []
        self.taken: dict[DeliveryId, Work] = {}
        """Attempts that have begun and whose outcome is not settled."""
        self.said: list[str] = []

    async def both(self, what: str, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        answers = []
        for store in (self.disk, self.memory):
            try:
                answers.append(await ask(store))
            except (ConflictError, NotFoundError) as refusal:
                answers.append(type(refusal))
        self.said.append(f"{what} -> {answers[0]}")
        assert answers[0] == answers[1], what
        return answers[0]

    async def accept(self) -> None:
        batch = [
            builders.submission(
                builders.event(
                    type=self.rng.choice(("order.made", "order.paid", "user.made")),
                    payload=b"x" * self.rng.choice((1, 10, 400)),
                    accepted_at_ms=self.now_ms,
                    deliver_at_ms=self.now_ms + 5000 if self.rng.random() < 0.1 else None,
                ),
                to=tuple(self.rng.sample(NAMES, self.rng.randrange(4))),
                idempotency_key=self.rng.choice((None, None, None, "k1", "k2")),
            )
            for _ in range(self.rng.choice((1, 1, 3)))
        ]
        answers = await self.both("accept", lambda store: accepted(store, batch))
        if isinstance(answers, list):
            for submission, answer in zip(batch, answers, strict=True):
                if not answer.duplicate:
                    self.events.append(submission.event.id)
                    self.deliveries += [delivery_id for delivery_id, _ in submission.deliveries]

    async def read(self) -> None:
        name = self.rng.choice(NAMES)
        asked = {
            "now_ms": self.now_ms,
            "limit": self.rng.choice((1, 3, 20)),
            "max_bytes": self.rng.choice((0, 500, 10_000)),
            "ordered": self.rng.random() < 0.4,
            "exclude": tuple(self.rng.sample(self.deliveries, min(len(self.deliveries), 4))) + tuple(self.taken),
            "replay_limit": self.rng.choice((0, 2, 20)),
            "replay_max_bytes": self.rng.choice((0, 500, 10_000)),
        }
        batch = await self.both(f"due {name} {asked}", lambda store: store.due(name, **asked))
        self.taken.update({work.id: work for work in batch.work})

    async def settle(self) -> None:
        chosen = self.rng.sample(list(self.taken), min(len(self.taken), self.rng.choice((1, 1, 4))))
        settlements = [self.outcome_of(self.taken.pop(delivery_id)) for delivery_id in chosen]
        news = [
            replace(
                builders.submission(builders.event(accepted_at_ms=self.now_ms), to=self.rng.choice(((), ("a",)))),
                death_of=self.rng.choice((None, settlement.attempt.delivery_id)),
            )
            for settlement in settlements
            if self.rng.random() < 0.3
        ]
        self.deliveries += [delivery_id for event in news for delivery_id, _ in event.deliveries]
        health = {self.rng.choice(NAMES): self.some_health()}
        await self.both(f"settle {settlements}", lambda store: store.settle(settlements, health, news))

    def outcome_of(self, work: Work) -> Settlement:
        draw = self.rng.random()
        if draw < 0.4:
            return builders.delivered(work, at_ms=self.now_ms)
        if draw < 0.7:
            return builders.retried(work, due_at_ms=self.now_ms + self.rng.choice((0, 1000)), at_ms=self.now_ms)
        return replace(builders.died(work, at_ms=self.now_ms), reason=EndReason.TOO_OLD)

    def some_health(self) -> Health:
        reason = self.rng.choice((None, None, DisabledReason.FAILING))
        return Health(disabled_reason=reason, failing_days=self.rng.randrange(3), last_success_at_ms=self.now_ms)

    async def resend(self) -> None:
        which = self.some_delivery()
        await self.both(f"resend {which}", lambda store: store.resend(which, now_ms=self.now_ms))

    async def resend_event(self) -> None:
        which = self.rng.choice(self.events) if self.events else EventId(7)
        target = self.rng.choice((None, *NAMES))
        shown = await self.both(
            f"resend {which} to {target}", lambda store: store.resend_event(which, target, now_ms=self.now_ms)
        )
        if isinstance(shown, list):
            self.deliveries += [delivery.id for delivery in shown if delivery.id not in self.deliveries]

    async def cancel(self) -> None:
        which = self.some_delivery()
        await self.both(f"cancel {which}", lambda store: store.cancel(which, now_ms=self.now_ms))

    async def replay(self) -> None:
        which = ReplayFilter(
            endpoint_id=self.rng.choice(NAMES),
            states=tuple(self.rng.sample((DeliveryState.DEAD, DeliveryState.CANCELLED, DeliveryState.DELIVERED), 2)),
            types=self.rng.choice(((), ("order.*",))),
            since_ms=self.rng.choice((None, self.now_ms - 3000)),
            until_ms=self.rng.choice((None, self.now_ms)),
        )
        await self.both(f"replayable {which}", lambda store: store.replayable(which))
        await self.both(f"replay {which}", lambda store: store.replay(which, now_ms=self.now_ms))

    async def put(self) -> None:
        record = builders.record(self.rng.choice(NAMES), health=self.some_health())
        await self.both(f"put {record.id}", lambda store: store.put_endpoints([record]))

    async def remove(self) -> None:
        name = self.rng.choice(NAMES)
        await self.both(f"remove {name}", lambda store: store.remove_endpoint(name, now_ms=self.now_ms))

    async def pass_time(self) -> None:
        self.now_ms += self.rng.choice((1, 1000, 5000, 90_000_000))

    def some_delivery(self) -> DeliveryId:
        return self.rng.choice(self.deliveries) if self.deliveries else DeliveryId(7)

    async def look(self) -> None:
        await self.both("heads", lambda store: store.heads())
        await self.both("endpoints", lambda store: store.endpoints())
        await self.both("highest id", lambda store: store.highest_id())
        which = self.some_delivery()
        await self.both(f"delivery {which}", lambda store: store.delivery(which))
        await self.both(f"attempts {which}", lambda store: store.attempts(which))

    async def live(self) -> None:
        happenings: list[Callable[[], Awaitable[None]]] = [
            self.accept,
            self.read,
            self.settle,
            self.resend,
            self.resend_event,
            self.cancel,
            self.replay,
            self.put,
            self.remove,
            self.pass_time,
        ]
        for _ in range(STEPS):
            (happening,) = self.rng.choices(happenings, (25, 20, 20, 6, 4, 5, 3, 4, 2, 10))
            await happening()
            await self.look()


async def test_both_stores_answer_alike(seed: int, scale: int, tmp_path: Path) -> None:
    for number in range(4 * scale):
        clock = VirtualClock()
        # Each mints on its own, and from the same beginning.
        of_disk, of_memory = IdGenerator(node=2), IdGenerator(node=2)
        disk = await open_store(
            Storage(path=tmp_path / str(number) / "webhookd.db", min_free_bytes=0),
            idempotency_window_seconds=DAY,
            clock=clock,
            mint=partial(of_disk.mint, START_MS),
        )
        memory = MemoryStore(clock=clock, mint=partial(of_memory.mint, START_MS), idempotency_window_seconds=DAY)
        twins = Twins(seed * 1000 + number, disk, memory)
        try:
            await twins.live()
        except BaseException as error:
            error.add_note("\n".join(twins.said[-25:]))
            raise
        finally:
            await disk.close()


def as_the_engine_sees_it(store: MemoryStore) -> EngineStore:
    """Let the type checker say that nothing is missing."""
    return store
