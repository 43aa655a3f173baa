"""The routes: which path needs which role and is answered by whom; and the one place where failures become answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from webhookd.api.auth import NOBODY, require
from webhookd.api.deliveries import DeliveryRoutes
from webhookd.api.endpoints import EndpointRoutes
from webhookd.api.events import EventRoutes
from webhookd.api.inner import InnerHandler
from webhookd.api.lobby import Lobby
from webhookd.api.problems import http_problem
from webhookd.api.replies import problem_reply
from webhookd.api.status import StatusRoutes
from webhookd.api.stream import StreamRoutes
from webhookd.api.upkeep import UpkeepRoutes
from webhookd.core.settings import Role

INGEST_ROUTES = {"POST /v1/events": Role.INGEST, "POST /v1/events/{type}": Role.INGEST}
"""The routes that hand in events, which the front answers."""

_DESCRIPTION = "GET /openapi.json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `role` None lets anybody in."""

    method: str
    path: str
    role: Role | None
    handler: Handler


def routes(
    events: EventRoutes,
    endpoints: EndpointRoutes,
    deliveries: DeliveryRoutes,
    stream: StreamRoutes,
    upkeep: UpkeepRoutes,
    status: StatusRoutes,
) -> list[Route]:
    """Return every route but those of `INGEST_ROUTES`."""
    read, operate = Role.READ, Role.OPERATE
    table = [
        Route("GET", "/v1/events", read, events.index),
        Route("GET", "/v1/events/{id}", read, events.show),
        Route("POST", "/v1/events/{id}/resend", operate, events.resend),
        Route("GET", "/v1/endpoints", read, endpoints.index),
        Route("POST", "/v1/endpoints", operate, endpoints.create),
        Route("GET", "/v1/endpoints/{id}", read, endpoints.show),
        Route("PATCH", "/v1/endpoints/{id}", operate, endpoints.update),
        Route("DELETE", "/v1/endpoints/{id}", operate, endpoints.remove),
        Route("POST", "/v1/endpoints/{id}/test", operate, endpoints.test),
        Route("POST", "/v1/endpoints/{id}/enable", operate, endpoints.enable),
        Route("POST", "/v1/endpoints/{id}/disable", operate, endpoints.disable),
        Route("POST", "/v1/endpoints/{id}/rotate-secret", operate, endpoints.rotate_secret),
        Route("POST", "/v1/endpoints/{id}/replay", operate, endpoints.replay),
        Route("GET", "/v1/deliveries", read, deliveries.index),
        Route("GET", "/v1/deliveries/{id}", read, deliveries.show),
        Route("POST", "/v1/deliveries/{id}/resend", operate, deliveries.resend),
        Route("POST", "/v1/deliveries/{id}/cancel", operate, deliveries.cancel),
        Route("GET", "/v1/attempts/stream", read, stream.attempts),
        Route("POST", "/v1/backup", operate, upkeep.backup),
        Route("GET", "/v1/status", read, status.status),
        Route("GET", "/healthz", None, status.healthz),
        Route("GET", "/readyz", None, status.readyz),
        Route("GET", "/metrics", read, status.metrics),
    ]
    roles = {f"{route.method} {route.path}": route.role for route in table} | INGEST_ROUTES | {_DESCRIPTION: None}
    method, path = _DESCRIPTION.split()
    return [*table, Route(method, path, None, status.describing(roles))]


def build_app(table: list[Route], lobby: Lobby) -> web.Application:
    """Build the application that answers `table`."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return problem_reply(http_problem(error.status, _allowed(request, error)))
        except Exception as error:  # noqa: BLE001 - explain() logs what is a fault of ours; the client gets an answer
            return problem_reply(lobby.explain(error))

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "webhookd"

    # The front has bounded the body already.
    app = web.Application(middlewares=[answer], client_max_size=0)
    app.on_response_prepare.append(sign)
    for route in table:
        app.router.add_route(route.method, route.path, _guarded(route))
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, _guarded(route))
    return app


def _guarded(route: Route) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        protocol = request.protocol
        require(protocol.grant if isinstance(protocol, InnerHandler) else NOBODY, route.role)
        return await route.handler(request)

    return guarded


def _allowed(request: web.Request, error: web.HTTPException) -> tuple[tuple[str, str], ...]:
    if not isinstance(error, web.HTTPMethodNotAllowed):
        return ()
    methods = set(error.allowed_methods)
    if request.path == "/v1/events" or request.path.startswith("/v1/events/"):
        methods.add("POST")
    return (("Allow", ", ".join(sorted(methods))),)
