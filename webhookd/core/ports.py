"""The seams: what the rooms ask of each other, as Protocols, and the values that cross them.

`Store` is kept by `store`, `Sender` by `net`, `Clock` by `clock`, and `engine` drives them; what it offers to `api` in
turn stands in `services`. Everything named `…_ms` is UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from webhookd.core.attempt import Attempt, Outcome
from webhookd.core.delivery import Delivery, DeliveryState, Work
from webhookd.core.endpoint import EndpointRecord, Health
from webhookd.core.event import Event, EventSummary
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.queries import DeliveryFilter, EventFilter, Page, ReplayFilter
from webhookd.core.settings import EndpointDefinition


class Cancellable(Protocol):
    """What will be told by a callback that is still to come."""

    def cancel(self) -> None:
        """Make sure the callback is not called; harmless when it already was."""


class Clock(Protocol):
    """Where time comes from; the only one there is inside `engine`."""

    def now_ms(self) -> int:
        """Return the wall clock, UTC milliseconds; it may step in either direction."""

    def monotonic(self) -> float:
        """Return seconds that only ever go forward."""

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> Cancellable:
        """Call `callback` on the loop after `delay_seconds` of monotonic time."""

    async def sleep(self, delay_seconds: float) -> None:
        """Return after `delay_seconds` of monotonic time."""


class Submission(Struct, frozen=True, kw_only=True):
    """An event to be committed together with the deliveries it is owed as.

    With an `idempotency_key` comes the `fingerprint` of the content; they decide between new, duplicate and conflict.
    An event that tells of the `death_of` a delivery is left out unless that delivery has died at the event's moment.
    """

    event: Event
    deliveries: tuple[tuple[DeliveryId, EndpointId], ...]
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    death_of: DeliveryId | None = None


class Acceptance(Struct, frozen=True):
    """What became of a submission: the id that stands for it on disk, and how many deliveries it is owed as."""

    event_id: EventId
    duplicate: bool
    deliveries: int


Answer = list[Acceptance] | Exception
"""What a call of a producer comes to: one acceptance for each of its submissions, in order, or why none was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The earliest due moments of an endpoint's pending deliveries: of replayed, of all others; the last of all."""

    endpoint_id: EndpointId
    due_at_ms: int | None
    replay_due_ms: int | None = None
    last_due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DueBatch:
    """Work that is due, in the order it is to be attempted, and the due moment of the first row left behind, if any.

    Replayed work comes last and has a first row left behind of its own.
    """

    work: list[Work]
    next_due_ms: int | None
    next_replay_ms: int | None = None


