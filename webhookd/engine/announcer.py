"""Makes operational events of news, for whoever subscribes to them."""

from __future__ import annotations

from collections.abc import Iterable

from webhookd.core.event import JSON_CONTENT_TYPE, OPERATIONAL_TENANT, Event
from webhookd.core.ids import DeliveryId, EndpointId, EventId, IdGenerator
from webhookd.core.news import News
from webhookd.core.ports import Submission
from webhookd.engine.endpoints import LiveEndpoints


class Announcer:
    """Turns news into submissions that go into the transaction of the change itself.

    News nobody subscribes to leaves no event: a dead receiver with many deliveries would otherwise write one row for
    each of them that nobody asked for.
    """

    def __init__(self, *, endpoints: LiveEndpoints, ids: IdGenerator) -> None:
        self._endpoints = endpoints
        self._ids = ids

    def submissions(self, news: Iterable[News], *, among: LiveEndpoints | None = None) -> tuple[Submission, ...]:
        """Return an event for each piece of news that an endpoint subscribes to now, or would `among` others.

        To be queued for the store in the same turn of the loop, like any event that has been matched.
        """
        endpoints = self._endpoints if among is None else among
        return tuple(made for piece in news if (made := self._submission(piece, endpoints)) is not None)

    def _submission(self, news: News, endpoints: LiveEndpoints) -> Submission | None:
        matched = endpoints.match(OPERATIONAL_TENANT, news.type)
        if not matched:
            return None
        payload = news.payload()
        owed = endpoints.choose(matched, payload, JSON_CONTENT_TYPE)
        if not owed:
            return None
        event = Event(
            id=EventId(self._ids.mint(news.at_ms)),
            type=news.type.value,
            tenant=OPERATIONAL_TENANT,
            content_type=JSON_CONTENT_TYPE,
            payload=payload,
            accepted_at_ms=news.at_ms,
        )
        return Submission(
            event=event,
            deliveries=tuple((DeliveryId(self._ids.mint(news.at_ms)), endpoint_id) for endpoint_id in owed),
            death_of=news.death_of,
        )


def receivers(events: Iterable[Submission]) -> dict[EndpointId, None]:
    """Return the endpoints to look at once `events` are committed; the store may have left out some of them."""
    return dict.fromkeys(endpoint_id for event in events for _, endpoint_id in event.deliveries)
