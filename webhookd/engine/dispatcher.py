"""Decides what is sent next: wakes endpoints when they are due and starts attempts within lanes, windows and rates."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from webhookd.core.attempt import AttemptError, ErrorClass, Outcome
from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.lanes import Lane, Lanes
from webhookd.core.ports import Clock, Head, Outbox, Sender
from webhookd.core.spread import RestartSpread
from webhookd.engine.alarms import Alarms
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.engine.errands import Errands
from webhookd.engine.forward import BringingForward
from webhookd.engine.landing import Landing
from webhookd.engine.opening import LaneOpening
from webhookd.engine.outage import NetworkWatch
from webhookd.engine.recorder import Record, Recorder
from webhookd.engine.refills import Refills
from webhookd.engine.station import Flight, Station
from webhookd.engine.young import YoungFlights
from webhookd.metrics import Metrics

log = logging.getLogger(__name__)

_LET_GO_AFTER_SECONDS = 1.0
"""A station that must wait longer than this gives its buffer back to the disk."""


class Dispatcher:
    """Runs every endpoint's deliveries side by side without any of them holding up another.

    There is no loop. Whatever can change an endpoint's situation (an accepted event, an outcome, a commit, a refill, an
    alarm, a changed rule) leads to `_review` of its station, which puts it into a lane's ring if it may send now, asks
    for a refill, or sets an alarm; `_pump` then starts attempts round-robin while the lanes have room. An endpoint
    without work costs nothing. `gently` has all windows begin at one. `failed` resolves with what makes an end of it.
    """

    def __init__(  # noqa: PLR0913 - the rooms it drives, all by name
        self,
        *,
        clock: Clock,
        store: Outbox,
        sender: Sender,
        endpoints: LiveEndpoints,
        recorder: Recorder,
        metrics: Metrics,
        draw: Callable[[], float],
        max_in_flight: int,
        gently: bool = False,
    ) -> None:
        self._clock = clock
        self._store = store
        self._sender = sender
        self._endpoints = endpoints
        self._recorder = recorder
        self._metrics = metrics
        self._draw = draw
        self._gently = gently
        self._stations: dict[EndpointId, Station] = {}
        self._lanes = Lanes(max_in_flight)
        self._rings: dict[Lane, deque[Station]] = {Lane.FAST: deque(), Lane.SLOW: deque()}
        self._errands = Errands()
        self._opening = LaneOpening(clock, self._lanes, self._errands.guarded(self._pump))
        self.network = NetworkWatch(
            clock, self._errands.guarded(self._pump), rings=self._rings, lanes=self._lanes, ended=self._opening.begin
        )
        self._landing = Landing(
            clock=clock, endpoints=endpoints, recorder=recorder, metrics=metrics, draw=draw, network=self.network
        )
        self._alarms = Alarms(clock, self._errands.guarded(self._woken))
        self._young = YoungFlights(clock, self._lanes, self._errands.guarded(self._pump))
        self._refills = Refills(clock=clock, store=store, spawn=self._errands.spawn, refilled=self._woken)
        self._forward = BringingForward(clock=clock, store=store, endpoints=endpoints)
        self.offer = self._errands.guarded(self._take_over)
        """Take over freshly committed deliveries; those there is no room for are found again on disk."""
        self._is_running = False
        self.failed = self._errands.failed
        recorder.call_when_committed(self._committed)
        recorder.call_when_announced(self.wake)

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._stations)} stations, {self._lanes!r}, {self._refills!r}>"

    @property
    def lanes(self) -> Lanes:
        """The requests in flight, by lane."""
        return self._lanes

    @property
    def stations(self) -> Iterable[Station]:
        """Every station there is, for readings."""
        return self._stations.values()

    @property
    def is_running(self) -> bool:
        """Say whether attempts are being started: not before `start`, and not once draining."""
        return self._is_running

    @property
    def reading_since(self) -> float | None:
        """Since when there has always been a read under way, monotonic seconds; None when there is none."""
        return self._refills.busy_since

    async def start(self) -> None:
        """Find out what is owed, and begin."""
        self._note(heads := await self._store.heads())
        self._is_running = True
        self._opening.begin()
        self._refills.spread = RestartSpread(started_ms=self._clock.now_ms(), draw=self._draw())
        # Not only those with heads: events may have been committed since that reading.
        self._review_all()
        if self._forward.concerns(heads):
            self._errands.spawn(self._bring_forward(heads))

    async def drain(self, grace_seconds: float) -> int:
        """Start nothing more and wait up to `grace_seconds` for attempts in flight; return how many had to be aborted.

        An aborted attempt leaves its delivery pending and uncharged.
        """
        self._is_running = False
        self._alarms.clear()
        timer = self._clock.call_later(grace_seconds, self.abort)
        interrupted = await self._errands.ended()
        timer.cancel()
        return interrupted

    def abort(self) -> None:
        """Drop every attempt in flight, so that `drain` ends at once."""
        self._errands.cancel()

    def wake(self, endpoint_id: EndpointId) -> None:
        """Look at the disk again: something of this endpoint may be due that was not before."""
        if (station := self._station(endpoint_id)) is not None:
            if station.is_ordered:
                self._refills.empty(station)
            station.buffer.look_again(self._clock.now_ms())
            self._review(station)
            self._pump()

    def changed_on_disk(self, endpoint_id: EndpointId, delivery_id: DeliveryId) -> None:
        """Follow a resend or a cancellation that has been committed; an attempt in flight cannot be called back."""
        if (station := self._station(endpoint_id)) is not None:
            self._refills.changed_on_disk(station, delivery_id, self._clock.now_ms())
            self.wake(endpoint_id)

    def refresh(self, endpoint_id: EndpointId, *, gently: bool = False) -> None:
        """Follow a change of the endpoint's rules or status; `gently` opens its window at one, as after enabling."""
        if (station := self._station(endpoint_id)) is None:
            return
        if station.live.definition is not None:
            station.apply(station.live.definition)
        # Where order is kept from now on, nothing may be put aside: it would wait behind itself.
        station.buffer.bring_back()
        if gently:
            station.window.open_gently()
        self._refills.empty(station)
        self.wake(endpoint_id)

    def forget(self, endpoint_id: EndpointId) -> None:
        """Drop all that is known of a deleted endpoint."""
        if (station := self._stations.get(endpoint_id)) is not None:
            self._refills.empty(station)
            station.buffer.bring_back()
            station.is_closed = True
            self._drop_if_done(station)
            self._pump()

    def resize(self, max_in_flight: int) -> None:
        """Change the bound on requests in flight."""
        self._lanes.resize(max_in_flight)
        self._pump()

    def clock_stepped(self) -> None:
        """Work out every due moment again: the wall clock has jumped."""
        for station in self._stations.values():
            station.wake_at = None
            station.buffer.bring_back()
        self._review_all()
        if self._is_running:
            self._errands.spawn(self._bring_forward())

    async def _bring_forward(self, heads: list[Head] | None = None) -> None:
        """See that nothing waits for a moment that the clock, set back, will only come to much later."""
        self._note(await self._forward.run(heads))
        self._review_all()

    def _note(self, heads: Iterable[Head]) -> None:
        for head in heads:
            if (station := self._station(head.endpoint_id)) is not None:
                station.buffer.note_head(head)

    def _review_all(self) -> None:
        for station in self._stations.values():
            self._review(station)
        self._pump()

    def _take_over(self, work: Iterable[Work]) -> None:
        now_ms = self._clock.now_ms()
        for piece in work:
            if (station := self._station(piece.endpoint_id)) is None:
                continue
            buffer = station.buffer
            # In an ordered outbox whatever waits on disk is older, and its due moment counts for all behind it.
            if station.is_ordered and buffer.first_on_disk_ms() is not None and not buffer.is_refilling:
                continue
            # Before the start it is not known what waits on disk.
            if not (self._is_running and station.is_active and self._refills.take_in(station, piece, now_ms)):
                buffer.note_due(piece.due_at_ms)
            self._review(station)
        self._pump()

    def _station(self, endpoint_id: EndpointId) -> Station | None:
        station = self._stations.get(endpoint_id)
        if station is not None and not station.is_closed:
            return station
        live = self._endpoints.get(endpoint_id)
        if live is None:
            return None
        if station is None:
            station = self._stations[endpoint_id] = Station(live)
            if self._gently:
                station.window.open_gently()
        else:
            station.open(live)
            # What was noted of the predecessor's rows says nothing about the new ones.
            station.buffer.note_due(self._clock.now_ms())
        return station

    def _drop_if_done(self, station: Station) -> None:
        """Drop a deleted endpoint's station, unless what it knows must not be sent for another endpoint of that id."""
        if station.is_closed and not station.buffer.known:
            self._stations.pop(station.live.record.id, None)

    def _review(self, station: Station) -> None:
        """Put the station where it belongs now: into a ring, the queue for refills, among the alarms, or nowhere."""
        if station.ring is not None or not self._is_running:
            return
        buffer = station.buffer
        if not station.is_active:
            self._refills.empty(station)
            buffer.bring_back()
            return
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        not_before = station.not_before()
        if not buffer:
            if (first_ms := buffer.first_on_disk_ms()) is None:
                return
            not_before = max(not_before, now + (first_ms - now_ms) / 1000)
        if not_before > now:
            if not_before - now > _LET_GO_AFTER_SECONDS:
                self._refills.empty(station)
            self._alarms.set(station, not_before)
        elif station.has_room(now):
            if not station.has_a_turn(now_ms):
                if buffer:
                    # What is buffered may have to make room for the very read that it waits for.
                    self._refills.spare(station)
                self._refills.want(station)
                return
            self._refills.need(station)
            self.network.line_up(station, self._ring_for(station, now))
            if buffer.runs_low(station.window.size, now_ms) and not station.is_ordered:
                self._refills.want(station)
            return
        if buffer:
            self._refills.spare(station)

    def _ring_for(self, station: Station, now: float) -> Lane:
        if (
            station.pace.lane is Lane.SLOW
            and not station.window.is_resting
            and station.pace.may_have_parole(now)
            and self._lanes.grants_parole(now)
        ):
            station.pace.paroled(now)
            return Lane.FAST
        return station.pace.lane

    def _pump(self) -> None:
        """Start attempts, one for each station in turn, and reads, while there is room."""
        if not self._is_running:
            return
        for lane, ring in self._rings.items():
            while ring and self._lanes.has_room(lane) and not self._recorder.is_congested:
                # By the time of before, a station that came back into the ring since would be refused for ever.
                now, now_ms = self._clock.monotonic(), self._clock.now_ms()
                if (station := self.network.next_of(lane, now)) is None:
                    break
                if station.may_send(now, now_ms):
                    self._start_attempt(station, lane, now)
                self._review(station)
        self._refills.go_on()

    def _start_attempt(self, station: Station, lane: Lane, now: float) -> None:
        work, definition = station.take()
        now_ms = self._clock.now_ms()
        station.busy += 1
        station.rate.started(now)
        self._lanes.enter(lane)
        self._metrics.start_delay(lane.value, max(0, now_ms - work.due_at_ms) / 1000)
        probe = self.network.started(station, now)
        flight = Flight(station, work, definition, lane, started=now, started_ms=now_ms, is_probe=probe)
        if lane is Lane.FAST:
            self._young.watch(flight)
        self._errands.spawn(self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        try:
            outcome = await self._sender.send(flight.work, flight.definition)
        except Exception as error:
            # A poisoned delivery must cost its own attempt and nothing else.
            log.exception("attempt.crashed", extra={"fields": self._landing.names(flight)})
            outcome = Outcome(
                duration_ms=1000 * (self._clock.monotonic() - flight.started),
                error=AttemptError(kind=ErrorClass.INTERNAL, text=f"internal error: {type(error).__name__}"),
            )
        self._land(flight, outcome)

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        station = flight.station
        self._young.landed(flight)
        self._lanes.leave(flight.lane)
        self._refills.free(flight.work)
        self._landing.land(flight, outcome)
        station.busy -= 1
        self._review(station)
        self._pump()

    def _committed(self, records: list[Record]) -> None:
        """Let go of deliveries whose outcome is on disk."""
        for record in records:
            station, settlement = record.station, record.settlement
            station.buffer.release(settlement.attempt.delivery_id, settlement.due_at_ms)
            if station.is_ordered and settlement.due_at_ms is not None:
                # It has to go before all that is buffered behind it.
                self._refills.empty(station)
            self._drop_if_done(station)
            self._review(station)
        self._pump()

    def _woken(self, station: Station) -> None:
        self._review(station)
        self._pump()
