"""Ends what has not ended by its deadline, with one timer for all that have equally long."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

ROUNDING_SECONDS = 0.001
"""Timers of uvloop go by whole milliseconds; one that fires so much too early is taken for punctual."""


class Limited(Protocol):
    """What has a deadline."""

    def out_of_time(self) -> None:
        """Come to an end, unless that has happened."""


class TimeLimits:
    """Keeps deadlines; belongs to one loop.

    Those who have equally long stand in line in the order in which they began, which is also that of their ends. So one
    timer for each line does, and to enter and to leave costs no more than an entry in a dict. A line without anybody in
    it is gone when its timer fires.
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[float, dict[Limited, float]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def enter(self, limited: Limited, seconds: float, began: float) -> None:
        """End it `seconds` after `began`, a moment of `time.monotonic` not before that of anybody in the same line."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = {}
            self._wait(seconds, began)
        line[limited] = began

    def leave(self, limited: Limited, seconds: float) -> None:
        """Forget it; harmless where it has been ended."""
        line = self._lines.get(seconds)
        if line is not None:
            line.pop(limited, None)

    def _wait(self, seconds: float, began: float) -> None:
        asyncio.get_running_loop().call_at(began + seconds, self._end_first, seconds)

    def _end_first(self, seconds: float) -> None:
        line = self._lines[seconds]
        latest = monotonic() - seconds + ROUNDING_SECONDS
        over = []
        for limited, began in line.items():
            if began > latest:
                self._wait(seconds, began)
                break
            over.append(limited)
        else:
            del self._lines[seconds]
        for limited in over:
            line.pop(limited)
            # One that fails must not keep the others from their end.
            asyncio.get_running_loop().call_soon(limited.out_of_time)
