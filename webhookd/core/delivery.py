"""The delivery: one event owed to one endpoint, the unit of state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from webhookd.core.attempt import Trigger
from webhookd.core.event import Event
from webhookd.core.ids import DeliveryId, EndpointId, EventId


class DeliveryState(StrEnum):
    """`pending` is owed; the other three are ends."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


class EndReason(StrEnum):
    """Why a delivery ended unacknowledged; stable words that stand in the API."""

    RETRIES_EXHAUSTED = "retries_exhausted"
    TOO_OLD = "too_old"
    OPERATOR = "operator"
    ENDPOINT_DELETED = "endpoint_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as history shows it; times are UTC milliseconds.

    `due_at_ms` is when the next attempt is due, None once ended. `retries_used` counts within the present schedule: a
    resend starts a fresh one (and a fresh age, from `owed_since_ms`) while `attempt_count` goes on. `held` says that it
    is pending but its endpoint is disabled.
    """

    id: DeliveryId
    event_id: EventId
    endpoint_id: EndpointId
    tenant: str
    event_type: str
    state: DeliveryState
    held: bool
    reason: str | None
    attempt_count: int
    retries_used: int
    owed_since_ms: int
    created_at_ms: int
    due_at_ms: int | None
    finished_at_ms: int | None


class Work(Struct, frozen=True, kw_only=True):
    """A pending delivery with all that an attempt needs, as the engine holds it in memory.

    `trigger` is what the next attempt will be recorded as. `acknowledged` marks a delivery that was delivered before
    and is being sent again on request: it gets that one attempt and stays delivered whatever comes back. `replayed`
    marks one of many that are sent again: others of its endpoint go first.
    """

    id: DeliveryId
    endpoint_id: EndpointId
    event: Event
    due_at_ms: int
    owed_since_ms: int
    attempt_count: int = 0
    retries_used: int = 0
    trigger: Trigger = Trigger.SCHEDULED
    acknowledged: bool = False
    replayed: bool = False
