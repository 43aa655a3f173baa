"""Where an operator changes single deliveries: resend and cancel."""

from __future__ import annotations

from webhookd.core.delivery import Delivery
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.ports import Clock, Store
from webhookd.core.queries import ReplayFilter
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.errors import ConflictError, NotFoundError


class DeliveryDesk:
    """Fills the Desk port: the store decides, then the dispatcher is told."""

    def __init__(self, *, clock: Clock, store: Store, endpoints: LiveEndpoints, dispatcher: Dispatcher) -> None:
        self._clock = clock
        self._store = store
        self._endpoints = endpoints
        self._dispatcher = dispatcher

    async def resend(self, delivery_id: DeliveryId) -> Delivery:
        """See Desk."""
        before = await self._store.delivery(delivery_id)
        # In one turn of the loop with queueing the resend: a deletion that follows will end what it owes again.
        if self._endpoints.get(before.endpoint_id) is None:
            raise ConflictError(
                "endpoint_gone", f"the endpoint {before.endpoint_id!r} this delivery was for no longer exists"
            )
        delivery = await self._store.resend(delivery_id, now_ms=self._clock.now_ms())
        self._dispatcher.changed_on_disk(delivery.endpoint_id, delivery.id)
        return delivery

    async def resend_event(self, event_id: EventId, endpoint_id: EndpointId | None) -> list[Delivery]:
        """See Desk."""
        if endpoint_id is not None and self._endpoints.get(endpoint_id) is None:
            msg = f"there is no endpoint {endpoint_id!r}"
            raise NotFoundError(msg)
        deliveries = await self._store.resend_event(event_id, endpoint_id, now_ms=self._clock.now_ms())
        for delivery in deliveries:
            self._dispatcher.changed_on_disk(delivery.endpoint_id, delivery.id)
        return deliveries

    async def replay(self, which: ReplayFilter, *, dry_run: bool) -> int:
        """See Desk."""
        if self._endpoints.get(which.endpoint_id) is None:
            raise NotFoundError(f"there is no endpoint {which.endpoint_id!r}")
        if dry_run:
            return await self._store.replayable(which)
        try:
            return await self._store.replay(which, now_ms=self._clock.now_ms())
        finally:
            # However it ends, what has been owed again until then is to be sent.
            self._dispatcher.wake(which.endpoint_id)

    async def cancel(self, delivery_id: DeliveryId) -> Delivery:
        """See Desk."""
        delivery = await self._store.cancel(delivery_id, now_ms=self._clock.now_ms())
        self._dispatcher.changed_on_disk(delivery.endpoint_id, delivery.id)
        return delivery
