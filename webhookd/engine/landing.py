"""What an attempt's end leads to: verdict, settlement, health, feedback to the window, one log line, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import assert_never

from webhookd.core.attempt import Attempt, AttemptError, ErrorClass, Outcome
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import DisabledReason
from webhookd.core.health import DateTrust, after_failure, after_success, age_ms, disabled
from webhookd.core.ids import DeliveryId, delivery_text, event_text
from webhookd.core.jumps import ForwardJumps
from webhookd.core.news import Cause, News, of_death, of_health
from webhookd.core.ports import Clock, Settlement
from webhookd.core.verdict import (
    DELIVERED,
    Blame,
    Dead,
    Delivered,
    RetryAt,
    StaysDelivered,
    Verdict,
    blame,
    disables,
    hold_until_ms,
    is_acknowledged,
    judge,
)
from webhookd.engine.endpoints import LiveEndpoint, LiveEndpoints
from webhookd.engine.outage import NetworkWatch
from webhookd.engine.recorder import Record, Recorder, Source
from webhookd.engine.station import Flight, Station
from webhookd.metrics import Metrics, failure_label

log = logging.getLogger(__name__)

_DELIVERED = DeliveryState.DELIVERED


class Landing:
    """Turns outcomes into what is recorded, and into what the endpoint's station does next."""

    def __init__(
        self,
        *,
        clock: Clock,
        endpoints: LiveEndpoints,
        recorder: Recorder,
        metrics: Metrics,
        draw: Callable[[], float],
        network: NetworkWatch,
    ) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._recorder = recorder
        self._metrics = metrics
        self._draw = draw
        self._network = network
        self._date_trust = DateTrust()
        self._succeeded: dict[LiveEndpoint, tuple[DeliveryId, int]] = {}
        """Whose health has yet to say that it acknowledged, and the name of its last attempt that it did."""
        self._jumps = ForwardJumps()
        self._jumps.read(clock.now_ms(), clock.monotonic())

    def land(self, ended: Sequence[tuple[Flight, Outcome | Exception]]) -> None:
        """Judge and record attempts that have just ended; an exception is a fault of ours."""
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        self._jumps.read(now_ms, now)
        for flight, result in ended:
            outcome = result if isinstance(result, Outcome) else self._crashed(flight, result, now)
            self._land(flight, outcome, now, now_ms)
        for flight, _ in ended:
            # Not before, since a window widens by answers only while its endpoint is kept busy.
            flight.station.busy -= 1
        for live in list(self._succeeded):
            self._succeed(live, now_ms)

    def _land(self, flight: Flight, outcome: Outcome, now: float, now_ms: int) -> None:
        station, work, rules = flight.station, flight.work, flight.definition.rules
        excused = self._network.landed(flight, outcome, now)
        attempt = Attempt(
            delivery_id=work.id,
            number=work.attempt_count + 1,
            trigger=work.trigger,
            started_at_ms=flight.started_ms,
            outcome=outcome,
        )
        if outcome.retry_after_seconds is not None and not flight.is_of_the_past:
            hold_ms = hold_until_ms(outcome, rules, now_ms=now_ms)
            if hold_ms is not None:
                station.held_until = max(station.held_until, now + (hold_ms - now_ms) / 1000)
        if is_acknowledged(outcome, rules):
            self._acknowledged(flight, attempt, now_ms)
        else:
            self._not_acknowledged(flight, attempt, now, now_ms, excused=excused)

    def _acknowledged(self, flight: Flight, attempt: Attempt, now_ms: int) -> None:
        station, work = flight.station, flight.work
        duration_seconds = attempt.outcome.duration_ms / 1000
        if not flight.is_of_the_past:
            station.window.answered(station.busy)
            station.pace.answered(duration_seconds)
            # Each replaces what the one before has made of the health, so it is worked out for the last one only.
            self._succeeded[flight.live] = (work.id, attempt.number)
        settlement = Settlement(
            attempt=attempt,
            state=_DELIVERED,
            retries_used=work.retries_used,
            due_at_ms=None,
            finished_at_ms=now_ms,
        )
        self._recorder.record(Record(station, settlement, _source(work)))
        self._metrics.delivered(work.endpoint_id, duration_seconds, (now_ms - work.event.due_at_ms) / 1000)
        if log.isEnabledFor(logging.DEBUG):
            self._tell(flight, attempt, DELIVERED, now_ms)

    def _succeed(self, live: LiveEndpoint, now_ms: int) -> None:
        if (name := self._succeeded.pop(live, None)) is not None:
            self._endpoints.change_health(live, after_success(live.health, at_ms=now_ms, attempt=name))

    def _not_acknowledged(self, flight: Flight, attempt: Attempt, now: float, now_ms: int, *, excused: bool) -> None:
        station, work, live, rules = flight.station, flight.work, flight.live, flight.definition.rules
        outcome = attempt.outcome
        self._succeed(live, now_ms)
        age = age_ms(live.health, owed_since_ms=work.owed_since_ms, now_ms=now_ms, skipped=self._jumps.skipped)
        verdict = judge(work, outcome, rules, now_ms=now_ms, age_ms=age, draw=self._draw(), excused=excused)
        whose = Blame.OURS if excused else blame(outcome, rules)
        if whose is not Blame.OURS and not flight.is_of_the_past:
            self._feed_back(station, outcome, whose, now, flight.started)
            self._change_health(flight, attempt, now, now_ms)
        news: tuple[News, ...] = ()
        if isinstance(verdict, Dead):
            cause = Cause(work=work, outcome=outcome)
            news = of_death(live.health, subject=live.subject, at_ms=now_ms, cause=cause, end=verdict.reason)
        self._recorder.record(Record(station, _settlement(attempt, work, verdict, now_ms), _source(work), news))
        self._metrics.attempt(work.endpoint_id, failure_label(outcome), outcome.duration_ms / 1000)
        self._tell(flight, attempt, verdict, now_ms)

    def _crashed(self, flight: Flight, error: Exception, now: float) -> Outcome:
        """Return the outcome of an attempt that our own code could not make, and log why.

        A poisoned delivery must cost its own attempt and nothing else.
        """
        log.error("attempt.crashed", exc_info=error, extra={"fields": _names(flight)})
        return Outcome(
            duration_ms=1000 * (now - flight.started),
            error=AttemptError(kind=ErrorClass.INTERNAL, text=f"internal error: {type(error).__name__}"),
        )

    def _feed_back(self, station: Station, outcome: Outcome, whose: Blame, now: float, started: float) -> None:
        if whose is Blame.ENDPOINT:
            if station.window.failed(now, self._draw(), started=started):
                log.info("endpoint.rested", extra={"fields": {"endpoint": station.live.record.id}})
        elif outcome.status is not None:
            station.window.answered(station.busy)
        if outcome.status is None:
            station.pace.failed()
        else:
            station.pace.answered(outcome.duration_ms / 1000)

    def _change_health(self, flight: Flight, attempt: Attempt, now: float, now_ms: int) -> None:
        live, rules = flight.live, flight.definition.rules
        before = live.health
        date_counts = self._date_trust.holds(now_ms, now)
        # An endpoint that says it is gone is disabled for that, also where its failures would have been enough.
        told = disabled(before, DisabledReason.GONE, at_ms=now_ms) if disables(attempt.outcome, rules) else before
        name = (attempt.delivery_id, attempt.number)
        health = after_failure(told, at_ms=now_ms, attempt=name, rules=rules, date_counts=date_counts)
        cause = Cause(work=flight.work, outcome=attempt.outcome)
        news = of_health(before, health, subject=live.subject, at_ms=now_ms, cause=cause)
        self._endpoints.change_health(live, health, news)
        if health.status is not before.status:
            log.warning(
                "endpoint.disabled",
                extra={
                    "fields": {
                        "endpoint": live.record.id,
                        "reason": health.disabled_reason,
                        "failing_days": health.failing_days,
                        "failed_attempts": health.failed_attempts,
                    }
                },
            )

    def _tell(self, flight: Flight, attempt: Attempt, verdict: Verdict, now_ms: int) -> None:
        level, message = logging.INFO, "attempt.failed"
        fate: dict[str, object] = {}
        match verdict:
            case Delivered():
                level, message = logging.DEBUG, "attempt.acknowledged"
            case RetryAt(due_at_ms, _):
                fate = {"retry_in_seconds": round((due_at_ms - now_ms) / 1000, 3)}
            case Dead():
                self._metrics.ended("dead")
            case StaysDelivered():
                pass
            case _:
                assert_never(verdict)
        outcome = attempt.outcome
        seen: dict[str, object] = {"status": outcome.status, "duration_ms": round(outcome.duration_ms, 1)}
        if outcome.error is not None:
            seen |= {"error": outcome.error.kind, "detail": outcome.error.text}
        fields = _names(flight) | seen
        log.log(level, message, extra={"fields": fields | fate})
        if isinstance(verdict, Dead):
            log.warning("delivery.died", extra={"fields": fields | {"reason": str(verdict.reason)}})


