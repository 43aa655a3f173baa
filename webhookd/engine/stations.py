"""The stations of all endpoints that have had work."""

from __future__ import annotations

from collections.abc import Iterator

from webhookd.core.ids import EndpointId
from webhookd.core.ports import Clock
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.engine.station import Station


class Stations:
    """Makes a station when an endpoint first has work; `gently` has their windows begin at one."""

    def __init__(self, clock: Clock, endpoints: LiveEndpoints, *, gently: bool) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._gently = gently
        self._by_id: dict[EndpointId, Station] = {}

    def __iter__(self) -> Iterator[Station]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def of(self, endpoint_id: EndpointId) -> Station | None:
        """Return the endpoint's station, None where there is no such endpoint."""
        station = self._by_id.get(endpoint_id)
        if station is not None and not station.is_closed:
            return station
        live = self._endpoints.get(endpoint_id)
        if live is None:
            return None
        if station is None:
            station = self._by_id[endpoint_id] = Station(live)
            if self._gently:
                station.window.open_gently()
        else:
            station.open(live)
            # What was noted of the predecessor's rows says nothing about the new ones.
            station.buffer.note_due(self._clock.now_ms())
        return station

    def close(self, endpoint_id: EndpointId) -> Station | None:
        """Close the station of a deleted endpoint, and return it if there is one."""
        station = self._by_id.get(endpoint_id)
        if station is not None:
            station.is_closed = True
        return station

    def drop_if_done(self, station: Station) -> None:
        """Drop a deleted endpoint's station, unless what it knows must not be sent for another endpoint of that id."""
        if station.is_closed and not station.buffer.known:
            self._by_id.pop(station.live.record.id, None)
