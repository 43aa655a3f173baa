"""What the dispatcher promises about one endpoint and its neighbours."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import EngineUnderTest, running_engine
from webhookd.core.attempt import ErrorClass, Outcome, Trigger
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import DisabledReason
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.lanes import Lane
from webhookd.core.queries import DeliveryFilter
from webhookd.core.settings import DeliveryRules, EndpointDefinition, Ingest, OnNoMatch, RetryList
from webhookd.errors import ConflictError, InvalidRequestError, StoreFullError, StoreUnavailableError

PROMPT = DeliveryRules(jitter=0.0, retry=RetryList((1.0, 2.0)))


def to(endpoint_id: str, *, rules: DeliveryRules = PROMPT, types: tuple[str, ...] = ()) -> EndpointDefinition:
    return builders.endpoint(endpoint_id, rules=rules, types=types, declared=True)


async def states(engine: EngineUnderTest) -> Counter[DeliveryState]:
    return Counter(delivery.state for delivery in await engine.deliveries())


async def test_an_event_goes_to_every_endpoint_that_subscribes_to_it(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(
        clock, tmp_path, to("all"), to("orders", types=("order.*",)), to("users", types=("user",))
    ) as engine:
        (acceptance,) = await engine.accept(builders.draft("order.completed"))
        await clock.run_for(1)
        assert acceptance.deliveries == 2
        assert [len(engine.sent(name)) for name in ("all", "orders", "users")] == [1, 1, 0]
        assert await states(engine) == {DeliveryState.DELIVERED: 2}


async def test_two_failures_then_an_answer_make_three_attempts_at_the_configured_delays(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 500, ErrorClass.TIMEOUT, 200, latency=0.25)
        await engine.accept()
        await clock.run_for(10)
        (delivery,) = await engine.deliveries()
        attempts = await engine.attempts(delivery.id)
        assert [attempt.number for attempt in attempts] == [1, 2, 3]
        assert [attempt.outcome.status for attempt in attempts] == [500, None, 200]
        assert [attempt.started_at_ms - START_MS for attempt in attempts] == [0, 1250, 3500]
        assert (delivery.state, delivery.attempt_count) == (DeliveryState.DELIVERED, 3)


async def test_a_delivery_without_retries_left_is_dead_with_its_reason(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 400)
        await engine.accept()
        await clock.run_for(10)
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.reason, delivery.attempt_count) == (
            DeliveryState.DEAD,
            "retries_exhausted",
            3,
        )


async def test_endpoints_that_hang_do_not_delay_those_that_answer(clock: VirtualClock, tmp_path: Path) -> None:
    """A fifth of the endpoints hang until their timeout; from a cold start, the rest still wait less than a second."""
    healthy = [f"healthy-{number}" for number in range(40)]
    hanging = [f"hanging-{number}" for number in range(10)]
    definitions = [to(name) for name in (*healthy, *hanging)]
    async with running_engine(clock, tmp_path, *definitions, max_in_flight=100) as engine:
        for name in hanging:
            engine.sender.script(name, ErrorClass.TIMEOUT, latency=60.0)
        for _ in range(60):
            await engine.accept()
            await clock.run_for(0.5)
        accepted_at = {delivery.id: delivery.created_at_ms for delivery in await engine.deliveries()}
        waits = [sent.at_ms - accepted_at[sent.delivery_id] for name in healthy for sent in engine.sent(name)]
        assert len(waits) == 40 * 60
        assert max(waits) < 1000
        assert engine.sender.peak_total <= 100


async def test_a_request_that_hangs_for_a_second_is_charged_to_the_slow_lane(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 200, latency=5.0)
        await engine.accept()
        await clock.run_for(0.5)
        assert engine.dispatcher.lanes.busy == {Lane.FAST: 1, Lane.SLOW: 0}
        await clock.run_for(1.0)
        assert engine.dispatcher.lanes.busy == {Lane.FAST: 0, Lane.SLOW: 1}
        await clock.run_for(10.0)
        assert engine.dispatcher.lanes.busy == {Lane.FAST: 0, Lane.SLOW: 0}


async def test_no_more_than_the_window_is_in_flight_to_one_endpoint(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, concurrency=6)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        engine.sender.script("orders", 200, latency=0.1)
        await engine.accept(*[builders.draft() for _ in range(300)])
        await clock.run_for(60)
        assert engine.sender.peak["orders"] == 6
        assert await states(engine) == {DeliveryState.DELIVERED: 300}
        assert len({sent.delivery_id for sent in engine.sent()}) == len(engine.sent()) == 300


async def test_a_backlog_larger_than_memory_holds_is_delivered_exactly_once(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Most of it is only on disk, and is read back in parts while outcomes are being committed."""
    async with running_engine(clock, tmp_path, to("orders"), to("others")) as engine:
        engine.sender.latency = 0.02
        for _ in range(10):
            await engine.accept(*[builders.draft() for _ in range(60)])
        await clock.run_for(120)
        for name in ("orders", "others"):
            assert len({sent.delivery_id for sent in engine.sent(name)}) == len(engine.sent(name)) == 600
        assert await states(engine) == {DeliveryState.DELIVERED: 1200}