def _names(flight: Flight) -> dict[str, object]:
    """Return what a log line about the attempt is identified by."""
    return {
        "delivery": delivery_text(flight.work.id),
        "event": event_text(flight.work.event.id),
        "endpoint": flight.work.endpoint_id,
        "type": flight.work.event.type,
        "attempt": flight.work.attempt_count + 1,
    }


def _source(work: Work) -> Source:
    return Source(work.event.id, work.event.type, work.event.tenant)


def _settlement(attempt: Attempt, work: Work, verdict: Verdict, now_ms: int) -> Settlement:
    match verdict:
        case Delivered() | StaysDelivered():
            return Settlement(
                attempt=attempt,
                state=_DELIVERED,
                retries_used=work.retries_used,
                due_at_ms=None,
                finished_at_ms=now_ms,
            )
        case RetryAt(due_at_ms, retries_used):
            return Settlement(
                attempt=attempt,
                state=DeliveryState.PENDING,
                retries_used=retries_used,
                due_at_ms=due_at_ms,
                finished_at_ms=None,
            )
        case Dead(reason):
            return Settlement(
                attempt=attempt,
                state=DeliveryState.DEAD,
                reason=reason,
                retries_used=work.retries_used,
                due_at_ms=None,
                finished_at_ms=now_ms,
            )
        case _:
            assert_never(verdict)
