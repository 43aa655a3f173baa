"""Watches requests in the fast lane until they are answered, or old enough to be charged to the slow one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from webhookd.core.lanes import SLOW_AFTER_SECONDS, Lane, Lanes
from webhookd.core.ports import Clock
from webhookd.engine.alarms import ROUNDING_SECONDS
from webhookd.engine.station import Flight


class YoungFlights:
    """Moves a request that has hung for a second to the slow lane; `recharged` is called when there is room again."""

    def __init__(self, clock: Clock, lanes: Lanes, recharged: Callable[[], None]) -> None:
        self._clock = clock
        self._lanes = lanes
        self._recharged = recharged
        self._flights: OrderedDict[Flight, None] = OrderedDict()
        self._is_watching = False

    def watch(self, flight: Flight) -> None:
        """Watch a request that has just been started in the fast lane."""
        self._flights[flight] = None
        if not self._is_watching:
            self._is_watching = True
            self._clock.call_later(SLOW_AFTER_SECONDS, self._look)

    def landed(self, flight: Flight) -> None:
        """Let go of a request that has been answered, and of its payload, whichever lane it is in."""
        self._flights.pop(flight, None)

    def _look(self) -> None:
        now = self._clock.monotonic()
        while self._flights:
            flight = next(iter(self._flights))
            if flight.started + SLOW_AFTER_SECONDS > now:
                wait_seconds = flight.started + SLOW_AFTER_SECONDS - now + ROUNDING_SECONDS
                self._clock.call_later(wait_seconds, self._look)
                break
            del self._flights[flight]
            flight.lane = Lane.SLOW
            flight.station.pace.hung()
            self._lanes.recharge()
        self._is_watching = bool(self._flights)
        self._recharged()