async def test_ordered_deliveries_go_out_one_after_the_other(clock: VirtualClock, tmp_path: Path) -> None:
    """A delivery that fails holds back all behind it until it is acknowledged or dead."""
    rules = DeliveryRules(jitter=0.0, retry=RetryList((30.0,)), ordered=True)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        engine.sender.script("orders", 200, 500, 200, 500, 500, 200, latency=0.5)
        first = await engine.accept(*[builders.draft() for _ in range(3)])
        await clock.run_for(5)
        later = await engine.accept(*[builders.draft() for _ in range(3)])
        await clock.run_for(120)
        ids = [acceptance.event_id for acceptance in (*first, *later)]
        assert [sent.event_id for sent in engine.sent()] == [ids[0], ids[1], ids[1], ids[2], ids[2], *ids[3:]]
        assert engine.sender.peak["orders"] == 1
        assert [delivery.state for delivery in await engine.deliveries()][2] is DeliveryState.DEAD


async def test_each_failed_attempt_is_a_line_of_the_log_and_the_death_one_more(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList((1.0,)))
    with caplog.at_level("INFO", "webhookd.engine.landing"):
        async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
            engine.sender.script("orders", 500)
            await engine.accept()
            await clock.run_for(5)
    lines = [(record.levelname, record.message, record.__dict__["fields"]) for record in caplog.records]
    assert [(level, message, fields["attempt"]) for level, message, fields in lines] == [
        ("INFO", "attempt.failed", 1),
        ("INFO", "attempt.failed", 2),
        ("WARNING", "delivery.died", 2),
    ]
    assert lines[0][2]["retry_in_seconds"] == 1.0
    assert "retry_in_seconds" not in lines[1][2]
    assert lines[2][2]["reason"] == "retries_exhausted"


async def test_without_order_a_failure_holds_nothing_back(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 500, 200)
        await engine.accept(builders.draft(), builders.draft())
        await clock.run_for(0.5)
        assert await states(engine) == {DeliveryState.PENDING: 1, DeliveryState.DELIVERED: 1}


async def test_the_rate_bounds_how_many_start(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, rate_per_second=10.0)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        await engine.accept(*[builders.draft() for _ in range(100)])
        await clock.run_for(60)
        starts = [sent.at_ms for sent in engine.sent()]
        assert len(starts) == 100
        assert max(sum(1 for at in starts if start <= at < start + 1000) for start in starts) <= 10
        assert starts[-1] - starts[0] == 9_900


