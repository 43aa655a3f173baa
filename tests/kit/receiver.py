"""A receiver of webhooks on a real socket: records what came, answers by a script, also as a process of its own.

`python -m tests.kit.receiver --port 0 --log FILE` prints its URL, then appends `webhook-id status` to FILE before each
answer, so that the file knows of every acknowledgement that may have left the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httptools

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it stood on the wire; header names keep their case. `at` is `time.monotonic()` at its end."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    at: float

    def header(self, name: str) -> str | None:
        """Return the first header called `name`, in whatever case."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    @property
    def event_id(self) -> str:
        """The `webhook-id`, empty if there is none."""
        return self.header("webhook-id") or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer, after `delay_seconds`; `raw` replaces the whole response, `hang` never gives one.

    `drop` closes the connection and `reset` resets it instead, `close` closes it after the answer.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_seconds: float = 0.0
    raw: bytes | None = None
    hang: bool = False
    drop: bool = False
    reset: bool = False
    close: bool = False


Answer = int | Reply | Callable[[Request], int | Reply]
"""A status, a whole reply, or what makes one of a request."""


@dataclass(slots=True)
class _Script:
    answers: tuple[Answer, ...] = (200,)
    given: int = 0

    def next(self) -> Answer:
        answer = self.answers[min(self.given, len(self.answers) - 1)]
        self.given += 1
        return answer


@dataclass(slots=True)
class Receiver:
    """Listens while it is entered, on a port of `host` that stays its own over `stop` and `start`.

    Usable in the loop it is entered in. `in_flight` and `peak` count requests whose answer is still to come. With
    `log` given, nothing is kept in memory but the count.
    """

    port: int = 0
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    log: Path | None = None
    requests: list[Request] = field(default_factory=list)
    count: int = 0
    in_flight: int = 0
    peak: int = 0
    connections: int = 0
    _scripts: dict[str | None, _Script] = field(default_factory=lambda: {None: _Script()})
    _server: asyncio.Server | None = None
    _open: set[_Connection] = field(default_factory=set)
    _log: int = -1
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        if self.log is not None:
            self._log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._log >= 0:
            os.close(self._log)

    async def start(self) -> None:
        """Listen again, after `stop`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self.host, self.port, ssl=self.tls, reuse_address=True, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and reset those that are open."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._open):
            connection.reset()
        await self._server.wait_closed()
        self._server = None

    def script(self, *answers: Answer, path: str | None = None) -> None:
        """Give `answers` one after the other, the last for ever, to requests for `path` or to all without their own."""
        self._scripts[path] = _Script(answers or (200,))

    def at(self, path: str) -> list[Request]:
        """Return the requests for `path`, in order."""
        return [request for request in self.requests if request.path == path]

    def by_event(self) -> Counter[str]:
        """Return how many requests came for each event id."""
        return Counter(request.event_id for request in self.requests)

    async def wait_for(self, count: int, timeout_seconds: float = 10.0) -> list[Request]:
        """Return the requests once there are `count`; TimeoutError says how many there were."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.count < count:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.count} of {count} requests after {timeout_seconds} s") from None
        return list(self.requests)

    def take(self, request: Request) -> Reply | int:
        """Record the request and say what to answer."""
        script = self._scripts.get(request.path) or self._scripts[None]
        answer = script.next()
        reply = answer(request) if callable(answer) else answer
        if self._log >= 0:
            status = reply if isinstance(reply, int) else 0 if reply.hang or reply.drop or reply.reset else reply.status
            os.write(self._log, f"{request.event_id or '-'} {status}\n".encode())
        else:
            self.requests.append(request)
        self.count += 1
        self._arrived.set()
        return reply


