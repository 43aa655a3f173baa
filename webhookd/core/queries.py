"""What is asked of history: which events and which deliveries, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EndpointId, EventId

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list; None restricts nothing; acceptance times, `since_ms` inclusive, `until_ms` exclusive."""

    tenant: str | None = None
    type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries to list; None restricts nothing; acceptance times, `since_ms` included, `until_ms` excluded."""

    endpoint_id: EndpointId | None = None
    event_id: EventId | None = None
    state: DeliveryState | None = None
    type: str | None = None
    tenant: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFilter:
    """Which ended deliveries of an endpoint to owe again; `types` are globs, none for every type.

    Acceptance times are `since_ms` inclusive, `until_ms` exclusive, None restricts nothing.
    """

    endpoint_id: EndpointId
    states: tuple[DeliveryState, ...] = (DeliveryState.DEAD,)
    types: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Part of a list, newest first; `next_before` is the `before` of the following part, None at the end."""

    items: list[Item]
    next_before: int | None
