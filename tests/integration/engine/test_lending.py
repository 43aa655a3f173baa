"""Memory that one endpoint's deliveries take up while nobody else needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import running_engine
from webhookd.core.ids import EndpointId
from webhookd.core.settings import DeliveryRules
from webhookd.engine import refills
from webhookd.engine.outbox_buffer import MOST_BUFFERED, cost_bytes

FLOODED, OTHER = EndpointId("flooded"), EndpointId("other")
SIZE_BYTES = cost_bytes(builders.work())


async def test_fresh_deliveries_stay_in_memory_while_there_is_room(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, builders.endpoint(FLOODED, declared=True)) as engine:
        engine.sender.script(FLOODED, 200, latency=0.5)
        reads = engine.count_reads()
        for _ in range(3 * MOST_BUFFERED):
            await engine.accept()
        await clock.run_for(120)
        assert len(engine.sent(FLOODED)) == 3 * MOST_BUFFERED
        assert reads == []


async def test_what_is_beyond_ones_share_is_given_back_when_another_needs_room(
    clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refills, "MEMORY_BUDGET_BYTES", 60 * SIZE_BYTES)
    monkeypatch.setattr(refills, "MOST_BUFFERED_BYTES", 10 * SIZE_BYTES)
    endpoints = [builders.endpoint(name, types=(f"for.{name}",), declared=True) for name in (FLOODED, OTHER)]
    async with running_engine(clock, tmp_path, *endpoints) as engine:
        engine.sender.script(FLOODED, 200, latency=0.5)
        engine.sender.script(OTHER, 200, latency=0.001)
        reads = engine.count_reads()
        for _ in range(100):
            await engine.accept(builders.draft("for.flooded"))
        for _ in range(5):
            await engine.accept(builders.draft("for.other"))
        await clock.run_for(0.1)
        assert len(engine.sent(OTHER)) == 5
        await clock.run_for(120)
        assert sorted(sent.delivery_id for sent in engine.sent(FLOODED)) == sorted(
            {sent.delivery_id for sent in engine.sent(FLOODED)}
        )
        assert (len(engine.sent(FLOODED)), set(reads)) == (100, {FLOODED})


async def test_order_is_kept_where_a_buffer_has_been_given_back(
    clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for the newest was made by giving back all that is older; it has to be found there before."""
    monkeypatch.setattr(refills, "MEMORY_BUDGET_BYTES", 10 * SIZE_BYTES)
    rules = DeliveryRules(jitter=0.0, ordered=True)
    async with running_engine(clock, tmp_path, builders.endpoint(FLOODED, rules=rules, declared=True)) as engine:
        engine.sender.script(FLOODED, 200, latency=0.5)
        for _ in range(30):
            await engine.accept()
        await clock.run_for(60)
        ids = [sent.delivery_id for sent in engine.sent(FLOODED)]
        assert len(ids) == 30
        assert ids == sorted(ids)
