"""Whether it is our own network that is down: told by many endpoints failing in the same way while none answers."""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum, auto
from urllib.parse import urlsplit

from webhookd.core.attempt import ErrorClass, Outcome
from webhookd.core.ids import EndpointId

FEWEST_ENDPOINTS = 20
"""With fewer than this, a network that is down cannot be told from receivers that are."""

WITHIN_SECONDS = 10.0
QUIET_SECONDS = 2.0
"""For so long nobody must have answered: one event often goes to many, of whom some answer before others fail."""

PROBE_FIRST_SECONDS = 5.0
PROBE_MOST_SECONDS = 60.0


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

    It is down when, within ten seconds and since the last sign of life, at least twenty endpoints have been tried and
    for at least half of them there was no way out; not before that sign is two seconds old. As long as some answer,
    nothing is paused: those that cannot be reached do not spend retries anyway. While it is down single probes go out,
    the first after 5 s, then twice as late each time up to 60 s, until one finds life. Times are monotonic seconds.
    """

    __slots__ = ("_ended_at", "_is_probing", "_lately", "_life_at", "_no_way", "_pause_seconds", "began_at", "probe_at")

    def __init__(self) -> None:
        self._lately: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        """Who has been tried since the last sign of life, when, and whether there was no way; oldest first."""
        self._life_at = -math.inf
        self._no_way = 0
        self._pause_seconds = 0.0
        self._is_probing = False
        self._ended_at: float | None = None
        self.began_at: float | None = None
        """Since when the network has been down; None while it is not."""
        self.probe_at = 0.0
        """When the next probe may go, while the network is down."""

    def __repr__(self) -> str:
        return f"<Outage since {self.began_at}, {self._no_way} of {len(self._lately)} without a way>"

    @property
    def endpoints_tried(self) -> int:
        """How many endpoints have been tried since the last sign of life, within the last ten seconds."""
        return len(self._lately)

    def allows(self, now: float) -> bool:
        """Say whether an attempt may start."""
        return self.began_at is None or (not self._is_probing and now >= self.probe_at)

    def started(self) -> bool:
        """Note that an attempt starts; return True if it is a probe."""
        self._is_probing = self.began_at is not None
        return self._is_probing

    def landed(
        self, endpoint_id: EndpointId, url: str, outcome: Outcome, *, now: float, started: float, probe: bool
    ) -> bool:
        """Note an outcome; return True where the attempt is not to be held against endpoint or delivery.

        That is so for whatever was under way while the network was down and came to nothing.
        """
        sign = sign_of(outcome)
        if sign is Sign.LIFE:
            self._life_at = now
            if self._lately:
                self._lately.clear()
                self._no_way = 0
            if self.began_at is not None:
                self.began_at, self._ended_at = None, now
                self._is_probing = False
            return False
        if self.began_at is not None and probe:
            self._is_probing = False
            self._pause_seconds = min(PROBE_MOST_SECONDS, 2 * self._pause_seconds)
            self.probe_at = now + self._pause_seconds
        if outcome.error is None or outcome.error.kind in (ErrorClass.BLOCKED, ErrorClass.INTERNAL):
            return False
        if self.began_at is None:
            self._note(_name(endpoint_id, url, outcome, sign), now, is_no_way=sign is Sign.NO_WAY)
        return self.began_at is not None or (self._ended_at is not None and started <= self._ended_at)

    def _note(self, name: str, now: float, *, is_no_way: bool) -> None:
        before = self._lately.pop(name, None)
        if before is not None:
            self._no_way -= before[1]
        self._lately[name] = (now, is_no_way)
        self._no_way += is_no_way
        while (first := next(iter(self._lately.items())))[1][0] < now - WITHIN_SECONDS:
            del self._lately[first[0]]
            self._no_way -= first[1][1]
        if not is_no_way or now < self._life_at + QUIET_SECONDS:
            return
        if len(self._lately) >= FEWEST_ENDPOINTS and 2 * self._no_way >= len(self._lately):
            self.began_at = now
            self._pause_seconds = PROBE_FIRST_SECONDS
            self.probe_at = now + self._pause_seconds
            self._is_probing = False


def _name(endpoint_id: EndpointId, url: str, outcome: Outcome, sign: Sign) -> str:
    """Return by what an attempt is counted.

    Where the fault may be at one host as well as here, hosts are counted, or twenty endpoints at a host that is down
    would look like twenty witnesses.
    """
    if sign is Sign.NO_WAY and outcome.error is not None and outcome.error.kind is not ErrorClass.LOCAL:
        return f"//{urlsplit(url).hostname}"
    return endpoint_id
