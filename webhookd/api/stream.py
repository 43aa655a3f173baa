"""Following attempts live, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import orjson
from aiohttp import web

from webhookd.api.inner import InnerHandler
from webhookd.api.lobby import Lobby
from webhookd.api.params import notice_query
from webhookd.api.problems import UNAVAILABLE_RETRY_SECONDS, refuse
from webhookd.api.shapes import notice_json
from webhookd.core.services import AttemptFeed, Follower, Heard

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # Proxies that hold back what they pass on until it is worth it would make it late, or never arrive.
    "X-Accel-Buffering": "no",
}
_HEARTBEAT = b": still here\n\n"


class StreamRoutes:
    """Answers whoever wants to see attempts as they are recorded."""

    def __init__(self, *, feed: AttemptFeed, lobby: Lobby) -> None:
        self._feed = feed
        self._lobby = lobby

    async def attempts(self, request: web.Request) -> web.StreamResponse:
        """Send attempts until the client leaves or the daemon stops."""
        which = notice_query(request)
        if self._lobby.draining:
            raise refuse("shutting_down", 503, "the daemon is stopping", retry_after_seconds=UNAVAILABLE_RETRY_SECONDS)
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        follower = self._feed.follow(which)
        if follower is None:
            raise refuse("overloaded", 503, "too many are following already", retry_after_seconds=10)
        if isinstance(request.protocol, InnerHandler):
            request.protocol.call_when_left(follower.leave)
        try:
            return await self._send(request, follower)
        finally:
            follower.leave()

    async def _send(self, request: web.Request, follower: Follower) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(request)
            # At once, so that the client sees that it is being told.
            await response.write(_HEARTBEAT)
            while (heard := await self._hear(follower)) is not None:
                await response.write(b"".join(_events(heard)) or _HEARTBEAT)
            await response.write_eof()
        except ConnectionError:
            # The client has left, which is how most of these end.
            pass
        except Exception as error:  # noqa: BLE001 - explain() logs it as a fault of ours
            # Half an answer is out; breaking off is the only way left to say that this was not its end.
            self._lobby.explain(error)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _hear(self, follower: Follower) -> Heard | None:
        """Return what there is to tell, nothing after a while, None at the end."""
        try:
            async with asyncio.timeout(self._lobby.patience.heartbeat_seconds):
                return await follower.hear()
        except TimeoutError:
            return Heard([], 0)


def _events(heard: Heard) -> Iterable[bytes]:
    for notice in heard.notices:
        yield b"event: attempt\ndata: %b\n\n" % orjson.dumps(notice_json(notice))
    if heard.dropped:
        yield b'event: dropped\ndata: {"count":%d}\n\n' % heard.dropped
