"""Decides what is sent next: wakes endpoints when they are due and starts attempts within lanes, windows and rates."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from webhookd.core.attempt import Outcome
from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.lanes import FAST, SLOW, Lane, Lanes
from webhookd.core.ports import Clock, Head, Outbox, Sender
from webhookd.core.spread import RestartSpread
from webhookd.engine.alarms import Alarms
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.engine.errands import Errands
from webhookd.engine.flights import Flights
from webhookd.engine.forward import BringingForward
from webhookd.engine.landing import Landing
from webhookd.engine.opening import LaneOpening
from webhookd.engine.outage import NetworkWatch
from webhookd.engine.recorder import Record, Recorder
from webhookd.engine.refills import Refills
from webhookd.engine.station import Flight, Station
from webhookd.engine.stations import Stations
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
        self._stations = Stations(clock, endpoints, gently=gently)
        self._lanes = Lanes(max_in_flight)
        self._rings: dict[Lane, deque[Station]] = {FAST: deque(), SLOW: deque()}
        self._errands = Errands()
        go_on = self._errands.guarded(self._go_on)
        self._opening = LaneOpening(clock, self._lanes, go_on)
        self.network = NetworkWatch(clock, go_on, rings=self._rings, lanes=self._lanes, ended=self._opening.begin)
        self._landing = Landing(
            clock=clock, endpoints=endpoints, recorder=recorder, metrics=metrics, draw=draw, network=self.network
        )
        self._alarms = Alarms(clock, self._errands.guarded(self._woken))
        self._flights = Flights(clock, self._lanes, recharged=go_on, landed=self._errands.guarded(self._land))
        self._ended = self._errands.guarded(self._flights.ended)
        self._refills = Refills(clock=clock, store=store, spawn=self._errands.spawn, refilled=self._woken)
        self._forward = BringingForward(clock=clock, store=store, endpoints=endpoints)
        self.offer = self._errands.guarded(self._take_over)
        """Take over freshly committed deliveries; those there is no room for are found again on disk."""
        self._is_running = False
        self._turn = 0
        """Counts what has led to reviews and starts, all of which happens before anything else can."""
        self.failed = self._errands.failed
        self.guarded = self._errands.guarded
        """Makes a callback of the loop one whose failure ends the process, as those of the dispatcher itself do."""
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
        return self._stations

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
        interrupted = await self._flights.all_landed()
        await self._errands.ended()
        timer.cancel()
        return interrupted

    def abort(self) -> None:
        """Drop every attempt in flight, so that `drain` ends at once."""
        self._flights.drop()
        self._errands.cancel()

    def wake(self, endpoint_id: EndpointId) -> None:
        """Look at the disk again: something of this endpoint may be due that was not before."""
        if (station := self._stations.of(endpoint_id)) is not None:
            if station.is_ordered:
                self._refills.empty(station)
            station.buffer.look_again(self._clock.now_ms())
            self._review_each((station,))

    def changed_on_disk(self, endpoint_id: EndpointId, delivery_id: DeliveryId) -> None:
        """Follow a resend or a cancellation that has been committed; an attempt in flight cannot be called back."""
        if (station := self._stations.of(endpoint_id)) is not None:
            self._refills.changed_on_disk(station, delivery_id, self._clock.now_ms())
            self.wake(endpoint_id)

    def refresh(self, endpoint_id: EndpointId, *, gently: bool = False) -> None:
        """Follow a change of the endpoint's rules or status; `gently` opens its window at one, as after enabling."""
        if (station := self._stations.of(endpoint_id)) is None:
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
        if (station := self._stations.close(endpoint_id)) is not None:
            self._refills.empty(station)
            station.buffer.bring_back()
            self._stations.drop_if_done(station)
            self._go_on()

    def resize(self, max_in_flight: int) -> None:
        """Change the bound on requests in flight."""
        self._lanes.resize(max_in_flight)
        self._go_on()

    def clock_stepped(self) -> None:
        """Work out every due moment again: the wall clock has jumped."""
        for station in self._stations:
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
            if (station := self._stations.of(head.endpoint_id)) is not None:
                station.buffer.note_head(head)

    def _review_all(self) -> None:
        self._review_each(self._stations)

    def _review_each(self, stations: Iterable[Station]) -> None:
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        self._turn += 1
        for station in stations:
            self._review(station, now, now_ms)
        self._pump(now, now_ms)

    def _take_over(self, work: Iterable[Work]) -> None:
        now_ms = self._clock.now_ms()
        owed: dict[EndpointId, list[Work]] = {}
        for piece in work:
            if piece.endpoint_id in owed:
                owed[piece.endpoint_id].append(piece)
            else:
                owed[piece.endpoint_id] = [piece]
        stations: list[Station] = []
        for endpoint_id, pieces in owed.items():
            if (station := self._stations.of(endpoint_id)) is not None:
                stations.append(station)
                # Before the start it is not known what waits on disk.
                self._refills.take_in(station, pieces, now_ms, may_buffer=self._is_running and station.is_active)
        self._review_each(stations)

    def _review(self, station: Station, now: float, now_ms: int) -> None:
        """Put the station where it belongs now: into a ring, the queue for refills, among the alarms, or nowhere."""
        if station.ring is not None or not self._is_running:
            return
        buffer = station.buffer
        if not station.is_active:
            self._refills.empty(station)
            buffer.bring_back()
            return
        has_room = station.has_room(now)
        if buffer.count:
            if station.busy and not has_room:
                # It is looked at again when one of those under way has ended, or its outcome is on disk.
                self._refills.spare(station)
                return
            not_before = station.not_before()
        else:
            if (first_ms := buffer.first_on_disk_ms()) is None:
                return
            not_before = max(station.not_before(), now + (first_ms - now_ms) / 1000)
        if not_before > now:
            if not_before - now > _LET_GO_AFTER_SECONDS:
                self._refills.empty(station)
            self._alarms.set(station, not_before)
        elif has_room:
            if not station.has_a_turn(now_ms):
                # What is buffered may have to make room for the very read that it waits for.
                self._refills.spare(station)
                self._refills.want(station)
                return
            self._refills.need(station)
            station.cleared_in = self._turn
            self.network.line_up(station, self._ring_for(station, now))
            if buffer.runs_low(station.window.size, now_ms) and not station.is_ordered:
                self._refills.want(station)
            return
        if buffer.count:
            self._refills.spare(station)

    def _ring_for(self, station: Station, now: float) -> Lane:
        if (
            station.pace.lane is SLOW
            and not station.window.is_resting
            and station.pace.may_have_parole(now)
            and self._lanes.grants_parole(now)
        ):
            station.pace.paroled(now)
            return FAST
        return station.pace.lane

    def _go_on(self) -> None:
        self._turn += 1
        self._pump(self._clock.monotonic(), self._clock.now_ms())

    def _pump(self, now: float, now_ms: int) -> None:
        """Start attempts, one for each station in turn, and reads, while there is room."""
        if not self._is_running:
            return
        for lane, ring in self._rings.items():
            if not ring or self._recorder.is_congested:
                continue
            while ring and self._lanes.has_room(lane):
                if (station := self.network.next_of(lane, now)) is None:
                    break
                # Who was reviewed in this very turn need not be asked again. Others are asked by the same moment as a
                # review is: by a later one, they could come back into the ring for ever.
                if station.cleared_in == self._turn or station.may_send(now, now_ms):
                    self._start_attempt(station, lane, now, now_ms)
                self._review(station, now, now_ms)
        self._refills.go_on()

    def _start_attempt(self, station: Station, lane: Lane, now: float, now_ms: int) -> None:
        work, definition = station.take()
        station.busy += 1
        station.rate.started(now)
        self._lanes.enter(lane)
        self._metrics.start_delay(lane, (now_ms - work.due_at_ms) / 1000)
        flight = Flight(
            station=station,
            live=station.live,
            work=work,
            definition=definition,
            lane=lane,
            started=now,
            started_ms=now_ms,
            is_probe=self.network.started(station, now),
        )
        self._flights.began(flight, self._sender.start(work, definition, partial(self._ended, flight)))

    def _land(self, ended: list[tuple[Flight, Outcome | Exception]]) -> None:
        for flight, _ in ended:
            self._lanes.leave(flight.lane)
            self._refills.free(flight.work)
        self._landing.land(ended)
        self._review_each({flight.station: None for flight, _ in ended})

    def _committed(self, records: list[Record]) -> None:
        """Let go of deliveries whose outcome is on disk."""
        stations: dict[Station, None] = {}
        for record in records:
            station, settlement = record.station, record.settlement
            stations[station] = None
            station.buffer.release(settlement.attempt.delivery_id, settlement.due_at_ms)
            if station.is_ordered and settlement.due_at_ms is not None:
                # It has to go before all that is buffered behind it.
                self._refills.empty(station)
            if station.is_closed:
                self._stations.drop_if_done(station)
        self._review_each(stations)

    def _woken(self, station: Station) -> None:
        self._review_each((station,))
