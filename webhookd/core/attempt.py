"""The attempt: one HTTP request for a delivery, and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from webhookd.core.ids import DeliveryId, EndpointId, EventId

if TYPE_CHECKING:
    # A delivery knows of attempts; only the notice looks the other way.
    from webhookd.core.delivery import DeliveryState

EXCERPT_BYTES = 4096
"""Most of a response body that is kept with an attempt."""

TEXT_CHARACTERS = 1000
"""Most characters of the sentence that is kept of an error."""


class Trigger(StrEnum):
    """Why an attempt was made: by the schedule, or because somebody asked for it."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"


class ErrorClass(StrEnum):
    """Where an attempt without an answer broke.

    `blocked`: the address may not be dialled. `local`: our own machine was at fault (descriptors, no route).
    `internal`: our own code raised. `interrupted` never reaches the log: such an attempt did not happen.
    """

    TIMEOUT = "timeout"
    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    BLOCKED = "blocked"
    PROTOCOL = "protocol"
    LOCAL = "local"
    INTERNAL = "internal"


class Phases(Struct, frozen=True, kw_only=True):
    """How long each phase took, in milliseconds; None for a phase that did not happen (a kept-alive connection)."""

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None


NO_PHASES = Phases()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """Why there was no answer: the class machines go by, and a sentence for people.

    The sentence may repeat what others wrote: it is cut at `TEXT_CHARACTERS`, and whatever cannot be printed, or stored
    as UTF-8, becomes a question mark. An outcome that could not be recorded would end the daemon at each attempt.
    `no_way` says whether the attempt found no way out at all, so that it may be our own network that is down; None
    leaves that to the class, of which `local` means yes.
    """

    kind: ErrorClass
    text: str
    no_way: bool | None = None

    def __post_init__(self) -> None:
        if len(self.text) > TEXT_CHARACTERS or not self.text.isprintable():
            shown = (character if character.isprintable() else "?" for character in self.text[:TEXT_CHARACTERS])
            object.__setattr__(self, "text", "".join(shown))


class Outcome(Struct, frozen=True, kw_only=True):
    """What came back from one request: either a `status`, or an `error`.

    `retry_after_seconds` is what a 429 or 503 asked for, already finite and not negative. `excerpt` holds at most
    `EXCERPT_BYTES` of the response body. Durations are milliseconds.
    """

    duration_ms: float
    status: int | None = None
    error: AttemptError | None = None
    phases: Phases = NO_PHASES
    excerpt: bytes = b""
    retry_after_seconds: float | None = None


class Attempt(Struct, frozen=True, kw_only=True):
    """One request as the log keeps it; `number` counts from 1 within the delivery, `started_at_ms` is UTC."""

    delivery_id: DeliveryId
    number: int
    trigger: Trigger
    started_at_ms: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptNotice:
    """An attempt as it is announced to whoever follows the daemon live, and what it made of its delivery.

    `next_attempt_ms` is when the next one is due (UTC milliseconds), None once the delivery has ended.
    """

    attempt: Attempt
    event_id: EventId
    event_type: str
    tenant: str
    endpoint_id: EndpointId
    state: DeliveryState
    next_attempt_ms: int | None
