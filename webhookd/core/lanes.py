"""Two lanes of requests in flight, so that endpoints which hang cannot use up the room of those which answer."""

from __future__ import annotations

from enum import StrEnum

SLOW_AFTER_SECONDS = 1.0
"""A request this old is charged to the slow lane, and its endpoint counts as slow from then on."""

OPENS_AT = 16
"""What a lane that is being opened begins with."""

_QUICK_ANSWERS_TO_LEAVE = 2
_PAROLE_EVERY_SECONDS = 30.0
_PAROLES_PER_SECOND = 4


class Lane(StrEnum):
    """Where a request in flight is charged."""

    FAST = "fast"
    SLOW = "slow"


FAST, SLOW = Lane
"""As names of their own, since to find a member by its class takes several times as long."""


class Pace:
    """Whether one endpoint counts as slow, and what it takes to change that."""

    __slots__ = ("_has_failed", "_parole_at", "_quick_answers", "lane")

    def __init__(self) -> None:
        self.lane = FAST
        self._quick_answers = 0
        self._has_failed = False
        self._parole_at = 0.0

    def __repr__(self) -> str:
        return f"<Pace {self.lane}>"

    def hung(self) -> None:
        """Note that a request of the endpoint has reached `SLOW_AFTER_SECONDS`."""
        self.lane = SLOW
        self._quick_answers = 0

    def answered(self, seconds: float) -> None:
        """Note an answer; the second quick one in a row brings the endpoint back to the fast lane."""
        self._has_failed = False
        if seconds >= SLOW_AFTER_SECONDS:
            self.hung()
        elif self.lane is SLOW:
            self._quick_answers += 1
            if self._quick_answers >= _QUICK_ANSWERS_TO_LEAVE:
                self.lane = FAST

    def failed(self) -> None:
        """Note an attempt without an answer: until the next answer there is no parole."""
        self._quick_answers = 0
        self._has_failed = True

    def may_have_parole(self, now: float) -> bool:
        """Say whether the endpoint may try the fast lane: it answers, and its last try is long ago."""
        return not self._has_failed and now >= self._parole_at

    def paroled(self, now: float) -> None:
        """Note that the endpoint tries the fast lane."""
        self._parole_at = now + _PAROLE_EVERY_SECONDS


class Lanes:
    """Counts requests in flight: at most `total`, of which a quarter may be fast and three quarters slow.

    A request starts in its endpoint's lane and is re-charged from fast to slow when it gets old. Re-charging is never
    refused; it displaces slow admissions instead, so `total` holds. Lanes may be opened little by little: at first each
    takes 16 requests, or all it may if that is less.
    """

    __slots__ = ("_opened", "_parole_budget", "_parole_second", "busy", "in_flight", "most", "total")

    def __init__(self, total: int) -> None:
        self.busy = {FAST: 0, SLOW: 0}
        self.in_flight = 0
        """Requests in flight in both lanes."""
        self._opened = 1.0
        self.resize(total)
        self._parole_second = 0
        self._parole_budget = 0

    def __repr__(self) -> str:
        return f"<Lanes fast={self.busy[FAST]} slow={self.busy[SLOW]} total={self.total}>"

    def resize(self, total: int) -> None:
        """Change the bounds; requests already in flight are not affected. `total` is at least 2."""
        self.total = total
        self.open(self._opened)

    def open(self, share: float) -> None:
        """Give the lanes this share of what they gain over their first 16 requests, 0 to 1."""
        self._opened = share
        fast = max(1, self.total // 4)
        self.most = {
            lane: size if size <= OPENS_AT else OPENS_AT + int((size - OPENS_AT) * share)
            for lane, size in ((FAST, fast), (SLOW, max(1, self.total - fast)))
        }

    def has_room(self, lane: Lane) -> bool:
        """Say whether a request may start in `lane`."""
        return self.busy[lane] < self.most[lane] and self.in_flight < self.total

    def enter(self, lane: Lane) -> None:
        """Charge a request to `lane`."""
        self.busy[lane] += 1
        self.in_flight += 1

    def recharge(self) -> None:
        """Move one request from the fast to the slow lane."""
        self.busy[FAST] -= 1
        self.busy[SLOW] += 1

    def leave(self, lane: Lane) -> None:
        """Discharge a request from the lane it is charged to now."""
        self.busy[lane] -= 1
        self.in_flight -= 1

    def grants_parole(self, now: float) -> bool:
        """Say whether a slow endpoint may try the fast lane now; asking uses up one of the few chances a second."""
        if self.busy[SLOW] >= self.most[SLOW] or not self.has_room(FAST):
            return False
        if int(now) != self._parole_second:
            self._parole_second = int(now)
            self._parole_budget = _PAROLES_PER_SECOND
        if self._parole_budget == 0:
            return False
        self._parole_budget -= 1
        return True
