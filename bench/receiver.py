"""The receiver: a process that acknowledges every request and knows how often it saw each webhook-id.

Like the load it must be cheap beside what it measures: a uvloop protocol per connection, requests framed by two
searches, one constant answer without a body, one dictionary. Every 64th request is kept, and looked at only when a
report is asked for: whether its signature holds and its payload is one that was handed in. Requests to a path that
begins with /tarpit are answered only after a while, and counted apart.

It obeys lines on its standard input and answers each with a line of JSON: `await N` when N requests have come (or none
for as long as it is patient), `count` and `report` at once, `reset` after forgetting all. It ends when its input does,
and so never outlives its owner.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from resource import RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any, cast

import uvloop

from bench import sample
from bench.framing import header, measure
from bench.processes import say

PATIENCE_SECONDS = 10.0
KEPT_AT_MOST = 1000
_EVERY = 64


class Tally:
    """What has been received since the last reset."""

    def __init__(self, *, by_path: bool = False, times: bool = False, patience: float = PATIENCE_SECONDS) -> None:
        self.requests = 0
        self.last_at = 0.0
        self._by_path = by_path
        self._patience_seconds = patience
        self._hanging = 0
        self._most_hanging = 0
        self._held: dict[bytes | None, int] = {}
        self._first_at: list[float] | None = [] if times else None
        self._times: dict[bytes | None, int] = {}
        self._kept: list[tuple[bytes, bytes]] = []
        self._target = 0
        self._reached: asyncio.Event = asyncio.Event()

    def take(self, head: bytes, body: bytes) -> None:
        """Count one request."""
        message_id = header(head, b"webhook-id")
        self.last_at = monotonic()
        if self._first_at is not None and message_id not in self._times:
            self._first_at.append(self.last_at)
        if self._by_path:
            message_id = b"%s %s" % (message_id, head[: head.find(b" ", 5)])
        self._times[message_id] = self._times.get(message_id, 0) + 1
        self.requests += 1
        if self.requests % _EVERY == 1 and len(self._kept) < KEPT_AT_MOST:
            self._kept.append((head, body))
        if self.requests == self._target:
            self._reached.set()

    def hold(self, head: bytes) -> None:
        """Count one request that will hang."""
        message_id = header(head, b"webhook-id")
        self._held[message_id] = self._held.get(message_id, 0) + 1
        self._hanging += 1
        self._most_hanging = max(self._most_hanging, self._hanging)

    def let_go(self) -> None:
        """Note that a request that hung is over."""
        self._hanging -= 1

    def reset(self) -> None:
        """Forget all but what hangs."""
        self.requests, self.last_at, self._times, self._kept = 0, 0.0, {}, []
        if self._first_at is not None:
            self._first_at = []

    async def reach(self, target: int) -> None:
        """Return when `target` requests were received, or none for as long as there is patience."""
        self._target = target
        self._reached.clear()
        while self.requests < target:
            seen = self.requests
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await self._reached.wait()
            except TimeoutError:
                if self.requests == seen:
                    return

    def count(self) -> dict[str, Any]:
        """Return how many came, when the last one did, and what that has cost."""
        usage = getrusage(RUSAGE_SELF)
        return {
            "requests": self.requests,
            "last_at": self.last_at,
            "at": monotonic(),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
        }

    def report(self, *, ids: bool = False) -> dict[str, Any]:
        """Return the counts, and what is wrong with the requests that were kept."""
        return {
            **self.count(),
            "distinct": len(self._times),
            "duplicates": self.requests - len(self._times),
            "held": len(self._held),
            "held_twice": sum(self._held.values()) - len(self._held),
            "most_hanging": self._most_hanging,
            "checked": len(self._kept),
            "complaints": sorted({complaint for kept in self._kept if (complaint := _complaint(*kept))}),
            **({"ids": [message_id.decode() for message_id in self._times if message_id]} if ids else {}),
            **({"first_at": self._first_at} if ids and self._first_at is not None else {}),
        }


def _complaint(head: bytes, body: bytes) -> str | None:
    parts = [header(head, name) for name in (b"webhook-id", b"webhook-timestamp", b"webhook-signature")]
    if None in parts:
        return "a Standard Webhooks header is missing"
    return sample.complaint(*cast("list[bytes]", parts), body)


class Acknowledger(asyncio.Protocol):
    """One connection; any request is acknowledged as soon as all of it is there."""

    def __init__(self, tally: Tally, answer: bytes, tarpit_seconds: float) -> None:
        self._tally = tally
        self._answer = answer
        self._tarpit_seconds = tarpit_seconds
        self._transport: asyncio.Transport | None = None
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        while data:
            span = measure(data)
            if span is None:
                self._partial = data
                return
            start, end = span
            if data.startswith(b"POST /tarpit"):
                self._tally.hold(data[:start])
                asyncio.get_running_loop().call_later(self._tarpit_seconds, self._let_go)
            else:
                self._tally.take(data[:start], data[start:end])
                self._write()
            data = data[end:]

    def _let_go(self) -> None:
        self._tally.let_go()
        self._write()

    def _write(self) -> None:
        transport = cast("asyncio.Transport", self._transport)
        if not transport.is_closing():
            transport.write(self._answer)


async def obey(tally: Tally) -> None:
    """Answer the lines on standard input until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        match line.split():
            case [b"await", target]:
                await tally.reach(int(target))
                answer = tally.report()
            case [b"count"]:
                answer = tally.count()
            case [b"report"]:
                answer = tally.report(ids=True)
            case [b"reset"]:
                tally.reset()
                answer = tally.report()
            case _:
                raise ValueError(f"not a command: {line!r}")
        say(answer)


async def serve(tally: Tally, *, status: int, tarpit_seconds: float, tls: ssl.SSLContext | None) -> None:
    """Listen on a free port of the loopback interface, print it, and obey."""
    body = b'{"id":"null"}' if status == 202 else b""
    answer = b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Acknowledger(tally, answer, tarpit_seconds), "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    say({"port": server.sockets[0].getsockname()[1]})
    await obey(tally)


def main(tally_of: type[Tally] = Tally, arguments: list[str] | None = None) -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--status", type=int, default=200, help="202: pretend to accept events, as a server of nothing")
    parser.add_argument("--by-path", action="store_true", help="an event may come once to each path")
    parser.add_argument("--times", action="store_true", help="report when each event came first")
    parser.add_argument("--tarpit-seconds", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS")
    parser.add_argument("--certificate", metavar="FILE", help="speak TLS by this chain and key")
    given = parser.parse_args(arguments)
    tls = None
    if given.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(given.certificate)

    uvloop.install()
    tally = tally_of(by_path=given.by_path, times=given.times, patience=given.patience)
    asyncio.run(serve(tally, status=given.status, tarpit_seconds=given.tarpit_seconds, tls=tls))


if __name__ == "__main__":
    main()
