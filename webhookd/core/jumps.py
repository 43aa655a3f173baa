"""Remembers where the wall clock jumped ahead, so that nothing grows old by it."""

from __future__ import annotations

from collections import deque

_FROM_MS = 60_000
_MOST = 32


class ForwardJumps:
    """The times that the wall clock left out within this run, of at least a minute each, the last 32 of them.

    Smaller corrections add up to nothing against ages counted in days. Where the clock goes back, what it will now come
    to is no longer left out.
    """

    __slots__ = ("_offset_ms", "skipped")

    def __init__(self) -> None:
        self._offset_ms: float | None = None
        self.skipped: deque[tuple[int, int]] = deque(maxlen=_MOST)
        """From which moment to which, UTC milliseconds."""

    def read(self, wall_ms: int, monotonic_seconds: float) -> None:
        """Take one reading of both clocks."""
        offset_ms = wall_ms - 1000 * monotonic_seconds
        jump_ms = 0.0 if self._offset_ms is None else offset_ms - self._offset_ms
        if jump_ms >= _FROM_MS:
            self.skipped.append((wall_ms - int(jump_ms), wall_ms))
        elif jump_ms <= -_FROM_MS:
            before = [(start, min(end, wall_ms)) for start, end in self.skipped if start < wall_ms]
            self.skipped.clear()
            self.skipped.extend(before)
        self._offset_ms = offset_ms
