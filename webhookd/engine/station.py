"""What the dispatcher knows about one endpoint that has work: its window, pace, rate, buffer and what it waits for."""

from __future__ import annotations

from msgspec import Struct

from webhookd.core.delivery import Work
from webhookd.core.lanes import Lane, Pace
from webhookd.core.rate import RateLimit
from webhookd.core.settings import DeliveryRules, EndpointDefinition
from webhookd.core.window import Window
from webhookd.engine.endpoints import LiveEndpoint
from webhookd.engine.outbox_buffer import OutboxBuffer


class Station:
    """The dispatching state of one endpoint; lives as long as the endpoint once it has had work.

    `busy` counts attempts in flight. Moments are monotonic seconds.
    """

    __slots__ = (
        "buffer",
        "busy",
        "cleared_in",
        "held_until",
        "is_closed",
        "is_cut_off",
        "is_ordered",
        "is_refill_wanted",
        "live",
        "pace",
        "rate",
        "ring",
        "wake_at",
        "window",
    )

    def __init__(self, live: LiveEndpoint) -> None:
        self.buffer = OutboxBuffer()
        self.busy = 0
        self.cleared_in = 0
        """The dispatcher's turn in which it was last found that an attempt may start."""
        self.ring: Lane | None = None
        """The ring this station stands in, None while it has nothing to send or must not."""
        self.wake_at: float | None = None
        self.is_refill_wanted = False
        self.open(live)

    def open(self, live: LiveEndpoint) -> None:
        """Serve `live`, whatever an endpoint of its id did before; what is in flight to that one stays known."""
        rules = live.definition.rules if live.definition is not None else DeliveryRules()
        self.live = live
        self.window = Window(_cap(rules))
        self.pace = Pace()
        self.rate = RateLimit(rules.rate_per_second)
        self.is_ordered = rules.ordered
        """Whether deliveries go out strictly one after the other, in acceptance order."""
        self.held_until = 0.0
        """Until when a Retry-After asked for silence."""
        self.is_closed = False
        self.is_cut_off = False
        """Whether there was no way out to it at its last attempt."""

    def __repr__(self) -> str:
        return f"<Station {self.live.record.id} busy={self.busy} {self.window!r} {self.buffer!r}>"

    @property
    def is_active(self) -> bool:
        """Say whether attempts may be made at all."""
        return not self.is_closed and self.live.is_enabled

    def apply(self, definition: EndpointDefinition) -> None:
        """Follow changed rules."""
        self.window.set_cap(_cap(definition.rules))
        self.rate.change(definition.rules.rate_per_second)
        self.is_ordered = definition.rules.ordered

    def not_before(self) -> float:
        """Return the earliest moment at which rest, Retry-After and rate let another attempt start."""
        return max(self.held_until, self.window.resting_until or 0.0, self.rate.next_start)

    def has_a_turn(self, now_ms: int) -> bool:
        """Say whether something buffered may be taken; in order, whatever is buffered comes before what is on disk."""
        return self.buffer.count > 0 if self.is_ordered else self.buffer.has_a_turn(now_ms)

    def has_room(self, now: float) -> bool:
        """Say whether the window, and the order if there is one, let another attempt start.

        In order, an attempt keeps the next one waiting until its outcome is on disk: a crash can then repeat the last
        delivery but never send an earlier one after a later one.
        """
        if self.is_ordered and len(self.buffer.known) > self.buffer.count:
            return False
        return self.window.allows(self.busy, now)

    def may_send(self, now: float, now_ms: int) -> bool:
        """Say whether an attempt may start at this moment, as far as the endpoint is concerned."""
        return self.is_active and self.has_a_turn(now_ms) and self.has_room(now) and self.not_before() <= now

    def take(self) -> tuple[Work, EndpointDefinition]:
        """Return the next piece of buffered work and the rules it is sent by; only for a station that may send."""
        definition = self.live.definition
        if definition is None:
            raise AssertionError(f"{self!r} was asked for work although it is not active")
        work = self.buffer.take_in_order() if self.is_ordered else self.buffer.take()
        return work, definition

    def refill_limit(self) -> int:
        """Return how many deliveries are worth reading at once: a probe needs one, a wide window many."""
        return 1 if self.window.is_resting else 4 * self.window.size


class Flight(Struct, eq=False, kw_only=True):
    """One attempt in the air; `live` is the endpoint it was started for, `started` in monotonic seconds."""

    station: Station
    live: LiveEndpoint
    work: Work
    definition: EndpointDefinition
    lane: Lane
    started: float
    started_ms: int
    is_probe: bool
    """Whether it was sent to find out if our own network is back."""

    @property
    def is_of_the_past(self) -> bool:
        """Say whether its endpoint has been deleted since, even if there is another of that id by now."""
        return self.station.is_closed or self.live is not self.station.live


def _cap(rules: DeliveryRules) -> int:
    return 1 if rules.ordered else rules.concurrency
