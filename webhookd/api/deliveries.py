"""The routes of deliveries: look them up with their attempts, owe one again, or let it go."""

from __future__ import annotations

from aiohttp import web

from webhookd.api.params import cursor_text, delivery_query, no_query, nothing_in_body, path_delivery_id
from webhookd.api.replies import reply
from webhookd.api.shapes import attempt_json, delivery_json, list_json
from webhookd.core.ports import History
from webhookd.core.services import Desk


class DeliveryRoutes:
    """Answers what is asked about deliveries."""

    def __init__(self, *, history: History, desk: Desk) -> None:
        self._history = history
        self._desk = desk

    async def index(self, request: web.Request) -> web.Response:
        """List deliveries, newest first."""
        which, limit, before = delivery_query(request)
        page = await self._history.deliveries(which, limit=limit, before=before)
        return reply(list_json(map(delivery_json, page.items), cursor_text(page.next_before)))

    async def show(self, request: web.Request) -> web.Response:
        """Show a delivery with its attempts, oldest first."""
        no_query(request)
        delivery = await self._history.delivery(path_delivery_id(request))
        attempts = await self._history.attempts(delivery.id)
        return reply(delivery_json(delivery) | {"attempts": [attempt_json(attempt) for attempt in attempts]})

    async def resend(self, request: web.Request) -> web.Response:
        """Owe a delivery again, due now."""
        no_query(request)
        delivery_id = path_delivery_id(request)
        await nothing_in_body(request)
        return reply(delivery_json(await self._desk.resend(delivery_id)), status=202)

    async def cancel(self, request: web.Request) -> web.Response:
        """End a pending delivery."""
        no_query(request)
        delivery_id = path_delivery_id(request)
        await nothing_in_body(request)
        return reply(delivery_json(await self._desk.cancel(delivery_id)))
