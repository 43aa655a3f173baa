"""Days in the life of an endpoint: what schedule, health rule and rest promise, over whole retry histories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import running_engine
from webhookd.core.attempt import ErrorClass
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import DisabledReason
from webhookd.core.schedule import delays
from webhookd.core.settings import DeliveryRules, RetryList

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MOST_REST_MS = 360_000
"""Five minutes, lengthened by at most a fifth."""


def schedule_ms(accepted_at_ms: int, rules: DeliveryRules) -> list[int]:
    """Return the moments at which a delivery that always fails at once is attempted."""
    return [accepted_at_ms + round(1000 * offset) for offset in accumulate(delays(rules.retry), initial=0.0)]


async def test_six_days_of_500_with_an_event_every_hour(clock: VirtualClock, tmp_path: Path) -> None:
    """Attempts follow the schedule exactly; the fifth failing date disables; what is held then is delivered later."""
    rules = DeliveryRules(jitter=0.0)
    async with running_engine(clock, tmp_path, builders.endpoint(rules=rules, declared=True)) as engine:
        engine.sender.script("orders", 500)
        for hour in range(6 * 24):
            await clock.run_until(START_MS + hour * HOUR_MS)
            await engine.accept()
        await clock.run_until(START_MS + 6 * DAY_MS)

        health = engine.record().health
        fifth_date = int((datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=4)).timestamp() * 1000)
        assert (health.disabled_reason, health.disabled_at_ms) == (DisabledReason.FAILING, fifth_date)

        deliveries = await engine.deliveries()
        assert len(deliveries) == 6 * 24
        for delivery in deliveries:
            expected = [at for at in schedule_ms(delivery.created_at_ms, rules) if at < fifth_date]
            made = [sent.at_ms for sent in engine.sender.of(delivery.id)]
            # Of what is due at the very moment of disabling, whatever was in the air before the verdict has been sent.
            assert [at for at in made if at < fifth_date] == expected
            assert all(at == fifth_date for at in made[len(expected) :])
        held = [delivery for delivery in deliveries if delivery.held]
        assert all(delivery.state is DeliveryState.PENDING for delivery in held)
        assert {delivery.id for delivery in deliveries if delivery.created_at_ms > fifth_date} <= {
            delivery.id for delivery in held
        }
        dead = [delivery for delivery in deliveries if delivery.state is DeliveryState.DEAD]
        assert {delivery.attempt_count for delivery in dead} == {10}

        engine.sender.script("orders", 200)
        await engine.directory.enable(builders.ORDERS)
        await clock.run_for(60)
        after = {delivery.id: delivery for delivery in await engine.deliveries()}
        assert {after[delivery.id].state for delivery in held} == {DeliveryState.DELIVERED}
        assert all(after[delivery.id].state is DeliveryState.DEAD for delivery in dead)
        assert engine.record().health.failing_days == 0


async def test_one_event_a_week_disables_once_five_dates_have_failed(clock: VirtualClock, tmp_path: Path) -> None:
    """Dates without attempts neither count nor break the streak."""
    rules = DeliveryRules(jitter=0.0)
    async with running_engine(clock, tmp_path, builders.endpoint(rules=rules, declared=True)) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_until(START_MS + 7 * DAY_MS)
        assert engine.record().health.failing_days == 4
        assert engine.record().health.disabled_reason is None

        await engine.accept()
        await clock.run_for(3600)
        health = engine.record().health
        # Ten attempts in the first week; the twelfth is the second one of this week.
        assert (health.failed_attempts, health.disabled_at_ms) == (12, START_MS + 7 * DAY_MS + 5_000)
        assert [delivery.held for delivery in await engine.deliveries()] == [False, True]


async def test_a_success_between_two_weeks_ends_the_streak(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0)
    async with running_engine(clock, tmp_path, builders.endpoint(rules=rules, declared=True)) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_until(START_MS + 6 * DAY_MS)
        engine.sender.script("orders", 200)
        await engine.accept()
        await clock.run_for(60)
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(2 * 86_400)
        assert engine.record().health.disabled_reason is None
        assert engine.record().health.failing_days == 2


async def test_a_host_that_times_out_is_never_tried_early_nor_later_than_its_rest(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """One delivery at a time: each retry starts at its due moment, or at the end of the rest that covers it."""
    rules = DeliveryRules(
        jitter=0.0, retry=RetryList((1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 60.0, 60.0, 600.0)), disable_after_days=0
    )
    async with running_engine(clock, tmp_path, builders.endpoint(rules=rules, declared=True)) as engine:
        engine.sender.script("orders", ErrorClass.TIMEOUT, latency=60.0)
        await engine.accept()
        await clock.run_for(3 * 3600)
        sent = engine.sent()
        assert len(sent) == 10
        lateness = []
        for (before, after), delay in zip(pairwise(sent), delays(rules.retry), strict=True):
            due_ms = before.at_ms + round(1000 * (rules.timeout_seconds + delay))
            lateness.append(after.at_ms - due_ms)
        assert min(lateness) >= 0
        assert max(lateness) <= MOST_REST_MS
        assert any(late > 0 for late in lateness), "the rest was meant to cover some of these"


async def test_a_dead_host_with_a_queue_gets_one_probe_per_rest(clock: VirtualClock, tmp_path: Path) -> None:
    """Work piling up for a host that times out costs no more attempts than its probes, none before its schedule."""
    rules = DeliveryRules(jitter=0.0, disable_after_days=0)
    async with running_engine(clock, tmp_path, builders.endpoint(rules=rules, declared=True)) as engine:
        engine.sender.script("orders", ErrorClass.TIMEOUT, latency=60.0)
        for hour in range(24):
            await clock.run_until(START_MS + hour * HOUR_MS)
            await engine.accept(*[builders.draft() for _ in range(10)])
        await clock.run_until(START_MS + DAY_MS)
        for delivery in await engine.deliveries():
            attempts = await engine.attempts(delivery.id)
            for (before, after), delay in zip(pairwise(attempts), delays(rules.retry), strict=False):
                ended_ms = before.started_at_ms + before.outcome.duration_ms
                assert after.started_at_ms >= ended_ms + 1000 * delay
        starts = [sent.at_ms for sent in engine.sent()]
        # Once it is known to be dead, an attempt takes 15 s and the shortest of the long rests four minutes.
        late_starts = [at for at in starts if at > START_MS + HOUR_MS]
        assert min(after - before for before, after in pairwise(late_starts)) >= 240_000
