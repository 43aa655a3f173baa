"""The routes of endpoints: see, make, change, delete, try, hold and resume receivers."""

from __future__ import annotations

from aiohttp import web

from webhookd.api.params import (
    MERGE_PATCH,
    body_members,
    cursor_text,
    no_query,
    nothing_in_body,
    page_only,
    path_endpoint_id,
    plain_value,
    refuse_unknown,
)
from webhookd.api.problems import invalid
from webhookd.api.replays import read_replay
from webhookd.api.replies import reply
from webhookd.api.shapes import endpoint_json, list_json, test_json
from webhookd.core.durations import parse_duration
from webhookd.core.ids import EndpointId, is_endpoint_id
from webhookd.core.services import Desk, Directory
from webhookd.errors import Fault

DEFAULT_OVERLAP = "24h"
MAX_OVERLAP_SECONDS = 365 * 86_400.0


class EndpointRoutes:
    """Answers what is asked of endpoints."""

    def __init__(self, *, directory: Directory, desk: Desk) -> None:
        self._directory = directory
        self._desk = desk

    async def index(self, request: web.Request) -> web.Response:
        """List endpoints, newest first."""
        limit, before = page_only(request)
        page = await self._directory.page(limit=limit, before=before)
        return reply(list_json(map(endpoint_json, page.items), cursor_text(page.next_before)))

    async def show(self, request: web.Request) -> web.Response:
        """Show an endpoint."""
        no_query(request)
        return reply(endpoint_json(await self._directory.show(path_endpoint_id(request))))

    async def create(self, request: web.Request) -> web.Response:
        """Add an endpoint; the answer is the only time a generated secret is shown."""
        no_query(request)
        keys = _keys(await body_members(request))
        wanted = keys.pop("id", None)
        if wanted is not None and not (isinstance(wanted, str) and is_endpoint_id(wanted)):
            detail = "must be 1 to 64 lower-case letters, digits, - and _, starting with a letter or digit"
            raise invalid("invalid_endpoint", "the endpoint id is wrong", Fault("/id", detail))
        view, secret = await self._directory.create(None if wanted is None else EndpointId(wanted), keys)
        document = endpoint_json(view)
        if secret is not None:
            document["secret"] = secret
        response = reply(document, status=201)
        response.headers["Location"] = f"/v1/endpoints/{view.record.id}"
        return response

    async def update(self, request: web.Request) -> web.Response:
        """Change an endpoint by a JSON merge patch (RFC 7396)."""
        no_query(request)
        endpoint_id = path_endpoint_id(request)
        keys = _keys(await body_members(request, content_types=("application/json", MERGE_PATCH)))
        if "id" in keys:
            raise invalid("invalid_endpoint", "an endpoint keeps its id", Fault("/id", "cannot be changed"))
        return reply(endpoint_json(await self._directory.update(endpoint_id, keys)))

    async def remove(self, request: web.Request) -> web.Response:
        """Delete an endpoint; what it is owed is cancelled."""
        no_query(request)
        endpoint_id = path_endpoint_id(request)
        await nothing_in_body(request)
        await self._directory.remove(endpoint_id)
        return web.Response(status=204)

    async def test(self, request: web.Request) -> web.Response:
        """Send a sample now."""
        no_query(request)
        endpoint_id = path_endpoint_id(request)
        await nothing_in_body(request)
        acknowledged, outcome = await self._directory.test(endpoint_id)
        return reply(test_json(outcome, acknowledged=acknowledged))

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """Give an endpoint another secret; the answer is the only time it is shown."""
        no_query(request)
        endpoint_id = path_endpoint_id(request)
        members = await body_members(request)
        refuse_unknown(members, ("overlap", "secret"))
        keys = {key: plain_value(key, text) for key, text in members.items()}
        overlap_seconds = _overlap_seconds(keys.get("overlap", DEFAULT_OVERLAP))
        wanted = keys.get("secret")
        if wanted is not None and not isinstance(wanted, str):
            raise invalid("invalid_body", "the secret is wrong", Fault("/secret", "must be text"))
        view, secret = await self._directory.rotate(endpoint_id, overlap_seconds=overlap_seconds, secret=wanted)
        return reply(endpoint_json(view) | {"secret": secret})

    async def enable(self, request: web.Request) -> web.Response:
        """Resume deliveries."""
        no_query(request)
        endpoint_id = path_endpoint_id(request)
        await nothing_in_body(request)
        return reply(endpoint_json(await self._directory.enable(endpoint_id)))

    async def disable(self, request: web.Request) -> web.Response:
        """Hold deliveries."""
        no_query(request)
        endpoint_id = path_endpoint_id(request)
        await nothing_in_body(request)
        return reply(endpoint_json(await self._directory.disable(endpoint_id)))

    async def replay(self, request: web.Request) -> web.Response:
        """Owe again what has ended, or say how much that would be."""
        no_query(request)
        which, dry_run = read_replay(path_endpoint_id(request), await body_members(request))
        count = await self._desk.replay(which, dry_run=dry_run)
        return reply({"count": count}, status=200 if dry_run else 202)


def _overlap_seconds(value: object) -> float:
    try:
        if not isinstance(value, str):
            raise ValueError('must be a duration such as "24h"')  # noqa: TRY004, TRY301 - one way out for what is wrong
        seconds = parse_duration(value)
        if seconds > MAX_OVERLAP_SECONDS:
            raise ValueError("must be at most 365d")  # noqa: TRY301 - as above
    except ValueError as error:
        raise invalid("invalid_body", "the overlap is wrong", Fault("/overlap", str(error))) from None
    return seconds


def _keys(members: dict[str, bytes]) -> dict[str, object]:
    """Return the keys as values, but a sample as the bytes that stand there: they are sent as they are."""
    return {
        key: text if key == "sample" and text != b"null" else plain_value(key, text) for key, text in members.items()
    }
