"""Keeps connections that may serve another request, for a few seconds each."""

from __future__ import annotations

import asyncio
from time import monotonic

from webhookd.core.settings import TlsFiles
from webhookd.net.client import Connection

Origin = tuple[str, str, int, TlsFiles | None]
"""Scheme, host, port, and the certificates it was opened with: who we are to the other side belongs to a connection."""

IDLE_SECONDS = 4.0
"""Node, for one, closes idle connections after 5 s; a request sent into that closing would be lost."""
LIFE_SECONDS = 60.0
"""An address that has been checked is trusted no longer than this."""
IDLE_PER_ORIGIN = 64


class Pool:
    """Idle connections by origin, the one used last first; at most `limit` in all and IDLE_PER_ORIGIN for each.

    Belongs to one loop.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[Origin, list[Connection]] = {}
        self._since: dict[Connection, tuple[Origin, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    def take(self, origin: Origin, now: float) -> Connection | None:
        """Return an open connection that is young enough at `now`, or None."""
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if not stack:
                del self._idle[origin]
            _, since = self._since.pop(connection)
            if connection.is_open and now - since < IDLE_SECONDS and now - connection.opened_at < LIFE_SECONDS:
                return connection
            connection.drop()
        return None

    def put(self, origin: Origin, connection: Connection, now: float) -> None:
        """Keep a connection whose last exchange left it clean, unless it is too old."""
        if not connection.is_open or now - connection.opened_at >= LIFE_SECONDS or self._limit <= 0:
            connection.drop()
            return
        stack = self._idle.setdefault(origin, [])
        stack.append(connection)
        self._since[connection] = (origin, now)
        if len(stack) > IDLE_PER_ORIGIN:
            self._discard(stack[0])
        elif len(self._since) > self._limit:
            self._discard(next(iter(self._since)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(now + IDLE_SECONDS, self._expire)

    def resize(self, limit: int) -> None:
        """Keep at most `limit` from now on, and nothing of what was kept so far."""
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Close every idle connection."""
        for connection in self._since:
            connection.drop()
        self._since.clear()
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _discard(self, connection: Connection) -> None:
        origin, _ = self._since.pop(connection)
        stack = self._idle[origin]
        stack.remove(connection)
        if not stack:
            del self._idle[origin]
        connection.drop()

    def _expire(self) -> None:
        self._timer = None
        while self._since:
            connection, (_, since) = next(iter(self._since.items()))
            if since + IDLE_SECONDS > monotonic():
                self._timer = asyncio.get_running_loop().call_at(since + IDLE_SECONDS, self._expire)
                return
            self._discard(connection)
