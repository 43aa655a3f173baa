"""aiohttp behind the front: its connection handler, fed whole requests and writing through the front's transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from webhookd.api.auth import NOBODY, Grant
from webhookd.api.front import Connection
from webhookd.api.lobby import OTHER_BODY_BYTES
from webhookd.api.problems import INTERNAL, PROBLEM_CONTENT_TYPE, http_problem

log = logging.getLogger("webhookd.api")

# The front watches idle connections; aiohttp knows no "never", and its timer is cancelled with the connection.
_NO_TIMEOUT_SECONDS = 10 * 365 * 86_400.0


class DoorTransport(asyncio.Transport):
    """The connection as aiohttp may use it: it writes and closes, but reading stays with the front."""

    def __init__(self, front: Connection) -> None:
        super().__init__()
        self._front = front
        self._transport = front.transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as asyncio has it
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        """Leave it to the front to close, once all is written."""
        self._front.answers.inner_done(keep=False)

    def abort(self) -> None:
        self._transport.abort()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Do nothing: the request is in memory as a whole."""

    def resume_reading(self) -> None:
        """Do nothing, as above."""


class InnerHandler(RequestHandler):
    """One connection's requests within aiohttp; `grant` is what the sender of the present one may do."""

    def __init__(self, manager: web.Server, front: Connection) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_NO_TIMEOUT_SECONDS,
            tcp_keepalive=False,
            logger=log,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=1 << 16,
            max_field_size=1 << 16,
            max_headers=256,
            lingering_time=0.0,
            # Above the longest body, so that its parser never waits for a reader.
            read_bufsize=2 * OTHER_BODY_BYTES,
            auto_decompress=False,
        )
        self._front = front
        self.grant: Grant = NOBODY
        self._on_left: Callable[[], None] | None = None
        self.connection_made(DoorTransport(front))

    def handle(self, request: bytes, grant: Grant) -> None:
        self.grant = grant
        self.data_received(request)

    def call_when_left(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the client has gone, or says that it sends no more, while this request is answered.

        An answer without an end is only worth making for somebody who may still hear it, and a closed connection looks
        like one that is half closed until it is written to.
        """
        self._on_left = callback
        if self._front.peer_done:
            callback()

    def peer_finished(self) -> None:
        if self._on_left is not None:
            self._on_left()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.peer_finished()
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, and tell the front that the next request may come."""
        keep = False
        self._on_left = None
        try:
            answer, reset = await super().finish_response(request, resp, start_time)
            keep = bool(answer.keep_alive) and not reset
        finally:
            self._front.answers.inner_done(keep=keep)
        return answer, reset

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp refuses by itself in our words, without a line of the input."""
        if status >= 500:
            log.error("request.failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError
        problem = http_problem(status) if status < 500 else INTERNAL
        response = web.Response(status=problem.status, body=problem.body(), content_type=PROBLEM_CONTENT_TYPE)
        response.force_close()
        return response
