"""A receiver in a process of its own, that writes down each request and the verdict on it before it gives the verdict.

`python -m tests.kit.ledger_receiver --log FILE` prints its URL and serves until killed. A path is an endpoint and
names how it behaves; what a request gets depends on the seed, the event and how often it came, and on nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.kit.receiver import Receiver, Reply, Request

NO_VERDICT = 0
"""What is written for a request that gets no answer at all."""


def _steady(chance: float) -> Reply:
    return Reply()


def _flaky(chance: float) -> Reply:
    return Reply(status=500 if chance < 0.2 else 200)


def _slow(chance: float) -> Reply:
    return Reply(delay_seconds=0.02 + chance / 10)


def _cutting(chance: float) -> Reply:
    return Reply(drop=chance < 0.04, reset=0.04 <= chance < 0.08)


def _nearly_steady(chance: float) -> Reply:
    # In order each failure holds up all that follow.
    return Reply(status=500 if chance < 0.03 else 200)


def _doomed(chance: float) -> Reply:
    return Reply(status=422 if chance < 0.8 else 200)


BEHAVIOURS: dict[str, Callable[[float], Reply]] = {
    "steady": _steady,
    "flaky": _flaky,
    "slow": _slow,
    "cutting": _cutting,
    "doomed": _doomed,
    "ordered": _nearly_steady,
}
"""What each endpoint does, given a number between 0 and 1 that is drawn for the request."""


@dataclass(slots=True)
class LedgerReceiver(Receiver):
    """A Receiver that writes a line for each request, and keeps nothing else."""

    seed: int = 1
    descriptor: int = -1
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, request: Request) -> Reply:
        """Write the request and what it gets down; then give it."""
        name = request.path.strip("/")
        times = self._seen[request.event_id, name]
        self._seen[request.event_id, name] += 1
        chance = zlib.crc32(f"{self.seed} {request.event_id} {name} {times}".encode()) / 2**32
        reply = BEHAVIOURS[name](chance)
        verdict = NO_VERDICT if reply.drop or reply.reset else reply.status
        words = (
            time.monotonic(),
            request.event_id or "-",
            name,
            request.header("x-life") or "-",
            request.header("x-attempt") or "-",
            verdict,
            len(request.body),
            zlib.crc32(request.body),
        )
        os.write(self.descriptor, (" ".join(map(str, words)) + "\n").encode())
        self.count += 1
        return reply


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.ledger_receiver", description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    async def serve() -> None:
        descriptor = os.open(options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        async with LedgerReceiver(seed=options.seed, descriptor=descriptor) as receiver:
            sys.stdout.write(f"{receiver.url}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
