"""The configured rate of one endpoint, as a moment before which nothing may start."""

from __future__ import annotations

import math


class RateLimit:
    """Spaces starts evenly, letting up to one second's worth (at least one) go at once after a pause.

    The generic cell rate algorithm: one number of state. Times are monotonic seconds.
    """

    __slots__ = ("_interval", "_paid_until", "_tolerance")

    def __init__(self, per_second: float | None) -> None:
        self._interval = 0.0
        self._paid_until = -math.inf
        self.change(per_second)

    def change(self, per_second: float | None) -> None:
        """Apply another rate; None is no limit. What is still to be waited is for the new rate to say."""
        interval = 1 / per_second if per_second else 0.0
        self._paid_until += interval - self._interval
        self._interval = interval
        self._tolerance = max(0.0, 1.0 - self._interval)

    def next_start(self) -> float:
        """Return the earliest moment at which another attempt may start; 0 where there was none to wait for."""
        return max(0.0, self._paid_until - self._tolerance)

    def started(self, now: float) -> None:
        """Note that an attempt started at `now`."""
        if self._interval:
            self._paid_until = max(self._paid_until, now) + self._interval
