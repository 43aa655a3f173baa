"""What all connections share: the bounds on their number, time and memory, and the one clock that watches them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from webhookd.api.problems import INTERNAL, Problem, problem_of
from webhookd.api.wire import http_date
from webhookd.core.services import Acceptor
from webhookd.core.settings import KIB, MIB, Ingest

log = logging.getLogger("webhookd.api")

PIPELINE = 64
"""Unanswered requests on one connection at which reading stops until half of them are answered."""

OTHER_BODY_BYTES = MIB
"""The longest body of a request that hands in no events; an endpoint's sample is the longest thing in one."""

DISCARDED_BYTES = 64 * KIB
"""The longest body that is read only to be thrown away, for the sake of keeping the connection."""

CHUNK_OVERHEAD_BYTES = 64 * KIB
"""How much of extensions, sizes and trailers may stand between two pieces of a chunked body."""


SLOW_SECONDS = 1.0
"""How long a request may take to arrive, or an answer to leave, before its connection may have to make room.

Who has been idle for as long goes before, who is idle for less after: that one is about to hand something in.
"""


class Observer(Protocol):
    """Who counts what comes in."""

    def rejected(self, slug: str) -> None:
        """One request for events was refused with this problem."""

    def accepted(self, count: int, seconds: float) -> None:
        """So many events of one request were accepted, this long after its last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection may take, in seconds, and how many there may be."""

    head_seconds: float = 5.0
    body_seconds: float = 15.0
    idle_seconds: float = 75.0
    write_seconds: float = 30.0
    linger_seconds: float = 2.0
    heartbeat_seconds: float = 15.0
    tick_seconds: float = 0.25
    connections: int = 1024
    buffered_bytes: int = 64 * MIB


class Guest(Protocol):
    """A connection as the lobby sees it."""

    idle_since: float | None

    @property
    def slow_since(self) -> float | None:
        """Since when the client has been sending one request, or not reading an answer; None where it does neither."""

    def watch(self, now: float) -> None:
        """End the connection where it has outlasted some patience."""

    def dismiss(self) -> None:
        """Close after what is being answered, at once if that is nothing."""

    def abort(self) -> None:
        """Close now, whatever is lost."""


@dataclass(slots=True, kw_only=True)
class Lobby:
    """The shared state of the way in; `now` is seconds of a clock that stands still while the loop does.

    A loop that stalled has read nothing, so the stall must not count against those who sent in time.
    """

    acceptor: Acceptor
    observer: Observer
    ingest: Ingest
    patience: Patience
    draining: bool = False
    now: float = 0.0
    date: str = ""
    buffered_bytes: int = 0
    guests: dict[Guest, None] = field(default_factory=dict)
    failed: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _empty: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None
    _ticked_at: float = 0.0

    def start(self) -> None:
        """Start the clock."""
        self.date = http_date(time.time())
        self._ticked_at = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self.patience.tick_seconds, self._tick)

    def stop(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def enter(self, guest: Guest) -> bool:
        """Take in a connection, if need be in place of another; say whether it may stay."""
        room = True
        # More than one may have to go: those who were refused stay until they have read why.
        while room and len(self.guests) >= self.patience.connections:
            room = self.evict()
        self.guests[guest] = None
        return room

    def evict(self) -> bool:
        """Close the connection that can best be spared; False where every one is busy.

        That is the one idle for longest, which loses nothing. Once none has been idle for SLOW_SECONDS, the one that
        has been slow for longest goes: who means to fill all places leaves something unfinished on each, and must not
        push out those who have only just come.
        """
        late = self.now - SLOW_SECONDS
        oldest = (
            self._oldest(lambda guest: guest.idle_since, until=late)
            or self._oldest(lambda guest: guest.slow_since, until=late)
            or self._oldest(lambda guest: guest.idle_since, until=self.now)
        )
        if oldest is None:
            return False
        del self.guests[oldest]
        oldest.abort()
        return True

    def _oldest(self, since: Callable[[Guest], float | None], *, until: float) -> Guest | None:
        found = [(at, guest) for guest in self.guests if (at := since(guest)) is not None and at <= until]
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def leave(self, guest: Guest) -> None:
        """Forget a connection that is gone."""
        self.guests.pop(guest, None)
        if not self.guests:
            self._empty.set()

    async def empty(self, grace_seconds: float) -> None:
        """Let everybody finish within `grace_seconds`, then close what is left."""
        for guest in list(self.guests):
            guest.dismiss()
        for patience in (grace_seconds, self.patience.linger_seconds):
            self._empty.clear()
            if self.guests:
                try:
                    await asyncio.wait_for(self._empty.wait(), patience)
                except TimeoutError:
                    for guest in list(self.guests):
                        guest.abort()

    def explain(self, error: BaseException) -> Problem:
        """Return the problem an error is told as; one that is a fault of ours is logged with its traceback."""
        problem = problem_of(error)
        if isinstance(error, MemoryError):
            self.fail(error)
        if problem is None:
            log.error("request.failed", exc_info=error)
            return INTERNAL
        return problem

    def fail(self, error: BaseException) -> None:
        """Report that the API cannot go on; the first report counts."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def _tick(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - without its clock the API has no deadlines: this ends the process
            self.fail(error)

    def _watch(self) -> None:
        elapsed = time.monotonic() - self._ticked_at
        self._ticked_at += elapsed
        self.now += min(elapsed, 2 * self.patience.tick_seconds)
        self.date = http_date(time.time())
        for guest in list(self.guests):
            guest.watch(self.now)
        self._timer = asyncio.get_running_loop().call_later(self.patience.tick_seconds, self._tick)
