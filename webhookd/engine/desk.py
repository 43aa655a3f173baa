"""Where an operator changes single deliveries: resend and cancel."""

from __future__ import annotations

from webhookd.core.delivery import Delivery
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.ports import Clock, ReplayFilter, Store
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
        self._need_endpoint(before.endpoint_id)
        # What is buffered was read before the resend and carries the old schedule.
        self._dispatcher.withdraw(before.endpoint_id, delivery_id)
        delivery = await self._store.resend(delivery_id, now_ms=self._clock.now_ms())
        self._dispatcher.wake(delivery.endpoint_id)
        return delivery

    async def resend_event(self, event_id: EventId, endpoint_id: EndpointId | None) -> list[Delivery]:
        """See Desk."""
        if endpoint_id is not None and self._endpoints.get(endpoint_id) is None:
            msg = f"there is no endpoint {endpoint_id!r}"
            raise NotFoundError(msg)
        deliveries = await self._store.resend_event(event_id, endpoint_id, now_ms=self._clock.now_ms())
        for delivery in deliveries:
            self._dispatcher.withdraw(delivery.endpoint_id, delivery.id)
            self._dispatcher.wake(delivery.endpoint_id)
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
        self._dispatcher.withdraw(delivery.endpoint_id, delivery_id)
        return delivery

    def _need_endpoint(self, endpoint_id: EndpointId) -> None:
        if self._endpoints.get(endpoint_id) is None:
            raise ConflictError("endpoint_gone", f"the endpoint {endpoint_id!r} this delivery was for no longer exists")
