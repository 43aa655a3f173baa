"""The operating routes of events: look them up, and owe them again."""

from __future__ import annotations

from aiohttp import web

from webhookd.api.params import (
    body_members,
    cursor_text,
    event_query,
    no_query,
    path_event_id,
    plain_value,
    refuse_unknown,
)
from webhookd.api.problems import invalid
from webhookd.api.replies import reply
from webhookd.api.shapes import delivery_json, event_json, event_with_payload_json, list_json
from webhookd.core.delivery import Delivery
from webhookd.core.ids import EndpointId, EventId, is_endpoint_id
from webhookd.core.ports import History
from webhookd.core.queries import DeliveryFilter
from webhookd.core.services import Desk, Directory
from webhookd.errors import Fault

NOT_MATCHED = 100
"""Most endpoints for which one event says why it is not owed to them."""

SHOWN_DELIVERIES = 500
COUNTED_DELIVERIES = 10_000


class EventRoutes:
    """Answers what is asked about events."""

    def __init__(self, *, history: History, directory: Directory, desk: Desk) -> None:
        self._history = history
        self._directory = directory
        self._desk = desk

    async def index(self, request: web.Request) -> web.Response:
        """List events, newest first."""
        which, limit, before = event_query(request)
        page = await self._history.events(which, limit=limit, before=before)
        return reply(list_json(map(event_json, page.items), cursor_text(page.next_before)))

    async def show(self, request: web.Request) -> web.Response:
        """Show an event, what it is owed as, and why not to others."""
        no_query(request)
        event = await self._history.event(path_event_id(request))
        deliveries = await self._deliveries(event.id)
        owed = {delivery.endpoint_id for delivery in deliveries}
        reasons = self._directory.not_matched(event, owed, limit=NOT_MATCHED)
        return reply(
            event_with_payload_json(event)
            | {
                "deliveries": [delivery_json(delivery) for delivery in deliveries[:SHOWN_DELIVERIES]],
                "delivery_count": len(deliveries),
                "not_matched": [{"endpoint": endpoint, "reason": reason} for endpoint, reason in reasons],
            }
        )

    async def resend(self, request: web.Request) -> web.Response:
        """Owe an event again, to one endpoint or to all it was owed to."""
        no_query(request)
        event_id = path_event_id(request)
        members = await body_members(request)
        refuse_unknown(members, {"endpoint"})
        endpoint = plain_value("endpoint", members["endpoint"]) if "endpoint" in members else None
        if endpoint is not None and not (isinstance(endpoint, str) and is_endpoint_id(endpoint)):
            raise invalid("invalid_body", "the endpoint is wrong", Fault("/endpoint", "must be an endpoint id"))
        deliveries = await self._desk.resend_event(event_id, None if endpoint is None else EndpointId(endpoint))
        return reply({"deliveries": [delivery_json(delivery) for delivery in deliveries]}, status=202)

    async def _deliveries(self, event_id: EventId) -> list[Delivery]:
        found: list[Delivery] = []
        before: int | None = None
        while len(found) < COUNTED_DELIVERIES:
            page = await self._history.deliveries(
                DeliveryFilter(event_id=event_id), limit=SHOWN_DELIVERIES, before=before
            )
            found += page.items
            before = page.next_before
            if before is None:
                break
        return found
