"""Opens the lanes little by little, after a start and after our own network was down."""

from __future__ import annotations

from collections.abc import Callable

from webhookd.core.lanes import Lanes
from webhookd.core.ports import Clock

OPEN_WITHIN_SECONDS = 10.0
_STEP_SECONDS = 0.25


class LaneOpening:
    """Widens the lanes in steps, and calls `widened` at each; they are wide open until `begin`."""

    def __init__(self, clock: Clock, lanes: Lanes, widened: Callable[[], None]) -> None:
        self._clock = clock
        self._lanes = lanes
        self._widened = widened
        self._began_at: float | None = None

    def begin(self) -> None:
        """Narrow the lanes and open them within ten seconds; begins anew where that was under way."""
        is_stepping = self._began_at is not None
        self._began_at = self._clock.monotonic()
        self._lanes.open(0.0)
        if not is_stepping:
            self._clock.call_later(_STEP_SECONDS, self._step)

    def _step(self) -> None:
        if self._began_at is None:
            return
        share = min(1.0, (self._clock.monotonic() - self._began_at) / OPEN_WITHIN_SECONDS)
        self._lanes.open(share)
        if share < 1.0:
            self._clock.call_later(_STEP_SECONDS, self._step)
        else:
            self._began_at = None
        self._widened()