class _Connection(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._waiting: asyncio.TimerHandle | None = None
        self._busy = False
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport by inheritance.
        self._transport = transport  # type: ignore[assignment]
        self._receiver._open.add(self)  # noqa: SLF001
        self._receiver.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._receiver._open.discard(self)  # noqa: SLF001
        if self._waiting is not None:
            self._waiting.cancel()
        self._answered()

    def reset(self) -> None:
        # Lingering for no time is how a socket is told to answer with RST rather than FIN.
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            sys.stderr.write(f"not HTTP: {error}: {data[:200]!r}\n")
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        receiver = self._receiver
        request = Request(
            method=self._parser.get_method().decode(),
            path=self._path.decode("latin-1"),
            headers=tuple(self._headers),
            body=b"".join(self._body),
            at=time.monotonic(),
        )
        self._path, self._headers, self._body = b"", [], []
        self._busy = True
        self._keeps_alive = self._parser.should_keep_alive()
        receiver.in_flight += 1
        receiver.peak = max(receiver.peak, receiver.in_flight)
        reply = receiver.take(request)
        if isinstance(reply, int):
            self._send(_PLAIN[reply], close=False)
        elif reply.hang:
            return
        elif reply.delay_seconds > 0:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(reply.delay_seconds, self._reply, reply)
        else:
            self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        if reply.reset:
            self.reset()
        elif reply.drop:
            self._transport.abort()
        else:
            self._send(_response(reply) if reply.raw is None else reply.raw, close=reply.close)

    def _send(self, response: bytes, *, close: bool) -> None:
        self._answered()
        self._transport.write(response)
        if close or not self._keeps_alive:
            self._transport.close()

    def _answered(self) -> None:
        self._receiver.in_flight -= self._busy
        self._busy = False


def _response(reply: Reply) -> bytes:
    reason = http.client.responses.get(reply.status, "Unknown")
    headers = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
    bodiless = reply.status in {204, 304}
    length = "" if bodiless else f"Content-Length: {len(reply.body)}\r\n"
    closing = "Connection: close\r\n" if reply.close else ""
    head = f"HTTP/1.1 {reply.status} {reason}\r\n{headers}{length}{closing}\r\n".encode("latin-1")
    return head if bodiless else head + reply.body


_PLAIN = {status: _response(Reply(status=status)) for status in range(200, 600)}


@dataclass(frozen=True, slots=True)
class ReceiverProcess:
    """A receiver that outlives what happens to this process' loop; `log` is its ledger."""

    url: str
    log: Path
    pid: int

    def entries(self) -> list[tuple[str, int]]:
        """Return event id and given status of every request so far, in order; 0 for a request left unanswered."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(event_id, int(status)) for event_id, status in (line.split(" ") for line in lines)]


@contextlib.asynccontextmanager
async def receiver_process(log: Path, *options: str) -> AsyncIterator[ReceiverProcess]:
    """Run `python -m tests.kit.receiver` on a free port, with further `options`, and end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kit.receiver", "--port", "0", "--log", str(log), *options),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(15):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError(f"the receiver ended with {await process.wait()}")
        yield ReceiverProcess(url, log, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # To the end of its output, or the transport of the pipe is left to the garbage collector.
        await process.communicate()


async def _serve(port: int, log: Path | None, answer: Answer) -> None:
    receiver = Receiver(port=port, log=log)
    receiver.script(answer)
    async with receiver:
        sys.stdout.write(f"{receiver.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.receiver", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fail-first", type=int, default=0, help="answer 500 to this many requests of each event")
    options = parser.parse_args()
    failed: Counter[str] = Counter()

    def answer(request: Request) -> Reply | int:
        status: int = options.status
        if failed[request.event_id] < options.fail_first:
            failed[request.event_id] += 1
            status = 500
        return Reply(status=status, delay_seconds=options.delay) if options.delay else status

    # Without a need to think, none is spent: this is what throughput is measured against.
    plain = not options.delay and not options.fail_first
    serving = _serve(options.port, options.log, options.status if plain else answer)
    import uvloop

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


if __name__ == "__main__":
    main()
