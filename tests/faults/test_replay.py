"""An operator has a hundred thousand deliveries sent again: they go behind all others and take up little."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import running_engine
from webhookd.core.attempt import Trigger
from webhookd.core.ids import EndpointId, IdGenerator
from webhookd.core.queries import ReplayFilter
from webhookd.core.settings import DeliveryRules, RetryList
from webhookd.engine.outbox_buffer import MOST_BUFFERED

MANY = 100_000
RULES = DeliveryRules(jitter=0.0, retry=RetryList(()))


def all_dead(path: Path) -> None:
    """Write as many deliveries to `orders` as died a day ago; through the engine that would take minutes."""
    ids = IdGenerator()
    day_before_ms = START_MS - 86_400_000
    pairs = [(ids.mint(day_before_ms), ids.mint(day_before_ms)) for _ in range(MANY)]
    with sqlite3.connect(path) as db:
        db.executemany(
            "INSERT INTO events (id, type, tenant, content_type, accepted_at_ms, payload)"
            " VALUES (?, 'order.completed', 'default', 'application/json', ?, ?)",
            ((event_id, day_before_ms, b"{}") for event_id, _ in pairs),
        )
        db.executemany(
            "INSERT INTO deliveries (id, event_id, endpoint_id, state, reason, attempt_count, owed_since_ms,"
            " created_at_ms, finished_at_ms) VALUES (?, ?, 'orders', 'dead', 'retries_exhausted', 1, ?, ?, ?)",
            ((delivery_id, event_id, *[day_before_ms] * 3) for event_id, delivery_id in pairs),
        )
        db.execute("UPDATE figures SET value = ? WHERE name = 'events'", (MANY,))
    db.close()


@pytest.mark.long
async def test_a_hundred_thousand_sent_again_delay_nobody(clock: VirtualClock, tmp_path: Path) -> None:
    orders = builders.endpoint("orders", rules=RULES, declared=True)
    other = builders.endpoint("other", rules=RULES, declared=True)
    async with running_engine(clock, tmp_path, orders, other):
        pass
    all_dead(tmp_path / "webhookd.db")
    async with running_engine(clock, tmp_path, orders, other, max_in_flight=256) as engine:
        engine.sender.otherwise, engine.sender.latency = 200, 0.2
        await clock.run_for(20)
        begun = time.monotonic()
        count = await engine.desk.replay(ReplayFilter(endpoint_id=EndpointId("orders")), dry_run=False)
        assert count == MANY
        assert time.monotonic() - begun < 60
        live: dict[int, int] = {}
        known = 0
        for _ in range(100):
            (acceptance,) = await engine.accept()
            live[acceptance.event_id] = clock.now_ms()
            await clock.run_for(0.2)
            known = max(known, *(len(station.buffer.known) for station in engine.dispatcher.stations))
        delays = {
            name: [sent.at_ms - live[sent.event_id] for sent in engine.sent(name) if sent.event_id in live]
            for name in ("orders", "other")
        }
        replayed = sum(sent.trigger is Trigger.MANUAL for sent in engine.sent())
        assert [len(each) for each in delays.values()] == [100, 100]
        assert max(delays["other"]) == 0
        # Its own endpoint's window is full of replays: what is new has the next place in it.
        assert max(delays["orders"]) <= 200
        assert replayed > 1000, "it gets on beside them"
        assert engine.sender.peak["orders"] <= RULES.concurrency
        assert known <= 2 * MOST_BUFFERED + RULES.concurrency
