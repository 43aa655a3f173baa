"""The attempts in the air: brings them down together, drops them all, and charges those that hang to the slow lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from webhookd.core.attempt import Outcome
from webhookd.core.lanes import FAST, SLOW, SLOW_AFTER_SECONDS, Lanes
from webhookd.core.ports import Cancellable, Clock
from webhookd.engine.alarms import ROUNDING_SECONDS
from webhookd.engine.station import Flight


class Flights:
    """Keeps every attempt from its start to its end, in order of their starts.

    Those that end within one turn of the loop are handed to `landed` together, in the next. One that has hung in the
    fast lane for a second is moved to the slow one; `recharged` is called when there may be room again.
    """

    def __init__(
        self,
        clock: Clock,
        lanes: Lanes,
        *,
        recharged: Callable[[], None],
        landed: Callable[[list[tuple[Flight, Outcome | Exception]]], None],
    ) -> None:
        self._clock = clock
        self._lanes = lanes
        self._recharged = recharged
        self._landed = landed
        self._ended: list[tuple[Flight, Outcome | Exception]] = []
        self._requests: dict[Flight, Cancellable] = {}
        self._is_watching = False
        self._dropped = 0
        self._empty = asyncio.Event()

    def began(self, flight: Flight, request: Cancellable) -> None:
        """Note an attempt that has just been started, and the request it makes."""
        self._requests[flight] = request
        if not self._is_watching and flight.lane is FAST:
            self._is_watching = True
            self._clock.call_later(SLOW_AFTER_SECONDS, self._look)

    def ended(self, flight: Flight, result: Outcome | Exception) -> None:
        """Note what came of an attempt."""
        del self._requests[flight]
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._land)
        self._ended.append((flight, result))

    def drop(self) -> None:
        """Cancel every request that has not ended; their attempts do not land."""
        for request in self._requests.values():
            request.cancel()
        self._dropped += len(self._requests)
        self._requests.clear()
        self._empty.set()

    async def all_landed(self) -> int:
        """Return once there is none left, with how many were dropped."""
        while self._requests or self._ended:
            self._empty.clear()
            await self._empty.wait()
        return self._dropped

    def _land(self) -> None:
        ended, self._ended = self._ended, []
        self._landed(ended)
        if not self._requests:
            self._empty.set()

    def _look(self) -> None:
        now = self._clock.monotonic()
        self._is_watching = False
        for flight in list(self._requests):
            if flight.lane is SLOW:
                continue
            if flight.started + SLOW_AFTER_SECONDS > now:
                self._is_watching = True
                self._clock.call_later(flight.started + SLOW_AFTER_SECONDS - now + ROUNDING_SECONDS, self._look)
                break
            flight.lane = SLOW
            flight.station.pace.hung()
            self._lanes.recharge()
        self._recharged()