class Settlement(Struct, frozen=True, kw_only=True):
    """One attempt and what it makes of its delivery.

    `state` and what follows describe the delivery afterwards; it changes only if it is still pending in the store. The
    attempt is kept as long as the delivery is there.
    """

    attempt: Attempt
    state: DeliveryState
    reason: str | None = None
    retries_used: int
    due_at_ms: int | None
    finished_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a finished copy of the database holds, and what it took."""

    size_bytes: int
    duration_ms: float
    events: int
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Deliveries in the store by state; `held` are those among `pending` whose endpoint is disabled."""

    pending: int
    held: int
    delivered: int
    dead: int
    cancelled: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Room on disk, in bytes: pages in use, the write-ahead log, and what the file system has free."""

    used_bytes: int
    wal_bytes: int
    free_bytes: int


class Intake(Protocol):
    """The store as the way in sees it."""

    def accept(self, calls: Sequence[Sequence[Submission]]) -> Awaitable[list[Answer]]:
        """Queue the calls of producers before returning; the awaitable resolves once all that was taken is on disk.

        There is one answer for each call, in order. A call is taken whole or not at all, and one that is refused alone
        has its error for an answer: ConflictError (slug `idempotency_conflict`, naming the line from 1 if there are
        several), StoreError for a value that cannot be stored, or that of a store that cannot take so much. Raises
        what refuses all of them: StoreFullError, StoreIOError or StoreUnavailableError.
        """

    async def highest_id(self) -> int:
        """Return the highest event or delivery id on disk, 0 for none."""


class Outbox(Protocol):
    """The store as the engine sees it."""

    async def heads(self) -> list[Head]:
        """Return one head for each endpoint that has pending deliveries, disabled ones included."""

    async def due(
        self,
        endpoint_id: EndpointId,
        *,
        now_ms: int,
        limit: int,
        max_bytes: int,
        ordered: bool,
        exclude: Collection[DeliveryId],
        replay_limit: int = 0,
        replay_max_bytes: int = 0,
    ) -> DueBatch:
        """Return up to `limit` deliveries due by `now_ms`, by due moment, leaving out `exclude`.

        Payloads add up to at most `max_bytes`, but the first is always included. Replayed ones come after them, up to
        `replay_limit` and `replay_max_bytes` of their own. With `ordered`, the order is that of acceptance, replayed
        or not, and nothing is returned behind a delivery that is not due.
        """

    async def bring_forward(self, endpoint_id: EndpointId, *, now_ms: int, latest_ms: int) -> int:
        """Let what is due later than can be go sooner, as after the clock went back; return how many deliveries.

        A retry is then due by `latest_ms`, whatever else is due at `now_ms`, unless its event has a later `deliver_at`.
        """

    def settle(
        self,
        settlements: Sequence[Settlement],
        health: Mapping[EndpointId, Health],
        events: Sequence[Submission] = (),
    ) -> Awaitable[None]:
        """Queue outcomes, the health they lead to and the `events` that tell of it, to be committed in one transaction.

        Such events are taken even where there is no room for those of producers.
        """

    def resend(self, delivery_id: DeliveryId, *, now_ms: int) -> Awaitable[Delivery]:
        """Owe a delivery again: due now, a fresh schedule and age, the next attempt manual. Raises NotFoundError."""

    def resend_event(
        self, event_id: EventId, endpoint_id: EndpointId | None, *, now_ms: int
    ) -> Awaitable[list[Delivery]]:
        """Owe the event again to `endpoint_id`, or to all it was owed to that still exist. Raises NotFoundError."""

    async def replay(self, which: ReplayFilter, *, now_ms: int) -> int:
        """Owe again all that match, as `resend` does and marked as replayed; return how many.

        Done in many small transactions: what an interruption leaves out can be asked for again.
        """

    async def replayable(self, which: ReplayFilter) -> int:
        """Count what `replay` would owe again."""

    def cancel(self, delivery_id: DeliveryId, *, now_ms: int) -> Awaitable[Delivery]:
        """End a pending delivery by request. Raises NotFoundError, or ConflictError (`delivery_ended`)."""


class Endpoints(Protocol):
    """The store as the directory of endpoints sees it."""

    async def endpoints(self) -> list[EndpointRecord]:
        """Return every endpoint, declared ones included."""

    def put_endpoints(self, records: Sequence[EndpointRecord], events: Sequence[Submission] = ()) -> Awaitable[None]:
        """Insert or replace, all or none, together with the `events` that tell of it."""

    def remove_endpoint(self, endpoint_id: EndpointId, *, now_ms: int) -> Awaitable[int]:
        """Delete the endpoint and cancel its pending deliveries (reason `endpoint_deleted`); return how many."""


class History(Protocol):
    """The store as a reader sees it; nothing here waits for the writer."""

    async def event(self, event_id: EventId) -> Event:
        """Return the event. Raises NotFoundError."""

    async def events(self, which: EventFilter, *, limit: int, before: int | None) -> Page[EventSummary]:
        """Return the events with ids below `before`, newest first."""

    async def delivery(self, delivery_id: DeliveryId) -> Delivery:
        """Return the delivery. Raises NotFoundError."""

    async def deliveries(self, which: DeliveryFilter, *, limit: int, before: int | None) -> Page[Delivery]:
        """Return the deliveries with ids below `before`, newest first."""

    async def attempts(self, delivery_id: DeliveryId) -> list[Attempt]:
        """Return every attempt of the delivery, oldest first."""

    async def attempt(self, delivery_id: DeliveryId, number: int) -> Attempt | None:
        """Return one attempt, or None where retention has taken it."""

    async def counts(self) -> Counts:
        """Count everything."""

    async def pending_by_endpoint(self, endpoint_ids: Collection[EndpointId]) -> dict[EndpointId, int]:
        """Count the pending deliveries of each endpoint that has any."""


class Upkeep(Protocol):
    """The store as its keeper sees it."""

    @property
    def refusal(self) -> str | None:
        """Why new events are refused at present (space, a failed disk), None when they are taken."""

    async def space(self) -> Space:
        """Measure."""

    def prune(self, *, now_ms: int) -> Awaitable[int]:
        """Delete one batch of what retention no longer keeps; return the rows looked at, 0 when a round is complete."""

    def checkpoint(self) -> Awaitable[None]:
        """Move the log into the database file as far as readers allow."""

    async def backup(self, target: Path, *, overwrite: bool) -> BackupReport:
        """Write a consistent, verified copy to `target`, an absolute path; it appears whole or not at all.

        Raises InvalidRequestError (`backup_refused`) for a place that cannot be used, ConflictError (`backup_exists`,
        `backup_running`), or BackupFailedError.
        """

    def ping(self) -> Awaitable[None]:
        """Resolve once the writer has come round to it: proof that it is alive."""

    async def close(self) -> None:
        """Finish what is queued, then let go of the file and its lock."""


class Store(Intake, Outbox, Endpoints, History, Upkeep, Protocol):
    """All roles together, as the composition root holds them."""


class Sender(Protocol):
    """The network as the engine sees it."""

    def start(
        self, work: Work, endpoint: EndpointDefinition, ended: Callable[[Outcome | Exception], None]
    ) -> Cancellable:
        """Begin one signed request; `ended` is called once, within the endpoint's deadlines and after this returned.

        Whatever the receiver or the network does is an Outcome; an exception is a fault of ours. Cancelling drops the
        connection.
        """

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        """Make one as `start` does, and return the Outcome or raise the exception."""

    async def close(self) -> None:
        """Close every connection."""
