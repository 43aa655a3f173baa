"""The engine's readings: for status, readiness, metrics and the watchdog."""

from __future__ import annotations

from collections.abc import Sequence

from webhookd.core.endpoint import EndpointStatus
from webhookd.core.lanes import Lane
from webhookd.core.ports import Clock, Counts, Space, Store
from webhookd.core.services import EndpointView, EngineStatus
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoint, LiveEndpoints
from webhookd.engine.intake import Intake
from webhookd.engine.recorder import Recorder
from webhookd.engine.upkeep import Heartbeat
from webhookd.metrics import Readings

STUCK_AFTER_SECONDS = 15.0
"""A read or a commit under way for longer than this means that the engine no longer gets on."""

_MOST_ATTENTION = 100


class EngineMonitor:
    """Fills the Monitor port."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        endpoints: LiveEndpoints,
        dispatcher: Dispatcher,
        recorder: Recorder,
        intake: Intake,
        heartbeat: Heartbeat,
    ) -> None:
        self._clock = clock
        self._store = store
        self._endpoints = endpoints
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._intake = intake
        self._heartbeat = heartbeat

    def status(self) -> EngineStatus:
        """See Monitor."""
        enabled = sum(1 for endpoint in self._endpoints if endpoint.is_enabled)
        stations = [station for station in self._dispatcher.stations if station.is_active]
        dues = [due for station in stations if (due := station.buffer.earliest_due_ms()) is not None]
        lanes = self._dispatcher.lanes
        now = self._clock.monotonic()
        return EngineStatus(
            in_flight_fast=lanes.busy[Lane.FAST],
            in_flight_slow=lanes.busy[Lane.SLOW],
            oldest_due_ms=min(dues, default=None),
            resting=sum(1 for station in stations if (station.window.resting_until or 0.0) > now),
            endpoints_enabled=enabled,
            endpoints_disabled=len(self._endpoints) - enabled,
            draining=not self._dispatcher.is_running,
            refusing=self.refusing(),
            stuck=self.stuck(),
            network_down_since_ms=self._dispatcher.network.down_since_ms,
        )

    def refusing(self) -> str | None:
        """Say why events are refused at present, None when they are taken."""
        return self._intake.refusal or self._recorder.trouble or self._store.refusal

    def stuck(self) -> str | None:
        """Say what has not got on for too long, None when all is well; costs nothing, for the watchdog.

        Time in which the whole process was frozen does not count; a loop that stands still is told by beats that lack.
        """
        now = self._clock.monotonic()
        for since, what in (
            (self._heartbeat.asked_at, "writing to the database"),
            (self._recorder.commit_started, "recording outcomes"),
            (self._dispatcher.reading_since, "reading deliveries that are due"),
        ):
            waited = 0.0 if since is None else now - max(since, self._heartbeat.awake_since)
            if waited > STUCK_AFTER_SECONDS:
                return f"{what} has not got on for {waited:.0f} s"
        return None

    async def counts(self) -> Counts:
        """See Monitor."""
        return await self._store.counts()

    async def space(self) -> Space:
        """See Monitor."""
        return await self._store.space()

    async def readings(self) -> Readings:
        """Take the readings that metrics are rendered with."""
        status, counts, space = self.status(), await self.counts(), await self.space()
        return Readings(
            pending=counts.pending,
            held=counts.held,
            oldest_due_timestamp_seconds=None if status.oldest_due_ms is None else status.oldest_due_ms / 1000,
            in_flight={"fast": status.in_flight_fast, "slow": status.in_flight_slow},
            endpoints={"enabled": status.endpoints_enabled, "disabled": status.endpoints_disabled},
            consecutive_failures={
                endpoint.record.id: endpoint.health.failed_attempts
                for endpoint in self._endpoints
                if endpoint.health.failed_attempts
            },
            store_bytes=space.used_bytes,
            wal_bytes=space.wal_bytes,
            network_down=status.network_down_since_ms is not None,
        )

    def attention(self) -> Sequence[EndpointView]:
        """See Monitor."""
        troubled = [
            endpoint
            for endpoint in self._endpoints
            if endpoint.health.status is EndpointStatus.DISABLED or endpoint.health.failed_attempts
        ]
        troubled.sort(key=_urgency)
        return [
            EndpointView(record=endpoint.current_record(), definition=endpoint.definition, pending=0, last_attempt=None)
            for endpoint in troubled[:_MOST_ATTENTION]
        ]


def _urgency(endpoint: LiveEndpoint) -> tuple[bool, int, int]:
    health = endpoint.health
    return (health.status is not EndpointStatus.DISABLED, -health.failing_days, -health.failed_attempts)
