"""A network that follows a script: what each endpoint answers, how long it takes, and a record of every attempt."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.kit.starting import StartsBySending
from webhookd.core.attempt import AttemptError, ErrorClass, Outcome, Trigger
from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.ports import Clock
from webhookd.core.settings import EndpointDefinition

Answer = int | ErrorClass | Outcome | BaseException | Callable[[Work, int], Outcome]
"""A status; an error of that class; a whole outcome; something to raise; or what `(work, now_ms)` returns."""

Latency = float | Callable[[Work, int], float]
"""Virtual seconds, or what `(work, now_ms)` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One attempt as the network saw it begin; `at_ms` is the wall clock at that moment."""

    endpoint_id: EndpointId
    event_id: EventId
    delivery_id: DeliveryId
    number: int
    trigger: Trigger
    at_ms: int


@dataclass(slots=True)
class _Script:
    answers: list[Answer]
    latency: Latency
    made: int = 0

    def next(self) -> Answer:
        answer = self.answers[min(self.made, len(self.answers) - 1)]
        self.made += 1
        return answer


@dataclass(slots=True)
class ScriptedSender(StartsBySending):
    """Implements `core.ports.Sender` without a network.

    Endpoints without a script answer `otherwise`. Like the real one, it gives up at the endpoint's timeout, and an
    attempt that is cancelled leaves no outcome, only its record and a count in `cancelled`.
    """

    clock: Clock
    otherwise: Answer = 200
    latency: Latency = 0.0
    attempts: list[Sent] = field(default_factory=list)
    in_flight: Counter[EndpointId] = field(default_factory=Counter)
    peak: Counter[EndpointId] = field(default_factory=Counter)
    peak_total: int = 0
    cancelled: int = 0
    closed: bool = False
    _scripts: dict[EndpointId, _Script] = field(default_factory=dict)

    def script(self, endpoint_id: str, *answers: Answer, latency: Latency | None = None) -> None:
        """Let the endpoint give `answers` one after the other, the last for ever; replaces an earlier script."""
        self._scripts[EndpointId(endpoint_id)] = _Script(
            list(answers) or [self.otherwise], self.latency if latency is None else latency
        )

    def to(self, endpoint_id: str) -> list[Sent]:
        """Return the attempts at one endpoint, in order."""
        return [sent for sent in self.attempts if sent.endpoint_id == endpoint_id]

    def of(self, delivery_id: DeliveryId) -> list[Sent]:
        """Return the attempts of one delivery, in order."""
        return [sent for sent in self.attempts if sent.delivery_id == delivery_id]

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        if self.closed:
            raise RuntimeError("sending through a closed sender")
        name = endpoint.id
        started_at_ms, started = self.clock.now_ms(), self.clock.monotonic()
        self.attempts.append(
            Sent(
                endpoint_id=name,
                event_id=work.event.id,
                delivery_id=work.id,
                number=work.attempt_count + 1,
                trigger=work.trigger,
                at_ms=started_at_ms,
            )
        )
        script = self._scripts.get(name)
        answer = script.next() if script else self.otherwise
        latency = script.latency if script else self.latency
        latency_seconds = latency(work, started_at_ms) if callable(latency) else latency
        self.in_flight[name] += 1
        self.peak[name] = max(self.peak[name], self.in_flight[name])
        self.peak_total = max(self.peak_total, self.in_flight.total())
        try:
            await self.clock.sleep(min(latency_seconds, endpoint.rules.timeout_seconds))
            if latency_seconds >= endpoint.rules.timeout_seconds:
                answer = ErrorClass.TIMEOUT
            return _outcome(answer, work, self.clock.now_ms(), (self.clock.monotonic() - started) * 1000)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight[name] -= 1

    async def close(self) -> None:
        self.closed = True


def _outcome(answer: Answer, work: Work, now_ms: int, duration_ms: float) -> Outcome:
    match answer:
        case Outcome():
            return answer
        case ErrorClass():
            return Outcome(duration_ms=duration_ms, error=AttemptError(kind=answer, text=f"scripted {answer}"))
        case int():
            return Outcome(duration_ms=duration_ms, status=answer)
        case BaseException():
            raise answer
        case _:
            return answer(work, now_ms)
