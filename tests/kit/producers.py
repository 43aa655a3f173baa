"""Producers that go on whatever they are answered, and remember it, to be held against what has arrived."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.daemon import Daemon, DaemonExitedError, Response
from tests.kit.receiver import Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One event that was handed in: `n` is in its payload, `response` is None where no answer came."""

    n: int
    began: float
    ended: float
    response: Response | None

    @property
    def status(self) -> int:
        """The status of the answer, 0 where there was none."""
        return 0 if self.response is None else self.response.status

    @property
    def event_id(self) -> str:
        """The id that the daemon gave it; only of what was accepted."""
        assert self.response is not None
        id_: str = self.response.json()["id"]
        return id_


@dataclass(slots=True)
class Producers:
    """Every event that was handed in so far, each with a number of its own as its idempotency key and payload."""

    daemon: Daemon
    padding: str = ""
    handed: list[Handed] = field(default_factory=list)
    first: int = 0
    _taken: int = 0
    _is_over: bool = False

    def answered(self, status: int) -> list[Handed]:
        """Return those that were answered with `status`, 0 for no answer, in order of the answers."""
        return [one for one in self.handed if one.status == status]

    def statuses(self) -> Counter[int]:
        """Return how often each status was answered."""
        return Counter(one.status for one in self.handed)

    async def hand_in(self, *, timeout_seconds: float = 60.0) -> Handed:
        """Hand in the next event and return what came of it."""
        n = self.first + self._taken
        self._taken += 1
        envelope: dict[str, Any] = {
            "type": "order.completed",
            "payload": {"n": n, "padding": self.padding},
            "idempotency_key": f"key-{n}",
        }
        began = time.monotonic()
        response = None
        with contextlib.suppress(aiohttp.ClientError, OSError, DaemonExitedError, TimeoutError):
            response = await self.daemon.request(
                "POST", "/v1/events", envelope, unix=self.daemon.ingest_socket, timeout_seconds=timeout_seconds
            )
        one = Handed(n=n, began=began, ended=time.monotonic(), response=response)
        self.handed.append(one)
        return one

    async def work(self, *, pause_seconds: float = 0.0, stubborn: bool = True) -> None:
        """Hand in one after the other until the daemon is gone; who is not `stubborn` stops when refused."""
        while not self._is_over:
            one = await self.hand_in()
            if self.daemon.exit_code is not None or (one.status != 202 and not stubborn):
                return
            # Who is refused comes back: a little later, for this is to be a load and no hammer.
            await asyncio.sleep(pause_seconds if one.status == 202 else max(pause_seconds, 0.02))

    @contextlib.asynccontextmanager
    async def working(self, number: int, *, pause_seconds: float = 0.0) -> AsyncIterator[None]:
        """Have so many of them at work inside; what is under way at the end is answered first."""
        self._is_over = False
        tasks = [asyncio.create_task(self.work(pause_seconds=pause_seconds)) for _ in range(number)]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*tasks)


async def require_nothing_lost(producers: Producers, receiver: Receiver, *, timeout_seconds: float = 60.0) -> None:
    """Wait until nothing is owed; then all that was acknowledged is delivered, and nothing that was refused as full.

    What was answered 503, or not at all, may be there or not. The daemon runs, and is ended by this in the orderly way,
    so that its file can be checked.
    """
    daemon = producers.daemon
    deliveries = await daemon.settled(timeout_seconds)
    states = {delivery["event"]: delivery["state"] for delivery in deliveries}
    arrived = receiver.by_event()
    for one in producers.answered(202):
        assert states.get(one.event_id) == "delivered", f"{one.event_id}: {states.get(one.event_id)}"
        assert arrived[one.event_id] >= 1, f"{one.event_id} is called delivered and did not arrive"
    bodies = b"\n".join(request.body for request in receiver.requests)
    for one in producers.answered(507):
        assert b'"n": %d,' % one.n not in bodies, f"event {one.n} was refused and delivered all the same"
    assert await daemon.terminate() == 0
    require_sound(daemon.database)


def require_sound(path: Path) -> None:
    """Require that the database, which nobody has open, passes SQLite's own check."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
