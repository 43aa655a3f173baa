"""Pauses sending while our own network is down, probes it, and says when that begins and ends."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from webhookd.core.attempt import Outcome
from webhookd.core.outage import Outage, Sign, sign_of
from webhookd.core.ports import Clock
from webhookd.engine.alarms import ROUNDING_SECONDS
from webhookd.engine.station import Flight, Station

log = logging.getLogger(__name__)


class NetworkWatch:
    """Keeps one Outage with the clock; `wake` is called whenever a probe may go, `ended` when sending may go on."""

    def __init__(self, clock: Clock, wake: Callable[[], None], *, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._ended = ended
        self._outage = Outage()
        self.down_since_ms: int | None = None
        """Since when nothing but probes is sent, UTC milliseconds; None while all is."""

    def __repr__(self) -> str:
        return f"<NetworkWatch {self._outage!r}>"

    def allows(self, now: float) -> bool:
        """Say whether an attempt may start at this moment, as far as our own network is concerned."""
        return self._outage.allows(now)

    def next_of(self, ring: deque[Station]) -> Station:
        """Take from `ring` whose turn it is; a probe rather goes to one that has not been found out of reach itself."""
        if self.down_since_ms is not None:
            for station in ring:
                if not station.is_cut_off:
                    ring.remove(station)
                    return station
        return ring.popleft()

    def started(self) -> bool:
        """Note that an attempt starts; return True if it is a probe."""
        return self._outage.started()

    def landed(self, flight: Flight, outcome: Outcome) -> bool:
        """Note an outcome; return True where it is not to be held against endpoint or delivery."""
        outage, now = self._outage, self._clock.monotonic()
        began_at, probe_at = outage.began_at, outage.probe_at
        excused = outage.landed(
            flight.work.endpoint_id,
            flight.definition.url,
            outcome,
            now=now,
            started=flight.started,
            probe=flight.is_probe,
        )
        flight.station.is_cut_off = outcome.error is not None and (excused or sign_of(outcome) is Sign.NO_WAY)
        if began_at is None and outage.began_at is not None:
            self.down_since_ms = self._clock.now_ms()
            fields: dict[str, object] = {"endpoints_tried": outage.endpoints_tried}
            if outcome.error is not None:
                fields["detail"] = outcome.error.text
            log.error("network.down", extra={"fields": fields})
        elif began_at is not None and outage.began_at is None:
            self.down_since_ms = None
            self._ended()
            log.warning("network.up", extra={"fields": {"down_seconds": round(now - began_at, 3)}})
        if outage.began_at is not None and (outage.probe_at != probe_at or began_at is None):
            self._clock.call_later(outage.probe_at - now + ROUNDING_SECONDS, self._wake)
        return excused
