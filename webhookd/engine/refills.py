"""Reads due deliveries from the store into the stations' buffers, within one memory budget over all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId
from webhookd.core.ports import Clock, Outbox
from webhookd.core.spread import RestartSpread
from webhookd.engine.outbox_buffer import MOST_BUFFERED, MOST_BUFFERED_BYTES, MOST_REPLAYED_BYTES, cost_bytes
from webhookd.engine.station import Station

MEMORY_BUDGET_BYTES = 64 << 20
"""Most bytes of payload, and what goes with it, that are buffered or in flight at one time."""

_MOST_READS = 4


class Refills:
    """Keeps account of the memory that work takes up, and reads more of it while there is room.

    A buffer is a cache: when the budget is used up, buffers that cannot be sent from right now are given back to the
    disk, then those that have got more than their share while nobody else needed it, and the one that asks is no
    exception: to read a delivery back costs as much as to send it. If that does not help, reads wait for attempts to
    end. At most four reads run at a time.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: Outbox,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        refilled: Callable[[Station], None],
    ) -> None:
        self._clock = clock
        self._store = store
        self._spawn = spawn
        self._refilled = refilled
        self._wanted: deque[Station] = deque()
        self._spare: dict[Station, None] = {}
        self._lent: dict[Station, None] = {}
        """Those that have had more than their share at some time."""
        self._reads = 0
        self._bytes = 0
        self.spread: RestartSpread | None = None
        """What puts off overdue retries after a start; None once that is over."""
        self.busy_since: float | None = None
        """Since when there has always been a read under way, monotonic seconds; None when there is none."""

    def __repr__(self) -> str:
        return f"<Refills {self._bytes} bytes, {self._reads} reads, {len(self._wanted)} wanted>"

    def want(self, station: Station) -> None:
        """Read for `station` when `go_on` comes to its turn."""
        if not station.is_refill_wanted and not station.buffer.is_refilling:
            station.is_refill_wanted = True
            self._wanted.append(station)

    def go_on(self) -> None:
        """Start the reads that there is room for now."""
        while self._wanted and self._reads < _MOST_READS and self._make_room(1):
            station = self._wanted.popleft()
            station.is_refill_wanted = False
            if station.is_active:
                if self._reads == 0:
                    self.busy_since = self._clock.monotonic()
                self._reads += 1
                station.buffer.bring_back(self._clock.now_ms())
                station.buffer.begin_refill()
                self._spawn(self._read(station))

    def take_in(self, station: Station, fresh: Iterable[Work], now_ms: int, *, may_buffer: bool) -> None:
        """Buffer freshly committed work of the station, or note that it is to be found on disk."""
        buffer = station.buffer
        for work in fresh:
            # In an ordered outbox whatever waits on disk is older, and its due moment counts for all behind it.
            if station.is_ordered and buffer.first_on_disk_ms() is not None and not buffer.is_refilling:
                continue
            # Room comes first: it may be made by giving back this very buffer, and then older work waits on disk.
            if (
                may_buffer
                and (self._bytes + cost_bytes(work) <= MEMORY_BUDGET_BYTES or self._make_room(cost_bytes(work)))
                and buffer.takes_directly(work, now_ms)
                and not (station.is_ordered and buffer.first_on_disk_ms() is not None)
            ):
                self._bytes += buffer.add(work)
                if buffer.bytes > MOST_BUFFERED_BYTES:
                    self._lent[station] = None
            else:
                buffer.note_due(work.due_at_ms)

    def changed_on_disk(self, station: Station, delivery_id: DeliveryId, due_ms: int) -> None:
        """Forget what was read of a row that has been changed since."""
        self._bytes -= station.buffer.changed_on_disk(delivery_id, due_ms)

    def free(self, work: Work) -> None:
        """Note that work taken from a buffer is out of memory."""
        self._bytes -= cost_bytes(work)

    def empty(self, station: Station) -> None:
        """Give the station's buffer back to the disk."""
        self._spare.pop(station, None)
        self._lent.pop(station, None)
        self._bytes -= station.buffer.empty()

    def spare(self, station: Station) -> None:
        """Note that the station's buffer cannot be sent from for the time being."""
        self._spare[station] = None

    def need(self, station: Station) -> None:
        """Note that the station's buffer is about to be sent from."""
        self._spare.pop(station, None)

    def _make_room(self, wanted_bytes: int) -> bool:
        while self._bytes + wanted_bytes > MEMORY_BUDGET_BYTES and self._spare:
            self.empty(next(iter(self._spare)))
        while self._bytes + wanted_bytes > MEMORY_BUDGET_BYTES and self._lent:
            station = next(iter(self._lent))
            if station.buffer.bytes > MOST_BUFFERED_BYTES:
                self.empty(station)
            else:
                del self._lent[station]
        return self._bytes + wanted_bytes <= MEMORY_BUDGET_BYTES

    async def _read(self, station: Station) -> None:
        buffer = station.buffer
        left_bytes = max(0, MEMORY_BUDGET_BYTES - self._bytes)
        own_bytes = buffer.bytes - buffer.replayed_bytes
        try:
            batch = await self._store.due(
                station.live.record.id,
                now_ms=self._clock.now_ms(),
                limit=max(1, min(station.refill_limit(), buffer.room(MOST_BUFFERED), buffer.room_aside())),
                max_bytes=max(0, min(MOST_BUFFERED_BYTES - own_bytes, left_bytes)),
                ordered=station.is_ordered,
                exclude=tuple(buffer.known),
                replay_limit=max(0, buffer.replay_room(station.window.size)),
                replay_max_bytes=max(0, min(MOST_REPLAYED_BYTES - buffer.replayed_bytes, left_bytes)),
            )
        finally:
            self._reads -= 1
            self.busy_since = self._clock.monotonic() if self._reads else None
        self._bytes += buffer.end_refill(
            batch.work, batch.next_due_ms, batch.next_replay_ms, aside=self._put_off(station, batch.work)
        )
        self._refilled(station)

    def _put_off(self, station: Station, work: list[Work]) -> dict[DeliveryId, int]:
        now_ms = self._clock.now_ms()
        if self.spread is None or station.is_ordered:
            return {}
        if self.spread.is_over(now_ms):
            self.spread = None
            return {}
        until = {piece.id: self.spread.put_off_until_ms(piece) for piece in work}
        return {name: until_ms for name, until_ms in until.items() if until_ms is not None and until_ms > now_ms}
