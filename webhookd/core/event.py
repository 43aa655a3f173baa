"""The event: something that happened, with the payload bytes exactly as its producer sent them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from msgspec import Struct

from webhookd.core.ids import EventId

DEFAULT_TENANT = "default"
EVERY_TENANT = "*"
OPERATIONAL_TENANT = "webhookd"
"""Reserved for webhookd's own events; producers may not use it."""

JSON_CONTENT_TYPE = "application/json"

EVENT_TYPE = re.compile(r"[A-Za-z0-9_.:/-]{1,128}\Z")
TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


@lru_cache(maxsize=256)
def is_json_type(content_type: str) -> bool:
    """Say whether a payload of this content type is JSON, the suffix `+json` (RFC 6839) included."""
    essence = content_type.partition(";")[0].strip(" \t").lower()
    return essence in (JSON_CONTENT_TYPE, "text/json") or essence.endswith("+json")


class Draft(Struct, frozen=True, kw_only=True):
    """What a producer handed in, validated, before it has an id.

    `payload` is never re-serialised. `idempotency_key` is up to 255 visible ASCII characters, scoped to the tenant.
    `deliver_at_ms` (UTC) is None, or past, for now.
    """

    type: str
    payload: bytes
    tenant: str = DEFAULT_TENANT
    content_type: str = JSON_CONTENT_TYPE
    idempotency_key: str | None = None
    deliver_at_ms: int | None = None


class Event(Struct, frozen=True, kw_only=True):
    """An accepted event; times are UTC milliseconds, `deliver_at_ms` None where it was to be delivered at once."""

    id: EventId
    type: str
    tenant: str
    content_type: str
    payload: bytes
    accepted_at_ms: int
    deliver_at_ms: int | None = None

    @property
    def due_at_ms(self) -> int:
        """When its deliveries are due, and begin to age."""
        if self.deliver_at_ms is None:
            return self.accepted_at_ms
        return max(self.accepted_at_ms, self.deliver_at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """An event as a list shows it: everything but its payload, which has `size_bytes`."""

    id: EventId
    type: str
    tenant: str
    content_type: str
    size_bytes: int
    accepted_at_ms: int
    deliver_at_ms: int | None = None
