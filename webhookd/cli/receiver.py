"""A webhook receiver for development: plain HTTP/1.1 on threads, telling every request to whoever started it."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

MAX_BODY_BYTES = 64 * 1024 * 1024
IDLE_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it came; `headers` keep their order, case and repetitions, `at_seconds` is since 1970."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    at_seconds: float

    def header(self, name: str) -> str:
        """Return the first header of that name in any case, or nothing."""
        return next((value for given, value in self.headers if given.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer, and how long to wait before that."""

    status: int = 200
    body: bytes = b""
    delay_seconds: float = 0.0


class Receiver:
    """Serves on `host` and `port` (0: any free one) between entering and leaving; `answer` is called on many threads.

    Raises OSError where the address cannot be bound.
    """

    def __init__(self, answer: Callable[[Received], Reply], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = _Server(answer, host, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Received], Reply], host: str, port: int) -> None:
        self.answer = answer
        self.stopping = threading.Event()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own signature
        """Say nothing of a sender that goes away in the middle; anything else is a fault of ours."""
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_SECONDS
    disable_nagle_algorithm = True
    # Headers and body leave in one segment.
    wbufsize = -1

    def __getattr__(self, name: str) -> Callable[[], None]:
        # http.server looks up do_METHOD; a receiver shows whatever method comes.
        if name.startswith("do_"):
            return self._take
        raise AttributeError(name)

    def _take(self) -> None:
        body = self._body()
        if body is None:
            return
        received = Received(
            method=self.command,
            path=self.path,
            headers=tuple(self.headers.items()),
            body=body,
            at_seconds=time.time(),
        )
        reply = self.server.answer(received)
        if reply.delay_seconds > 0:
            self.server.stopping.wait(reply.delay_seconds)
        try:
            phrase = HTTPStatus(reply.status).phrase
        except ValueError:
            phrase = ""
        self.send_response(reply.status, phrase)
        # RFC 9110 section 8.6: a 204 has no length, and no body either.
        if reply.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD" and reply.status != HTTPStatus.NO_CONTENT:
            self.wfile.write(reply.body)
        self.wfile.flush()

    def _body(self) -> bytes | None:
        """Return the body, or None after refusing one whose length cannot be told or is too much."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE if length.isdigit() else HTTPStatus.BAD_REQUEST)
            return None
        return self.rfile.read(int(length))

    def _chunks(self) -> bytes | None:
        body = bytearray()
        while True:
            try:
                length = int(self.rfile.readline(256).split(b";")[0], 16)
            except ValueError:
                length = -1
            if not 0 <= length <= MAX_BODY_BYTES - len(body):
                self.close_connection = True
                self.send_error(HTTPStatus.BAD_REQUEST)
                return None
            body += self.rfile.read(length)
            line = self.rfile.readline(65536)
            if length == 0:
                while line not in {b"\r\n", b"\n", b""}:
                    line = self.rfile.readline(65536)
                return bytes(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own signature
        """Leave it to whoever started the receiver to say what is worth a line."""

    def version_string(self) -> str:
        return "webhookd-receiver"