async def test_retry_after_silences_the_whole_endpoint(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", Outcome(duration_ms=1.0, status=429, retry_after_seconds=60.0), 200)
        await engine.accept()
        await clock.run_for(5)
        await engine.accept()
        await clock.run_for(50)
        assert len(engine.sent()) == 1
        await clock.run_for(10)
        assert [sent.at_ms - START_MS for sent in engine.sent()] == [0, 60_000, 60_000]


async def test_retry_after_is_bounded(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList((1.0,)), retry_after_max_seconds=10.0)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        engine.sender.script("orders", Outcome(duration_ms=1.0, status=503, retry_after_seconds=1e9), 200)
        await engine.accept()
        await clock.run_for(60)
        assert [sent.at_ms - START_MS for sent in engine.sent()] == [0, 10_000]


async def test_410_disables_at_once_and_holds_what_is_owed(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 410)
        await engine.accept()
        await clock.run_for(10)
        assert engine.record().health.disabled_reason is DisabledReason.GONE
        assert len(engine.sent()) == 1
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.held) == (DeliveryState.PENDING, True)


async def test_our_own_exception_costs_one_attempt_and_no_neighbour(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_engine(clock, tmp_path, to("poisoned"), to("orders")) as engine:
        engine.sender.script("poisoned", RuntimeError("a bug"), 200)
        await engine.accept()
        await clock.run_for(5)
        (poisoned,) = await engine.deliveries(DeliveryFilter(endpoint_id=EndpointId("poisoned")))
        first, second = await engine.attempts(poisoned.id)
        assert first.outcome.error is not None
        assert first.outcome.error.kind is ErrorClass.INTERNAL
        assert second.outcome.status == 200
        assert len(engine.sent("orders")) == 1
        assert "a bug" in caplog.text


async def test_a_restart_goes_on_where_the_last_run_stopped(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 200, 500, 500)
        await engine.accept(builders.draft(), builders.draft())
        await clock.run_for(0.5)
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await clock.run_for(10)
        assert [(sent.number, sent.at_ms - START_MS) for sent in engine.sent()] == [(2, 1000)]
        assert await states(engine) == {DeliveryState.DELIVERED: 2}


async def test_draining_finishes_what_is_in_flight_and_leaves_the_rest_pending(
    clock: VirtualClock, tmp_path: Path
) -> None:
    rules = DeliveryRules(jitter=0.0, concurrency=1)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        engine.sender.script("orders", 200, latency=2.0)
        await engine.accept(builders.draft(), builders.draft())
        await clock.run_for(1)
        clock.call_later(2.0, lambda: None)
        draining = engine.draining(grace_seconds=10.0)
        await clock.run_for(5)
        assert await draining == 0
        assert await states(engine) == {DeliveryState.DELIVERED: 1, DeliveryState.PENDING: 1}


async def test_what_does_not_end_within_the_grace_is_aborted_uncharged(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 200, latency=12.0)
        await engine.accept()
        await clock.run_for(1)
        draining = engine.draining(grace_seconds=3.0)
        await clock.run_for(5)
        assert await draining == 1
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.attempt_count) == (DeliveryState.PENDING, 0)


async def test_resending_a_dead_delivery_owes_it_afresh(clock: VirtualClock, tmp_path: Path) -> None:
    """Due now, a whole new schedule, attempt numbers going on, and only its first attempt manual."""
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(600)
        (dead,) = await engine.deliveries()
        assert dead.state is DeliveryState.DEAD
        again = await engine.desk.resend(dead.id)
        assert (again.state, again.due_at_ms, again.reason) == (DeliveryState.PENDING, clock.now_ms(), None)
        await clock.run_for(60)
        attempts = await engine.attempts(dead.id)
        assert [(attempt.number, attempt.trigger) for attempt in attempts[3:]] == [
            (4, Trigger.MANUAL),
            (5, Trigger.SCHEDULED),
            (6, Trigger.SCHEDULED),
        ]
        assert [attempt.started_at_ms - START_MS for attempt in attempts[3:]] == [600_000, 601_000, 603_000]


