"""Whether it is our own network that is down: told by many hosts failing in the same way while none answers."""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum, auto
from urllib.parse import urlsplit

from webhookd.core.attempt import ErrorClass, Outcome

FEWEST_HOSTS = 20
"""With fewer than this, a network that is down cannot be told from receivers that are."""

WITHIN_SECONDS = 10.0
QUIET_SECONDS = 2.0
"""For so long nobody must have answered: one event often goes to many, of whom some answer before others fail."""

PROBE_FIRST_SECONDS = 5.0
PROBE_MOST_SECONDS = 60.0

PROBE_ALONE_SECONDS = 5.0
"""For so long a probe without an answer keeps the next one waiting."""


class Sign(Enum):
    """What an outcome says about our own network."""

    LIFE = auto()
    """Somebody out there spoke."""
    NO_WAY = auto()
    """No way out was found, or nobody to ask for one."""
    UNCLEAR = auto()
    """It may have been the receiver, or nothing left this machine."""


def sign_of(outcome: Outcome) -> Sign:
    """Return what the outcome says about our own network."""
    error = outcome.error
    if error is None:
        return Sign.LIFE
    if error.kind is ErrorClass.LOCAL if error.no_way is None else error.no_way:
        return Sign.NO_WAY
    # A connection that is refused may have got no further than this machine.
    return Sign.LIFE if error.kind in (ErrorClass.TLS, ErrorClass.PROTOCOL) else Sign.UNCLEAR


class Outage:
    """Decides when nothing is to be sent because our own network is down, and when to try again.

    It is down when, within ten seconds and since the last sign of life, at least twenty hosts have been tried and for
    at least half of them there was no way out; not before that sign is two seconds old. Hosts are counted and not
    endpoints: twenty of these at one host that cannot be reached from here would look like twenty witnesses. As long as
    some answer, nothing is paused: those that cannot be reached do not spend retries anyway. While it is down single
    probes go out until one finds life, the first after 5 s, then twice as late each time up to 60 s; who has not been
    found out of reach need not wait for that, but only for the probe that is out. Times are monotonic seconds.
    """

    __slots__ = (
        "_ended_at",
        "_lately",
        "_life_at",
        "_no_way",
        "_pause_seconds",
        "_probing_since",
        "began_at",
        "probe_at",
    )

    def __init__(self) -> None:
        self._lately: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        """Which hosts have been tried since the last sign of life, when, and whether there was no way; oldest first."""
        self._life_at = -math.inf
        self._no_way = 0
        self._pause_seconds = 0.0
        self._probing_since: float | None = None
        self._ended_at: float | None = None
        self.began_at: float | None = None
        """Since when the network has been down; None while it is not."""
        self.probe_at = 0.0
        """When the next probe may go, while the network is down."""

    def __repr__(self) -> str:
        return f"<Outage since {self.began_at}, {self._no_way} of {len(self._lately)} without a way>"

    @property
    def hosts_tried(self) -> int:
        """How many hosts have been tried since the last sign of life, within the last ten seconds."""
        return len(self._lately)

    def allows(self, now: float, *, is_cut_off: bool = True) -> bool:
        """Say whether an attempt may start at somebody who has been found out of reach, or who has not."""
        if self.began_at is None:
            return True
        if self._probing_since is not None and now < self._probing_since + PROBE_ALONE_SECONDS:
            return False
        return now >= self.probe_at or not is_cut_off

    def started(self, now: float) -> bool:
        """Note that an attempt starts; return True if it is a probe."""
        if self.began_at is None:
            return False
        self._probing_since = now
        return True

    def landed(self, url: str, outcome: Outcome, *, now: float, started: float, probe: bool) -> bool:
        """Note an outcome; return True where the attempt is not to be held against endpoint or delivery.

        That is so for whatever was under way while the network was down and came to nothing.
        """
        sign = sign_of(outcome)
        if sign is Sign.LIFE:
            self.answered(now)
            return False
        if self.began_at is not None and probe and started >= self.began_at:
            self._probing_since = None
            # What went out before its time, to somebody not found out of reach, puts off nobody else.
            if started >= self.probe_at:
                self._pause_seconds = min(PROBE_MOST_SECONDS, 2 * self._pause_seconds)
                self.probe_at = now + self._pause_seconds
        if outcome.error is None or outcome.error.kind in (ErrorClass.BLOCKED, ErrorClass.INTERNAL):
            return False
        if self.began_at is None:
            self._note(urlsplit(url).hostname or url, now, is_no_way=sign is Sign.NO_WAY)
        return self.began_at is not None or (self._ended_at is not None and started <= self._ended_at)

    def answered(self, now: float) -> None:
        """Note that somebody out there spoke: the most that ever happens, and nearly always nothing to do for."""
        self._life_at = now
        if self._lately:
            self._lately.clear()
            self._no_way = 0
        if self.began_at is not None:
            self.began_at, self._ended_at = None, now
            self._probing_since = None

    def _note(self, host: str, now: float, *, is_no_way: bool) -> None:
        before = self._lately.pop(host, None)
        if before is not None:
            self._no_way -= before[1]
        self._lately[host] = (now, is_no_way)
        self._no_way += is_no_way
        while (first := next(iter(self._lately.items())))[1][0] < now - WITHIN_SECONDS:
            del self._lately[first[0]]
            self._no_way -= first[1][1]
        if not is_no_way or now < self._life_at + QUIET_SECONDS:
            return
        if len(self._lately) >= FEWEST_HOSTS and 2 * self._no_way >= len(self._lately):
            self.began_at = now
            self._pause_seconds = PROBE_FIRST_SECONDS
            self.probe_at = now + self._pause_seconds
            self._probing_since = None
