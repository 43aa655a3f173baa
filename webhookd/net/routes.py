"""What an endpoint's attempts have in common, prepared once for each definition."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from webhookd import __version__
from webhookd.core.addresses import Target, parse_target
from webhookd.core.ids import EndpointId
from webhookd.core.redaction import Redactor
from webhookd.core.settings import EndpointDefinition
from webhookd.core.signing import HeaderPlan
from webhookd.net.pool import Origin

ROUTES = 16_384
"""Endpoints whose preparation is kept; the longest prepared goes first."""


@dataclass(frozen=True, slots=True)
class Route:
    """What stays the same over all attempts for one definition; `prefix` ends where the length is to follow."""

    definition: EndpointDefinition
    target: Target
    origin: Origin
    plan: HeaderPlan
    prefix: bytes
    redactor: Redactor


class Routes:
    """Remembers the route of each endpoint until its definition is replaced."""

    __slots__ = ("_routes",)

    def __init__(self) -> None:
        self._routes: OrderedDict[EndpointId, Route] = OrderedDict()

    def find(self, endpoint: EndpointDefinition) -> Route:
        """Return the route for this very definition. Raises ValueError where it cannot be signed for."""
        route = self._routes.get(endpoint.id)
        if route is None or route.definition is not endpoint:
            route = self._routes[endpoint.id] = _prepared(endpoint)
            if len(self._routes) > ROUTES:
                self._routes.popitem(last=False)
        return route


def _prepared(endpoint: EndpointDefinition) -> Route:
    target = parse_target(endpoint.url)
    return Route(
        definition=endpoint,
        target=target,
        origin=(target.scheme, target.host, target.port, endpoint.tls),
        plan=HeaderPlan(endpoint, version=__version__),
        redactor=Redactor(endpoint),
        prefix=f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nContent-Length: ".encode(),
    )