async def test_a_delivered_one_stays_delivered_when_its_resend_fails(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 200, 500)
        await engine.accept()
        await clock.run_for(5)
        (delivered,) = await engine.deliveries()
        assert (await engine.desk.resend(delivered.id)).state is DeliveryState.PENDING
        await clock.run_for(60)
        (after,) = await engine.deliveries()
        assert (after.state, after.attempt_count) == (DeliveryState.DELIVERED, 2)


async def test_a_cancelled_delivery_is_not_attempted_again(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(0.5)
        (delivery,) = await engine.deliveries()
        cancelled = await engine.desk.cancel(delivery.id)
        await clock.run_for(60)
        assert (cancelled.state, cancelled.reason) == (DeliveryState.CANCELLED, "operator")
        assert len(engine.sent()) == 1
        with pytest.raises(ConflictError):
            await engine.desk.cancel(delivery.id)


async def test_deleting_an_endpoint_cancels_what_it_is_owed(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path) as engine:
        view, secret = await engine.directory.create(EndpointId("made"), {"url": "https://receiver.example/"})
        assert secret is not None
        assert secret.startswith("whsec_")
        engine.sender.script("made", 500)
        await engine.accept()
        await clock.run_for(0.5)
        await engine.directory.remove(view.record.id)
        await clock.run_for(60)
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.reason) == (DeliveryState.CANCELLED, "endpoint_deleted")
        assert (await engine.accept())[0].deliveries == 0
        assert len(engine.sent("made")) == 1


