"""The route that keeps the database safe: a copy of it while it runs."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from webhookd.api.params import body_members, no_query, plain_value, refuse_unknown
from webhookd.api.problems import invalid
from webhookd.api.replies import reply
from webhookd.core.services import Keeper
from webhookd.errors import Fault


class UpkeepRoutes:
    """Answers who wants the database copied."""

    def __init__(self, *, keeper: Keeper) -> None:
        self._keeper = keeper

    async def backup(self, request: web.Request) -> web.Response:
        """Copy the database to a file on this machine."""
        no_query(request)
        members = await body_members(request)
        refuse_unknown(members, ("path", "overwrite"))
        values = {key: plain_value(key, text) for key, text in members.items()}
        path, overwrite = values.get("path"), values.get("overwrite", False)
        if not isinstance(path, str) or not path.startswith("/"):
            raise invalid("invalid_body", "the path is wrong", Fault("/path", "must be an absolute path"))
        if not isinstance(overwrite, bool):
            raise invalid("invalid_body", "overwrite is wrong", Fault("/overwrite", "must be true or false"))
        report = await self._keeper.backup(Path(path), overwrite=overwrite)
        return reply(
            {
                "path": path,
                "size": report.size_bytes,
                "duration_ms": round(report.duration_ms, 3),
                "events": report.events,
                "deliveries": report.deliveries,
            }
        )
