"""The routes about the daemon itself: status for people, health for machines, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

from webhookd.api.openapi import openapi_document
from webhookd.api.params import no_query
from webhookd.api.problems import UNAVAILABLE_RETRY_SECONDS, refuse
from webhookd.api.replies import reply
from webhookd.api.shapes import endpoint_json
from webhookd.core.services import EngineStatus, Monitor
from webhookd.core.settings import Role
from webhookd.core.times import time_text

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class StatusRoutes:
    """Answers how the daemon is."""

    def __init__(self, *, monitor: Monitor, metrics_text: Callable[[], Awaitable[bytes]], version: str) -> None:
        self._monitor = monitor
        self._metrics_text = metrics_text
        self._version = version

    async def status(self, request: web.Request) -> web.Response:
        """Show counts, what is late, what needs attention and how much room there is."""
        no_query(request)
        engine = self._monitor.status()
        counts = await self._monitor.counts()
        space = await self._monitor.space()
        state, reason = _readiness(engine)
        return reply(
            {
                "version": self._version,
                "state": state,
                "reason": reason,
                "events": counts.events,
                "deliveries": {
                    "pending": counts.pending,
                    "held": counts.held,
                    "delivered": counts.delivered,
                    "dead": counts.dead,
                    "cancelled": counts.cancelled,
                },
                "held": counts.held,
                "oldest_due_at": time_text(engine.oldest_due_ms),
                "in_flight": {"fast": engine.in_flight_fast, "slow": engine.in_flight_slow},
                "resting": engine.resting,
                "network_down_since": time_text(engine.network_down_since_ms),
                "endpoints": {"enabled": engine.endpoints_enabled, "disabled": engine.endpoints_disabled},
                "attention": [endpoint_json(view) for view in self._monitor.attention()],
                "database": {
                    "used_bytes": space.used_bytes,
                    "wal_bytes": space.wal_bytes,
                    "free_bytes": space.free_bytes,
                },
            }
        )

    async def healthz(self, request: web.Request) -> web.Response:
        """Say that the process is up."""
        return reply({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """Say whether events are accepted and delivered."""
        state, reason = _readiness(self._monitor.status())
        if reason is not None:
            raise refuse(f"not_ready_{state}", 503, reason, retry_after_seconds=UNAVAILABLE_RETRY_SECONDS)
        return reply({"status": "ok"})

    def describing(self, roles: Mapping[str, Role | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return what answers with the description of these routes; whoever can connect may read it."""
        document = orjson.dumps(openapi_document(roles, version=self._version))

        async def openapi(request: web.Request) -> web.Response:
            no_query(request)
            return web.Response(body=document, content_type="application/json")

        return openapi

    async def metrics(self, request: web.Request) -> web.Response:
        """Return the metrics in Prometheus' text format."""
        no_query(request)
        return web.Response(body=await self._metrics_text(), headers={"Content-Type": METRICS_CONTENT_TYPE})


def _readiness(engine: EngineStatus) -> tuple[str, str | None]:
    if engine.stuck is not None:
        return "stuck", engine.stuck
    if engine.refusing is not None:
        return "refusing", engine.refusing
    if engine.draining:
        return "draining", "the daemon is stopping"
    return "ok", None
