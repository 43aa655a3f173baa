"""The load: a process that hands in events over kept-alive connections, each as soon as the one before is answered.

Half of the machine has to carry this process and the receiver, so it must be cheap beside what it measures. It is one
uvloop protocol per connection without tasks, futures or streams in the way. A request is two constant pieces around a
number. An answer is framed by two searches in its bytes instead of by a parser. The ids in the answers are kept as they
came and decoded when the clock has stopped. That comes to 9 µs an event on a machine where the bare pipeline
takes 50. `python -m bench instruments` measures it against a server that does nothing but answer; every run of
`throughput` also reports what it cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from array import array
from collections import Counter
from resource import RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any, cast

import uvloop

from bench import sample
from bench.framing import measure


class Load:
    """Hands in `events` events and remembers when, how long each took to be accepted, and every answer."""

    def __init__(self, events: int, first: int) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.parts = sample.request_parts()
        self.started_at = 0.0
        self.finished_at = 0.0
        self.seconds = array("d")
        self.bodies: list[bytes] = []
        self.statuses: Counter[bytes] = Counter()
        self._next = first
        self._end = first + events
        self._answers_due = events

    def draw(self) -> bytes | None:
        """Return the next request, or None when all were drawn."""
        if self._next == self._end:
            return None
        self._next += 1
        return sample.request(self._next - 1, self.parts)

    def take(self, seconds: float, status: bytes, body: bytes) -> None:
        """Take note of one answer."""
        self.seconds.append(seconds)
        if status == b"202":
            self.bodies.append(body)
        else:
            self.statuses[status] += 1
        self._answers_due -= 1
        if not self._answers_due:
            self.finished_at = monotonic()
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the load: it has no use for a connection that broke."""
        if not self.done.done():
            self.done.set_exception(error)

    def report(self) -> dict[str, Any]:
        """Return the result as it is printed."""
        usage = getrusage(RUSAGE_SELF)
        ordered = sorted(self.seconds)
        return {
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "accept_p50_ms": ordered[len(ordered) // 2] * 1000,
            "accept_p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
            "refused": {status.decode(): count for status, count in self.statuses.items()},
            "ids": [json.loads(body)["id"] for body in self.bodies if body],
            "accepted": len(self.bodies),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
        }


class Producer(asyncio.Protocol):
    """One kept-alive connection with one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for `advance`, so that all connections stand before the first request."""
        self._transport = cast("asyncio.Transport", transport)

    def advance(self) -> None:
        """Send the next request, if there is one."""
        request = self._load.draw()
        if request is not None:
            self._sent_at = monotonic()
            cast("asyncio.Transport", self._transport).write(request)

    def data_received(self, data: bytes) -> None:
        """Take an answer once all of it is there."""
        if self._partial:
            data = self._partial + data
        try:
            span = measure(data)
        except ValueError as error:
            self._load.fail(error)
            return
        if span is None:
            self._partial = data
            return
        self._partial = b""
        self._load.take(monotonic() - self._sent_at, data[9:12], data[span[0] : span[1]])
        self.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the load."""
        self._load.fail(exc or ConnectionResetError("the server closed a connection"))


async def hand_in(address: str, events: int, connections: int, first: int) -> dict[str, Any]:
    """Hand in events with the sequence numbers from `first` on and return the report."""
    loop = asyncio.get_running_loop()
    load = Load(events, first)
    kind, _, place = address.partition(":")
    producers: list[Producer] = []
    for _ in range(min(connections, events)):
        if kind == "unix":
            _, producer = await loop.create_unix_connection(lambda: Producer(load), place)
        else:
            host, _, port = place.rpartition(":")
            _, producer = await loop.create_connection(lambda: Producer(load), host, int(port))
        producers.append(producer)
    before = getrusage(RUSAGE_SELF)
    load.started_at = monotonic()
    for producer in producers:
        producer.advance()
    await load.done
    report = load.report()
    report["cpu_seconds"] -= before.ru_utime + before.ru_stime
    return report


def main() -> None:
    """Print the report as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True, metavar="ADDRESS", help="tcp:HOST:PORT or unix:PATH")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="sequence number of the first event")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    given = parser.parse_args()

    async def bounded() -> dict[str, Any]:
        async with asyncio.timeout(given.timeout):
            return await hand_in(given.to, given.events, given.connections, given.first)

    uvloop.install()
    sys.stdout.write(json.dumps(asyncio.run(bounded())) + "\n")


if __name__ == "__main__":
    main()
