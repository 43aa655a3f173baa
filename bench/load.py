"""The load: a process that hands in events over kept-alive connections, at a given rate or as fast as it is answered.

Half of the machine has to carry this process and the receiver, so it must be cheap beside what it measures. It is one
uvloop protocol per connection without tasks, futures or streams in the way. A request is two constant pieces around a
number. An answer is framed by two searches in its bytes instead of by a parser. The ids in the answers are kept as they
came and decoded when the clock has stopped. That comes to 9 µs an event on a machine where the bare pipeline
takes 50. `python -m bench instruments` measures it against a server that does nothing but answer; every run of
`throughput` also reports what it cost.

At a rate, an event has its moment, and the time until its answer counts from that moment also where no connection was
free then: a server that falls behind cannot hide it by taking in less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from array import array
from collections import Counter, deque
from collections.abc import Callable
from resource import RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any, cast

import uvloop

from bench import sample
from bench.framing import measure
from bench.processes import say


class Load:
    """Hands in `events` events, `batch` a request, and remembers when each was, and every answer.

    With `types` of more than one they are of the types load.0000, load.0001 and so on, in turn.
    """

    def __init__(self, events: int, first: int, *, batch: int, types: int) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.requests = sample.Requests(batch=batch, types=types)
        self.started_at = 0.0
        self.finished_at = 0.0
        self.sent_at = array("d")
        self.answered_at = array("d")
        self.bodies: list[bytes] = []
        self.statuses: Counter[bytes] = Counter()
        self.left = events // batch
        self._next = first
        self._batch = batch
        self.requests_in_all = self._answers_due = self.left

    def draw(self) -> bytes | None:
        """Return the next request, or None when all were drawn."""
        if not self.left:
            return None
        self.left -= 1
        number = self._next
        self._next += self._batch
        return self.requests.build(number)

    def take(self, sent_at: float, status: bytes, body: bytes) -> None:
        """Take note of one answer."""
        if status == b"202":
            self.sent_at.append(sent_at)
            self.answered_at.append(monotonic())
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

    def report(self, *, times: bool) -> dict[str, Any]:
        """Return the result as it is printed; with `times` also when each accepted event was sent and answered."""
        usage = getrusage(RUSAGE_SELF)
        seconds = sorted(after - before for before, after in zip(self.sent_at, self.answered_at, strict=True)) or [0.0]
        ids = [_ids(body) for body in self.bodies]
        return {
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "accept_p50_ms": seconds[len(seconds) // 2] * 1000,
            "accept_p99_ms": seconds[len(seconds) * 99 // 100] * 1000,
            "refused": {status.decode(): count for status, count in self.statuses.items()},
            "ids": [event_id for several in ids for event_id in several],
            "accepted": sum(len(several) for several in ids),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            **({"sent_at": self.sent_at.tolist(), "answered_at": self.answered_at.tolist()} if times else {}),
        }


def _ids(body: bytes) -> list[str]:
    answer = json.loads(body)
    return [event["id"] for event in answer["events"]] if "events" in answer else [answer["id"]]


class Producer(asyncio.Protocol):
    """One kept-alive connection with one request under way; after each answer it is handed to `after`."""

    def __init__(self, load: Load, after: Callable[[Producer], None]) -> None:
        self._load = load
        self._next = after
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for `advance`, so that all connections stand before the first request."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, sent_at: float) -> None:
        """Send a request, whose time begins at `sent_at`."""
        self._sent_at = sent_at
        cast("asyncio.Transport", self._transport).write(request)

    def advance(self) -> None:
        """Send the next request, if there is one."""
        request = self._load.draw()
        if request is not None:
            self.send(request, monotonic())

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
        self._load.take(self._sent_at, data[9:12], data[span[0] : span[1]])
        self._next(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the load."""
        self._load.fail(exc or ConnectionResetError("the server closed a connection"))


class Metronome:
    """Sends what `load` holds at `rate` requests a second, each over the one of `producers` that has been free longest.

    So none of them is idle for so long that the server closes it.
    """

    def __init__(self, load: Load, rate: float) -> None:
        self._load = load
        self._rate = rate
        self._sent = 0
        self._free: deque[Producer] = deque()
        self._waiting: deque[float] = deque()

    def begin(self, producers: list[Producer]) -> None:
        """Start the clock."""
        self._free.extend(producers)
        self._tick()

    def _tick(self) -> None:
        now = monotonic()
        passed = int((now - self._load.started_at) * self._rate) + 1
        while self._sent < passed and self._sent < self._load.requests_in_all:
            self._waiting.append(self._load.started_at + self._sent / self._rate)
            self._sent += 1
        self._serve()
        if self._sent < self._load.requests_in_all:
            moment = self._load.started_at + self._sent / self._rate
            asyncio.get_running_loop().call_later(max(0.0, moment - monotonic()), self._tick)

    def release(self, producer: Producer) -> None:
        """Take back a connection whose request is answered."""
        self._free.append(producer)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._free:
            request = self._load.draw()
            assert request is not None
            self._free.popleft().send(request, self._waiting.popleft())


async def hand_in(address: str, load: Load, connections: int, rate: float) -> None:
    """Hand in everything over `connections` connections, `rate` requests a second or, at 0, as fast as answered."""
    loop = asyncio.get_running_loop()
    metronome = Metronome(load, rate) if rate else None
    after = metronome.release if metronome else Producer.advance
    kind, _, place = address.partition(":")
    producers: list[Producer] = []
    for _ in range(min(connections, load.left)):
        if kind == "unix":
            _, producer = await loop.create_unix_connection(lambda: Producer(load, after), place)
        else:
            host, _, port = place.rpartition(":")
            _, producer = await loop.create_connection(lambda: Producer(load, after), host, int(port))
        producers.append(producer)
    load.started_at = monotonic()
    if metronome:
        metronome.begin(producers)
    else:
        for producer in producers:
            producer.advance()
    await load.done


def main() -> None:
    """Print the report as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True, metavar="ADDRESS", help="tcp:HOST:PORT or unix:PATH")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="sequence number of the first event")
    parser.add_argument("--batch", type=int, default=1, help="events in a request; above 1 as NDJSON")
    parser.add_argument("--types", type=int, default=1, help="event types to take in turn")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as fast as they are answered")
    parser.add_argument("--times", action="store_true", help="report when each event was sent and answered")
    given = parser.parse_args()

    async def measured() -> dict[str, Any]:
        load = Load(given.events, given.first, batch=given.batch, types=given.types)
        before = getrusage(RUSAGE_SELF)
        await hand_in(given.to, load, given.connections, given.rate)
        report = load.report(times=given.times)
        report["cpu_seconds"] -= before.ru_utime + before.ru_stime
        return report

    uvloop.install()
    say(asyncio.run(measured()))


if __name__ == "__main__":
    main()
