"""Spreading after a start: retries that are long overdue do not all go at once."""

from __future__ import annotations

from webhookd.core.attempt import Trigger
from webhookd.core.delivery import Work

OVERDUE_SECONDS = 60.0
"""A retry overdue for longer than this at the start fell due while nobody was there to make it."""

WITHIN_SECONDS = 30.0

_GOLDEN = 0x9E3779B97F4A7C15
_WHOLE = 1 << 64


class RestartSpread:
    """Says when overdue retries go, evenly over the first thirty seconds after a start.

    First attempts are not concerned, nor what an operator asked for. The moment of each follows from its id and one
    random number, so that a delivery read twice keeps it and nothing need be remembered. `draw` is random in [0, 1).
    """

    __slots__ = ("_salt", "_started_ms")

    def __init__(self, *, started_ms: int, draw: float) -> None:
        self._started_ms = started_ms
        self._salt = int(draw * _WHOLE)

    def is_over(self, now_ms: int) -> bool:
        """Say whether nothing is put off any more; so too when the clock has gone back to before the start."""
        return not 0 <= now_ms - self._started_ms < WITHIN_SECONDS * 1000

    def put_off_until_ms(self, work: Work) -> int | None:
        """Return until when (UTC ms) the work waits, None for what need not."""
        overdue_ms = self._started_ms - work.due_at_ms
        if work.attempt_count == 0 or work.trigger is Trigger.MANUAL or overdue_ms <= OVERDUE_SECONDS * 1000:
            return None
        # Multiples of the golden ratio lie evenly, whichever of the ids there are.
        share = (self._salt + work.id * _GOLDEN) % _WHOLE / _WHOLE
        return self._started_ms + int(share * WITHIN_SECONDS * 1000)
