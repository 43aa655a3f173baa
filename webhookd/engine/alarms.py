"""One timer for all stations that wait for a moment to come."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from webhookd.core.ports import Cancellable, Clock
from webhookd.engine.station import Station

ROUNDING_SECONDS = 1e-6
"""Added to every wait: a timer that fires a rounding error early would be set again and again without time passing."""

_FEWEST_TO_SWEEP = 1024


class Alarms:
    """Calls back for each station at the moment it asked for; sleeps in between.

    A station has at most one alarm that counts, the earliest it asked for. Entries that no longer count mean nothing
    when their moment comes, and are swept off the heap before that whenever they may have become the most of it.
    """

    def __init__(self, clock: Clock, callback: Callable[[Station], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._heap: list[tuple[float, int, Station]] = []
        self._tie = count()
        self._sweep_at = _FEWEST_TO_SWEEP
        self._timer: Cancellable | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        return f"<Alarms {len(self._heap)}>"

    def set(self, station: Station, at: float) -> None:
        """Call back at `at` (monotonic seconds), unless the station has an earlier alarm already."""
        if station.wake_at is not None and station.wake_at <= at:
            return
        station.wake_at = at
        heapq.heappush(self._heap, (at, next(self._tie), station))
        if len(self._heap) >= self._sweep_at:
            # A station that is woken often for something near would else leave an entry for the day after each time.
            self._heap = list({entry[2]: entry for entry in self._heap if entry[2].wake_at == entry[0]}.values())
            heapq.heapify(self._heap)
            self._sweep_at = max(_FEWEST_TO_SWEEP, 2 * len(self._heap))
        self._arm()

    def clear(self) -> None:
        """Forget every alarm."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= first:
                return
            self._timer.cancel()
        self._timer_at = first
        self._timer = self._clock.call_later(max(0.0, first - self._clock.monotonic()) + ROUNDING_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, _, station = heapq.heappop(self._heap)
            if station.wake_at == at:
                station.wake_at = None
                self._callback(station)
        self._arm()
