"""The other seams: what `api` asks of the engine and the engine of `config`, as Protocols and their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from webhookd.core.attempt import Attempt, AttemptNotice, Outcome
from webhookd.core.delivery import Delivery
from webhookd.core.endpoint import EndpointRecord
from webhookd.core.event import Draft, Event
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.ports import Acceptance, BackupReport, Counts, Space
from webhookd.core.queries import Page, ReplayFilter
from webhookd.core.settings import EndpointDefinition, Signature

SecretMaker = Callable[[Sequence[Signature]], str | None]
"""Makes a secret that such signatures can be made with, None where they need none."""


class EndpointSchema(Protocol):
    """Turns the keys of an endpoint into a definition, by the profiles and defaults in force."""

    def resolve(
        self,
        endpoint_id: EndpointId,
        given: Mapping[str, object],
        *,
        secret: str | None,
        sample: bytes | None,
        make_secret: SecretMaker | None = None,
    ) -> EndpointDefinition:
        """Return the definition. Raises InvalidRequestError with a Fault for every field that is wrong.

        Where there is no secret, `make_secret` makes one, once it is known what it has to fit.
        """


Accepted = Callable[[list[Acceptance] | Exception], None]
"""Takes what became of the drafts that were handed in together."""


class Acceptor(Protocol):
    """Where producers' events go in."""

    def accept(self, drafts: Sequence[Draft], answered: Accepted) -> None:
        """Call `answered` once every draft is on disk, in order; with an error none is, or nobody knows.

        Errors are InvalidRequestError (`no_match`), ConflictError (`idempotency_conflict`), StoreFullError or
        StoreUnavailableError. What can be told at once is raised, and `answered` is not called; otherwise it is called
        exactly once, and never before this has returned. It does not raise.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    """An endpoint as the API shows it; `definition` is None where it has none at present."""

    record: EndpointRecord
    definition: EndpointDefinition | None
    pending: int
    last_attempt: Attempt | None


class Directory(Protocol):
    """The live set of endpoints, declared and API-made."""

    async def page(self, *, limit: int, before: int | None) -> Page[EndpointView]:
        """Return endpoints newest first; `before` is the `next_before` of the page before."""

    async def show(self, endpoint_id: EndpointId) -> EndpointView:
        """Return one. Raises NotFoundError."""

    async def create(
        self, endpoint_id: EndpointId | None, keys: Mapping[str, object]
    ) -> tuple[EndpointView, str | None]:
        """Add an endpoint from its API keys; the second value is the secret if it had to be generated.

        Among `keys`, `secret` is text and `sample` the bytes to send. Raises InvalidRequestError, ConflictError
        (`endpoint_exists`).
        """

    async def update(self, endpoint_id: EndpointId, patch: Mapping[str, object]) -> EndpointView:
        """Apply a JSON merge patch (RFC 7396) to the keys; None restores a default.

        Raises NotFoundError, InvalidRequestError, ConflictError (`endpoint_declared`).
        """

    async def remove(self, endpoint_id: EndpointId) -> None:
        """Delete; pending deliveries are cancelled. Raises NotFoundError, ConflictError (`endpoint_declared`)."""

    async def enable(self, endpoint_id: EndpointId) -> EndpointView:
        """Clear the failing streak and resume held deliveries gently.

        Raises NotFoundError, ConflictError (`endpoint_removed`).
        """

    async def disable(self, endpoint_id: EndpointId) -> EndpointView:
        """Hold its deliveries, reason `operator`. Raises NotFoundError."""

    async def rotate(
        self, endpoint_id: EndpointId, *, overlap_seconds: float, secret: str | None
    ) -> tuple[EndpointView, str]:
        """Give the endpoint another secret, `secret` or a generated one, and return it.

        Requests are signed by the one before as well for `overlap_seconds`, where the scheme can carry both. Raises
        NotFoundError, InvalidRequestError, ConflictError (`endpoint_declared`, `endpoint_removed`, `no_secret`).
        """

    async def test(self, endpoint_id: EndpointId) -> tuple[bool, Outcome]:
        """Send a sample now, outside the outbox; say whether it was acknowledged. Raises NotFoundError."""

    def not_matched(self, event: Event, owed: Collection[EndpointId], *, limit: int) -> list[tuple[EndpointId, str]]:
        """Say, for up to `limit` endpoints that are not owed the event, why not."""


class Desk(Protocol):
    """Where an operator changes single deliveries."""

    async def resend(self, delivery_id: DeliveryId) -> Delivery:
        """See Outbox.resend. Raises also ConflictError (`endpoint_gone`) where the endpoint no longer exists."""

    async def resend_event(self, event_id: EventId, endpoint_id: EndpointId | None) -> list[Delivery]:
        """See Outbox.resend_event; an endpoint the event was not owed to gets a new delivery."""

    async def replay(self, which: ReplayFilter, *, dry_run: bool) -> int:
        """Owe again all that match, or with `dry_run` only count them; return how many. Raises NotFoundError."""

    async def cancel(self, delivery_id: DeliveryId) -> Delivery:
        """See Outbox.cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """The engine at this moment; `oldest_due_ms` is the earliest due moment of an enabled endpoint's delivery.

    `network_down_since_ms` is since when sending pauses because our own network is down, None while it does not.
    """

    in_flight_fast: int
    in_flight_slow: int
    oldest_due_ms: int | None
    resting: int
    endpoints_enabled: int
    endpoints_disabled: int
    draining: bool
    refusing: str | None
    stuck: str | None
    network_down_since_ms: int | None = None


class Monitor(Protocol):
    """The engine as status, readiness and metrics see it."""

    def status(self) -> EngineStatus:
        """Take a reading; costs no I/O. `refusing` and `stuck` are sentences, None when all is well."""

    async def counts(self) -> Counts:
        """Count deliveries by state."""

    async def space(self) -> Space:
        """Measure the database."""

    def attention(self) -> Sequence[EndpointView]:
        """Return up to 100 endpoints that are disabled or failing, worst first, without counts of deliveries."""


class Keeper(Protocol):
    """Who looks after the database."""

    async def backup(self, target: Path, *, overwrite: bool) -> BackupReport:
        """See Upkeep.backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeFilter:
    """Which attempts to hear of; None restricts nothing, `type` is a glob."""

    endpoint_id: EndpointId | None = None
    type: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """Attempts in the order in which they were recorded, and how many after them were lost for want of room."""

    notices: Sequence[AttemptNotice]
    dropped: int


class Follower(Protocol):
    """One who hears of attempts."""

    async def hear(self) -> Heard | None:
        """Wait for the next attempts; None once there will be no more."""

    def leave(self) -> None:
        """Hear no more: `hear` returns what is left, then None. Harmless when repeated."""


class AttemptFeed(Protocol):
    """Where attempts are announced as they are recorded."""

    def follow(self, which: NoticeFilter) -> Follower | None:
        """Begin to listen; None where there are too many already."""

    def end(self) -> None:
        """Let go of all who listen, now and later."""
