"""What contracts promise over days: the profiles of the example, read as a daemon reads them, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.kit.clock import START_MS, VirtualClock
from tests.kit.contracts import contract, endpoint
from tests.kit.daemon import to_toml
from tests.kit.engine import running_engine
from webhookd import config
from webhookd.core.delivery import DeliveryState, EndReason
from webhookd.core.endpoint import DisabledReason
from webhookd.core.ids import EndpointId
from webhookd.core.settings import EndpointDefinition

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
URL = "https://receiver.example/hook"


def loaded(directory: Path, table: dict[str, Any]) -> EndpointDefinition:
    """Return the one endpoint of a configuration, by way of a file."""
    path = directory / "webhookd.toml"
    path.write_text(to_toml({**table, "store": {"path": "webhookd.db"}}))
    settings = config.load_settings(path, environ={})
    (definition,) = settings.endpoints.values()
    return definition


def flybuy(directory: Path) -> EndpointDefinition:
    table = endpoint("flybuy-project-7", URL, secret_file=None, sample_file=None, tenant=None)
    return loaded(directory, contract("flybuy", orders=table))


def impact_stack(directory: Path, **changes: object) -> EndpointDefinition:
    return loaded(
        directory, contract("impact-stack", orders=endpoint("impact-stack-basic", URL, basic_auth=None, **changes))
    )


def chord(directory: Path) -> EndpointDefinition:
    return loaded(directory, contract("chord", orders=endpoint("chord-orders", URL, types=None)))


async def test_flybuy_disables_an_endpoint_that_fails_for_days(clock: VirtualClock, tmp_path: Path) -> None:
    """Failures on three dates in a row do it, a whole day of them does not, and what is owed then is kept.

    From "FlyBuy: Webhooks", under "Respond to Webhook Events".
    """
    async with running_engine(clock, tmp_path, flybuy(tmp_path)) as engine:
        engine.sender.script("orders", 302)
        for hour in range(3 * 24):
            await clock.run_until(START_MS + hour * HOUR_MS)
            disabled = engine.record().health.disabled_reason
            assert disabled is (None if hour <= 48 else DisabledReason.FAILING), f"after {hour} hours"
            await engine.accept()
        await clock.run_for(HOUR_MS / 1000)
        health = engine.record().health
        assert health.disabled_at_ms == START_MS + 2 * DAY_MS
        held = [delivery for delivery in await engine.deliveries() if delivery.held]
        assert len(held) >= 24
        assert engine.sent()[-1].at_ms == health.disabled_at_ms


async def test_flybuy_forgives_with_every_acknowledgement(clock: VirtualClock, tmp_path: Path) -> None:
    """Days that fail count only as long as nothing between them was acknowledged.

    From "FlyBuy: Webhooks", under "Respond to Webhook Events".
    """
    async with running_engine(clock, tmp_path, flybuy(tmp_path)) as engine:
        for day in range(10):
            for hour in range(24):
                await clock.run_until(START_MS + day * DAY_MS + hour * HOUR_MS)
                acknowledges = day % 2 == 1 and hour == 23
                engine.sender.script("orders", 200 if acknowledges else 503)
                await engine.accept()
        await clock.run_for(60)
        assert engine.record().health.disabled_reason is None
        assert len(engine.sent()) > 240


async def test_impact_stack_resends_after_minutes_then_twice_as_long_each_time(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Ten attempts over a couple of days at exactly these moments, and then it is given up.

    From "Impact Stack: Webhooks", under "Failed attempts and resends".
    """
    async with running_engine(clock, tmp_path, impact_stack(tmp_path, jitter=0)) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_until(START_MS + 30 * DAY_MS)
        minutes = [(sent.at_ms - START_MS) / MINUTE_MS for sent in engine.sent()]
        assert minutes == [0, 5, 15, 35, 75, 155, 315, 635, 1275, 2555]
        assert 1 <= 2555 / (24 * 60) <= 3, "a couple of days"
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.reason) == (DeliveryState.DEAD, EndReason.RETRIES_EXHAUSTED)
        assert engine.record().health.disabled_reason is None


async def test_impact_stacks_schedule_only_ever_stretches(clock: VirtualClock, tmp_path: Path) -> None:
    """The profile as it stands, against a receiver that hangs: timeout and jitter come on top, no delay is cut.

    From "Impact Stack: Webhooks", under "Failed attempts and resends".
    """
    definition = impact_stack(tmp_path)
    async with running_engine(clock, tmp_path, definition) as engine:
        engine.sender.script("orders", 200, latency=60.0)
        await engine.accept()
        await clock.run_until(START_MS + 30 * DAY_MS)
        sent = engine.sent()
        assert len(sent) == 10
        for retry, (one, next_one) in enumerate(pairwise(sent)):
            delay_ms = 5 * MINUTE_MS * 2**retry
            waited_ms = next_one.at_ms - one.at_ms - 1000 * definition.rules.timeout_seconds
            assert delay_ms <= waited_ms <= 1.1 * delay_ms + 1
        assert len({next_one.at_ms - one.at_ms for one, next_one in pairwise(sent)}) == 9
        (delivery,) = await engine.deliveries()
        assert delivery.state is DeliveryState.DEAD


async def test_impact_stacks_events_have_each_a_schedule_of_their_own(clock: VirtualClock, tmp_path: Path) -> None:
    """An event that fails delays no other; each is given up at the end of its own ten attempts.

    From "Impact Stack: Webhooks", under "Reliability & timings".
    """
    async with running_engine(clock, tmp_path, impact_stack(tmp_path, jitter=0)) as engine:
        engine.sender.script("orders", 500)
        first = await engine.accept()
        await clock.run_until(START_MS + 7 * MINUTE_MS)
        second = await engine.accept()
        await clock.run_until(START_MS + 30 * DAY_MS)
        starts = {acceptance.event_id: at for (acceptance,), at in ((first, 0), (second, 7))}
        for event_id, start in starts.items():
            minutes = [(s.at_ms - START_MS) / MINUTE_MS - start for s in engine.sent() if s.event_id == event_id]
            assert minutes == [0, 5, 15, 35, 75, 155, 315, 635, 1275, 2555]


async def test_chord_repeats_five_times_and_no_more(clock: VirtualClock, tmp_path: Path) -> None:
    """Six attempts in all, the profile's delays between them, and nothing for a month after that.

    From "Chord OMS: How to receive event notifications with webhooks", under "Key considerations".
    """
    definition = chord(tmp_path)
    async with running_engine(clock, tmp_path, definition) as engine:
        engine.sender.script("orders", 304)
        await engine.accept()
        await clock.run_until(START_MS + 30 * DAY_MS)
        sent = engine.sent()
        assert len(sent) == 1 + 5
        assert EndpointId("orders") == definition.id
        for (one, next_one), minutes in zip(pairwise(sent), (1, 5, 30, 120, 720), strict=True):
            assert minutes <= (next_one.at_ms - one.at_ms) / MINUTE_MS <= 1.1 * minutes + 0.001
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.attempt_count) == (DeliveryState.DEAD, 6)
