"""Pauses sending while our own network is down, probes it, and says when that begins and ends."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from itertools import count

from webhookd.core.attempt import Outcome
from webhookd.core.lanes import Lane, Lanes
from webhookd.core.outage import PROBE_ALONE_SECONDS, Outage, Sign, sign_of
from webhookd.core.ports import Cancellable, Clock
from webhookd.engine.alarms import ROUNDING_SECONDS
from webhookd.engine.station import Flight, Station

log = logging.getLogger(__name__)

LONG_SECONDS = 60.0
"""A longer pause is followed by a gentle beginning whoever ended it."""


class NetworkWatch:
    """Keeps one Outage with the clock, and takes from the rings of stations whose turn it is.

    `wake` is called whenever a probe may go, `ended` when sending goes on after the network was really down: for
    over a minute, or until somebody answered who had been found out of reach.
    """

    def __init__(
        self,
        clock: Clock,
        wake: Callable[[], None],
        *,
        rings: Mapping[Lane, deque[Station]],
        lanes: Lanes,
        ended: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._wake = wake
        self._rings = rings
        self._lanes = lanes
        self._ended = ended
        self._outage = Outage()
        self._numbers = count()
        self._hopeful: dict[Lane, list[tuple[int, int, Station]]] = {lane: [] for lane in rings}
        """While it is down, who in the rings has not been found out of reach, as heaps: who answered last comes first.

        Whoever has left its ring since, or been found so, is still in here.
        """
        self._probes: Counter[Station] = Counter()
        self._next_probe: Cancellable | None = None
        self.down_since_ms: int | None = None
        """Since when nothing but probes is sent, UTC milliseconds; None while all is."""

    def __repr__(self) -> str:
        return f"<NetworkWatch {self._outage!r}>"

    def line_up(self, station: Station, lane: Lane) -> None:
        """Put the station at the end of the lane's ring."""
        station.ring = lane
        self._rings[lane].append(station)
        if self.down_since_ms is not None:
            self._hope(station, lane)

    def next_of(self, lane: Lane, now: float) -> Station | None:
        """Take from the lane's ring, which is not empty, whose turn it is; None if nothing may be sent from it.

        While our own network is down, a station that has not been found out of reach itself goes as soon as no probe is
        out, so that nobody waits for long where it is only the others who cannot be reached. Of those that have been,
        of both rings, one goes when a probe is due: one that has had the fewest, and of these who answered last.
        """
        ring = self._rings[lane]
        if self.down_since_ms is None:
            station = ring.popleft()
        elif (chosen := self._probed(lane, now)) is not None:
            ring.remove(station := chosen)
        else:
            return None
        station.ring = None
        return station

    def started(self, station: Station, now: float) -> bool:
        """Note that an attempt starts; return True if it is a probe."""
        if self._outage.began_at is None or not self._outage.started(now):
            return False
        self._probes[station] += station.is_cut_off
        if self._next_probe is not None:
            self._next_probe.cancel()
        self._next_probe = self._clock.call_later(PROBE_ALONE_SECONDS + ROUNDING_SECONDS, self._wake)
        return True

    def _probed(self, lane: Lane, now: float) -> Station | None:
        if not self._outage.allows(now, is_cut_off=False):
            return None
        hopeful = self._hopeful[lane]
        while hopeful:
            station = hopeful[0][2]
            if station.ring is lane and not station.is_cut_off:
                return station
            heappop(hopeful)
        if not self._outage.allows(now):
            return None
        waiting = (station for lane, ring in self._rings.items() if self._lanes.has_room(lane) for station in ring)
        station = min(waiting, key=lambda station: (self._probes[station], -_answered_ms(station)))
        return station if station.ring is lane else None

    def _hope(self, station: Station, lane: Lane) -> None:
        if not station.is_cut_off:
            heappush(self._hopeful[lane], (-_answered_ms(station), next(self._numbers), station))

    def _forget(self) -> None:
        self._probes.clear()
        for hopeful in self._hopeful.values():
            hopeful.clear()

    def landed(self, flight: Flight, outcome: Outcome, now: float) -> bool:
        """Note an outcome; return True where it is not to be held against endpoint or delivery."""
        outage = self._outage
        if outcome.error is None and outage.began_at is None:
            outage.answered(now)
            flight.station.is_cut_off = False
            return False
        began_at, probe_at = outage.began_at, outage.probe_at
        excused = outage.landed(flight.definition.url, outcome, now=now, started=flight.started, probe=flight.is_probe)
        was_cut_off = flight.station.is_cut_off
        flight.station.is_cut_off = outcome.error is not None and (excused or sign_of(outcome) is Sign.NO_WAY)
        if began_at is None and outage.began_at is not None:
            self.down_since_ms = self._clock.now_ms()
            fields: dict[str, object] = {"hosts_tried": outage.hosts_tried}
            if outcome.error is not None:
                fields["detail"] = outcome.error.text
            log.error("network.down", extra={"fields": fields})
            for lane, ring in self._rings.items():
                for station in ring:
                    self._hope(station, lane)
        elif began_at is not None and outage.began_at is None:
            self.down_since_ms = None
            self._forget()
            if was_cut_off or now - began_at > LONG_SECONDS:
                self._ended()
            log.warning("network.up", extra={"fields": {"down_seconds": round(now - began_at, 3)}})
        if outage.began_at is not None and (outage.probe_at != probe_at or began_at is None):
            self._clock.call_later(outage.probe_at - now + ROUNDING_SECONDS, self._wake)
        return excused


def _answered_ms(station: Station) -> int:
    return station.live.health.last_success_at_ms or 0
