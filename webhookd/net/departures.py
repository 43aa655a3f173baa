"""Lets attempts depart together, once in each turn of the loop, so that all are served by one look at the kernel."""

from __future__ import annotations

import asyncio
import select
from time import monotonic

from webhookd.core.ports import Clock
from webhookd.net.attempt import Attempt


class Departures:
    """Sends what was begun in the last turn of the loop.

    Before a kept connection is used again, the kernel is asked whether it holds anything that the loop has not got to
    yet: its end, or bytes that nobody asked for. Read after the next request has gone out, such bytes would pass for
    its answer. Origins are shared by endpoints, so it might not even be the endpoint that is asked which sent them.
    """

    __slots__ = ("_clock", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[Attempt] = []

    def add(self, attempt: Attempt) -> None:
        """Let it depart, not before this has returned."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._leave)
        self._waiting.append(attempt)

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        timestamp_seconds = self._clock.now_ms() // 1000
        kernel = select.poll()
        ready: list[tuple[Attempt, int]] = []
        for attempt in waiting:
            connection = attempt.prepare(timestamp_seconds)
            if connection is not None:
                kernel.register(connection.descriptor, select.POLLIN)
                ready.append((attempt, connection.descriptor))
        if ready:
            unread = {descriptor for descriptor, _ in kernel.poll(0)}
            now = monotonic()
            for attempt, descriptor in ready:
                attempt.depart(now, is_clean=descriptor not in unread)
