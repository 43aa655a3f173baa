"""A producer in a process of its own, that writes down each request before it makes it and each answer after it came.

`python -m tests.kit.ledger_producer --socket PATH --log FILE` prints one line, then hands events in over the socket
until SIGTERM. What has an idempotency key is repeated until it is known to be accepted; what has none is sent once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TYPES = ("order.paid", "order.sent", "note")

_ANSWER_SECONDS = 30.0
_LAST_REPEATS_SECONDS = 20.0
_PAUSE_SECONDS = 0.02
_SMALL, _LARGE, _LARGEST = 40, 20_000, 200_000
_MOST_IN_BATCH = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request: its events as (token, type, payload), in one body, with or without a key for each."""

    events: tuple[tuple[str, str, bytes], ...]
    is_keyed: bool

    def body(self) -> bytes:
        """Return the envelopes, one a line."""
        return b"\n".join(self._envelope(*event) for event in self.events)

    def line(self) -> dict[str, Any]:
        """Return what is written down before it is sent; payloads as size and CRC-32."""
        return {
            "ask": [token for token, _, _ in self.events],
            "keyed": self.is_keyed,
            "types": [kind for _, kind, _ in self.events],
            "sums": [[len(payload), zlib.crc32(payload)] for _, _, payload in self.events],
        }

    def _envelope(self, token: str, kind: str, payload: bytes) -> bytes:
        key = b',"idempotency_key":"%s"' % token.encode() if self.is_keyed else b""
        return b'{"type":"%s"%s,"payload":%s}' % (kind.encode(), key, payload)


class Producer:
    """Several workers that make requests one after the other, each over a connection of its own."""

    def __init__(self, path: Path, log: Path, *, seed: int, pause_seconds: float) -> None:
        self._path = path
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seed = seed
        self._pause_seconds = pause_seconds
        self._stop = asyncio.Event()

    async def run(self, workers: int) -> None:
        """Produce until SIGTERM, then repeat what is in doubt and has a key, for a while."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        sys.stdout.write("producing\n")
        sys.stdout.flush()
        working = [asyncio.ensure_future(self._work(number)) for number in range(workers)]
        failed = asyncio.ensure_future(asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION))
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await asyncio.wait(working, timeout=_LAST_REPEATS_SECONDS)
        for worker in working:
            worker.cancel()
        for result in await asyncio.gather(*working, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _work(self, number: int) -> None:
        draw = random.Random(self._seed * 1000 + number)
        line = _Line(self._path)
        count = 0
        while not self._stop.is_set():
            ask = _next_ask(draw, f"{number}.{count}")
            count += 1
            status = await self._ask(line, ask)
            while ask.is_keyed and status not in {200, 202}:
                await asyncio.sleep(_PAUSE_SECONDS)
                status = await self._ask(line, ask)
            await asyncio.sleep(self._pause_seconds * draw.uniform(0.5, 1.5))
        line.close()

    async def _ask(self, line: _Line, ask: Ask) -> int:
        while not await line.connect():
            # Nothing was asked, so nothing is in doubt; the next connection may find a daemon again.
            await asyncio.sleep(_PAUSE_SECONDS)
            if self._stop.is_set() and not ask.is_keyed:
                return 0
        self._write(ask.line())
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, body = await line.exchange(ask.body(), is_batch=len(ask.events) > 1)
        except (OSError, EOFError, TimeoutError):
            line.close()
            status, body = 0, b""
        ids: list[str] = []
        if status in {200, 202}:
            answer = json.loads(body)
            ids = [accepted["id"] for accepted in answer.get("events", [answer])]
        self._write({"answer": [token for token, _, _ in ask.events], "status": status, "ids": ids})
        return status

    def _write(self, entry: dict[str, Any]) -> None:
        # One write for each line: lines of several workers do not mix, and what is written outlives this process.
        os.write(self._log, json.dumps({"t": time.monotonic(), **entry}).encode() + b"\n")


class _Line:
    """One kept-alive connection to the socket, opened anew after each trouble."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self) -> bool:
        """Say whether there is a connection now."""
        if self._streams is None:
            with contextlib.suppress(OSError):
                self._streams = await asyncio.open_unix_connection(str(self._path))
        return self._streams is not None

    async def exchange(self, body: bytes, *, is_batch: bool) -> tuple[int, bytes]:
        """Post `body` and return status and body of the answer; OSError or EOFError if there is none."""
        assert self._streams is not None
        reader, writer = self._streams
        kind = "application/x-ndjson" if is_batch else "application/json"
        head = (
            "POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(answer.split(" ", 2)[1])
        (length,) = [line.partition(":")[2] for line in answer.split("\r\n") if line.startswith("content-length:")]
        content = await reader.readexactly(int(length))
        if "connection: close" in answer:
            self.close()
        return status, content

    def close(self) -> None:
        """Give the connection up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _next_ask(draw: random.Random, name: str) -> Ask:
    many = draw.randint(2, _MOST_IN_BATCH) if draw.random() < 0.2 else 1
    events = tuple(
        (token, draw.choice(TYPES), _payload(draw, token))
        for token in (f"{name}.{index}" for index in range(many))
    )  # fmt: skip
    return Ask(events=events, is_keyed=draw.random() < 0.6)


def _payload(draw: random.Random, token: str) -> bytes:
    chance = draw.random()
    size = _LARGEST if chance < 0.003 else _LARGE if chance < 0.03 else _SMALL
    # Not the same everywhere: a page that is stored in another's place must not add up to the same sum.
    filling = draw.randbytes(draw.randint(1, size) // 2).hex()
    return json.dumps({"token": token, "filling": filling}).encode()


def main() -> None:
    """Produce until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.ledger_producer", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between two requests of one worker")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    async def produce() -> None:
        producer = Producer(options.socket, options.log, seed=options.seed, pause_seconds=options.pause)
        await producer.run(options.workers)

    asyncio.run(produce())


if __name__ == "__main__":
    main()