async def test_disabling_holds_and_enabling_resumes_one_at_a_time(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await engine.directory.disable(builders.ORDERS)
        await engine.accept(*[builders.draft() for _ in range(50)])
        await clock.run_for(60)
        assert engine.sent() == []
        engine.sender.script("orders", 200, latency=0.5)
        await engine.directory.enable(builders.ORDERS)
        await clock.run_for(0.1)
        assert len(engine.sent()) == 1
        await clock.run_for(60)
        assert await states(engine) == {DeliveryState.DELIVERED: 50}


async def test_a_hold_survives_a_restart(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await engine.directory.disable(builders.ORDERS)
        await engine.accept()
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await clock.run_for(60)
        assert engine.sent() == []
        await engine.directory.enable(builders.ORDERS)
        await clock.run_for(1)
        assert await states(engine) == {DeliveryState.DELIVERED: 1}


async def test_an_endpoint_gone_from_the_file_is_held_until_it_is_back(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 500)
        await engine.accept()
        await clock.run_for(0.5)
    async with running_engine(clock, tmp_path) as engine:
        await clock.run_for(60)
        assert engine.record().health.disabled_reason is DisabledReason.REMOVED
        assert (await engine.deliveries())[0].held
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await clock.run_for(60)
        assert await states(engine) == {DeliveryState.DELIVERED: 1}


async def test_while_outcomes_cannot_be_recorded_nothing_more_is_sent(clock: VirtualClock, tmp_path: Path) -> None:
    """What cannot be recorded would be sent again; once the disk takes writes, all goes on by itself."""
    rules = DeliveryRules(jitter=0.0, concurrency=4)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        full = engine.fail_settling(StoreFullError("the disk is full"))
        engine.sender.script("orders", 200, latency=0.1)
        await engine.accept(*[builders.draft() for _ in range(40)])
        await clock.run_for(30)
        sent_while_full = len(engine.sent())
        assert sent_while_full <= 8
        assert engine.recorder.trouble == "the disk is full"
        full.clear()
        await clock.run_for(30)
        assert await states(engine) == {DeliveryState.DELIVERED: 40}
        assert len(engine.sent()) == 40


async def test_an_ended_wall_clock_step_wakes_what_is_due(clock: VirtualClock, tmp_path: Path) -> None:
    rules = DeliveryRules(jitter=0.0, retry=RetryList((3600.0,)))
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        engine.sender.script("orders", 500, 200)
        await engine.accept()
        await clock.run_for(1)
        clock.step_wall(7200)
        engine.dispatcher.clock_stepped()
        await clock.run_for(1)
        assert await states(engine) == {DeliveryState.DELIVERED: 1}


async def test_a_stream_of_new_events_does_not_keep_a_due_retry_waiting(clock: VirtualClock, tmp_path: Path) -> None:
    """As many events come in as the endpoint can take; what is due on disk is older than they are."""
    rules = DeliveryRules(jitter=0.0, retry=RetryList((10.0,)), concurrency=1)
    async with running_engine(clock, tmp_path, to("orders", rules=rules)) as engine:
        engine.sender.script("orders", 500, 200, latency=1.0)
        for _ in range(40):
            await engine.accept()
            await clock.run_for(1)
        (retry,) = [sent for sent in engine.sent() if sent.number == 2]
        assert retry.at_ms - START_MS <= 15_000


async def test_an_idempotent_repeat_is_not_sent_twice(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        (first,) = await engine.accept(builders.draft(idempotency_key="k"))
        await clock.run_for(1)
        (second,) = await engine.accept(builders.draft(idempotency_key="k"))
        await clock.run_for(1)
        assert (second.event_id, second.duplicate) == (first.event_id, True)
        assert len(engine.sent()) == 1
        with pytest.raises(ConflictError):
            await engine.accept(builders.draft(idempotency_key="k", payload=b"{}"))


async def test_an_event_nobody_takes_is_refused_where_configured(clock: VirtualClock, tmp_path: Path) -> None:
    strict = Ingest(on_no_match=OnNoMatch.REJECT)
    async with running_engine(clock, tmp_path, to("orders", types=("order.*",)), ingest=strict) as engine:
        with pytest.raises(InvalidRequestError) as refused:
            await engine.accept(builders.draft("order.x"), builders.draft("user.y"))
        assert [fault.pointer for fault in refused.value.faults] == ["/2/type"]
        assert await engine.deliveries() == []


async def test_nothing_is_taken_while_shutting_down(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.intake.refusal = "shutting down"
        with pytest.raises(StoreUnavailableError):
            await engine.accept()


async def test_a_test_send_leaves_no_trace(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        engine.sender.script("orders", 500)
        await engine.directory.disable(builders.ORDERS)
        acknowledged, outcome = await engine.directory.test(builders.ORDERS)
        assert (acknowledged, outcome.status) == (False, 500)
        assert await engine.deliveries() == []
        assert engine.record().health.failed_attempts == 0


async def test_memory_is_bounded_whatever_the_backlog(clock: VirtualClock, tmp_path: Path) -> None:
    """Big payloads for many endpoints that hang: only what is in flight or about to be is held."""
    names = [f"e{number}" for number in range(60)]
    async with running_engine(clock, tmp_path, *[to(name) for name in names], max_in_flight=32) as engine:
        engine.sender.otherwise = ErrorClass.TIMEOUT
        engine.sender.latency = 60.0
        payload = b'"' + b"x" * 250_000 + b'"'
        for _ in range(8):
            await engine.accept(builders.draft(payload=payload))
            await clock.run_for(1)
        held = sum(
            len(work.event.payload) for station in engine.dispatcher.stations for work in buffered(station.buffer)
        )
        assert held <= 64 << 20
        engine.sender.otherwise, engine.sender.latency = 200, 0.01
        await clock.run_for(3600)
        assert await states(engine) == {DeliveryState.DELIVERED: 480}


def buffered(buffer: object) -> list[Work]:
    return [*buffer._fresh, *buffer._retries]  # type: ignore[attr-defined]  # noqa: SLF001


async def test_first_attempts_of_one_endpoint_keep_acceptance_order_where_nothing_fails(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        await engine.accept(*[builders.draft() for _ in range(300)])
        await clock.run_for(10)
        sent: list[DeliveryId] = [attempt.delivery_id for attempt in engine.sent()]
        assert all(before < after for before, after in pairwise(sent))
