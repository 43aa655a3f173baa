"""The configured rate of one endpoint, as a moment before which nothing may start."""

from __future__ import annotations

import math

_CATCH_UP_SECONDS = 0.05


class RateLimit:
    """Spaces starts evenly, so that no second holds more of them than the rate, not even the first after a pause.

    One number of state. Times are monotonic seconds. A start that comes up to 50 ms late, as timers do, is made up for
    by the ones after it, or a high rate would never be reached.
    """

    __slots__ = ("_interval", "next_start")

    def __init__(self, per_second: float | None) -> None:
        self._interval = 0.0
        self.next_start = -math.inf
        """The earliest moment at which another attempt may start; in the past where there is none to wait for."""
        self.change(per_second)

    def change(self, per_second: float | None) -> None:
        """Apply another rate; None is no limit. What is still to be waited is for the new rate to say."""
        interval = 1 / per_second if per_second else 0.0
        self.next_start += interval - self._interval
        self._interval = interval

    def started(self, now: float) -> None:
        """Note that an attempt started at `now`."""
        if self._interval:
            is_on_time = now - self.next_start <= _CATCH_UP_SECONDS
            self.next_start = (self.next_start if is_on_time else now) + self._interval
