"""The part of one endpoint's outbox that is in memory: what may be sent soon, and what must not be read again."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId
from webhookd.core.ports import Head

MOST_BUFFERED = 128
"""Deliveries read ahead for one endpoint: a few of the widest usual windows, so that one read lasts a while."""

MOST_BUFFERED_BYTES = 1 << 20
"""What is read ahead for one endpoint, and what it may count on where memory gets short."""

MOST_REPLAYED_BYTES = MOST_BUFFERED_BYTES // 2
"""Room of its own, so that a replay never takes up that of work which came by itself."""

NOTHING: Mapping[DeliveryId, int] = MappingProxyType({})

_TURNS_TO_A_REPLAY = 9
_WORK_OVERHEAD_BYTES = 1024


def cost_bytes(work: Work) -> int:
    """Return what a piece of work is charged with against the memory budget."""
    return len(work.event.payload) + _WORK_OVERHEAD_BYTES


class OutboxBuffer:
    """A cache over the store's pending rows of one endpoint.

    Nothing is written to mark a delivery as buffered or in flight, so the store would return it again at every read;
    `known` holds the ids that are in memory in any stage (buffered, in flight, outcome not yet committed).
    `disk_due_ms` is the due moment of the first row left on disk, None when there is none; `replay_due_ms` is that of
    replayed rows, which stand apart. First attempts and retries take turns, and every tenth turn is a replayed one's,
    as are those that nobody else wants.
    A row that somebody else changes while it is in memory is read again (`changed_on_disk`).
    """

    __slots__ = (
        "_aside",
        "_changed_during_refill",
        "_changed_in_flight",
        "_fresh",
        "_fresh_turn",
        "_is_refill_stale",
        "_noted_during_refill",
        "_replay_noted_during_refill",
        "_replayed",
        "_retries",
        "_turns_since_replay",
        "bytes",
        "count",
        "disk_due_ms",
        "is_refilling",
        "known",
        "replay_due_ms",
        "replayed_bytes",
    )

    def __init__(self) -> None:
        self.disk_due_ms: int | None = None
        self.replay_due_ms: int | None = None
        self.is_refilling = False
        self.known: set[DeliveryId] = set()
        self.count = 0
        """How many deliveries are buffered."""
        self.bytes = 0
        """What the buffered work is charged with; work in flight is not counted here."""
        self.replayed_bytes = 0
        """The part of `bytes` that replayed work has."""
        self._fresh: deque[Work] = deque()
        self._retries: deque[Work] = deque()
        self._replayed: deque[Work] = deque()
        self._fresh_turn = True
        self._turns_since_replay = 0
        self._changed_in_flight: dict[DeliveryId, int] = {}
        self._changed_during_refill: set[DeliveryId] = set()
        self._noted_during_refill: int | None = None
        self._replay_noted_during_refill: int | None = None
        self._is_refill_stale = False
        self._aside: list[tuple[int, DeliveryId]] = []
        """What is left on disk until a moment that its row does not know of, the next one first; a heap."""

    def __repr__(self) -> str:
        return f"<OutboxBuffer {self.count} buffered, {len(self.known)} known, disk_due_ms={self.disk_due_ms}>"

    def note_due(self, due_ms: int) -> None:
        """Note that a row on disk is due at `due_ms`."""
        if self.disk_due_ms is None or due_ms < self.disk_due_ms:
            self.disk_due_ms = due_ms
        if self.is_refilling and (self._noted_during_refill is None or due_ms < self._noted_during_refill):
            self._noted_during_refill = due_ms

    def look_again(self, now_ms: int) -> None:
        """Note that any row may have become due, those of deliveries in flight once their outcomes are on disk."""
        self.note_due(now_ms)
        self.note_replay_due(now_ms)
        buffered = {work.id for queue in self._queues() for work in queue}
        buffered.update(delivery_id for _, delivery_id in self._aside)
        self._changed_in_flight.update(dict.fromkeys(self.known - buffered, now_ms))

    def note_head(self, head: Head) -> None:
        """Note what is on disk at the start."""
        if head.due_at_ms is not None:
            self.note_due(head.due_at_ms)
        if head.replay_due_ms is not None:
            self.note_replay_due(head.replay_due_ms)

    def note_replay_due(self, due_ms: int) -> None:
        """Note that a replayed row on disk is due at `due_ms`."""
        if self.replay_due_ms is None or due_ms < self.replay_due_ms:
            self.replay_due_ms = due_ms
        noted = self._replay_noted_during_refill
        if self.is_refilling and (noted is None or due_ms < noted):
            self._replay_noted_during_refill = due_ms

    def first_on_disk_ms(self) -> int | None:
        """Return the earliest due moment on disk, replayed or not; None when nothing waits there."""
        if self.disk_due_ms is None or self.replay_due_ms is None:
            return self.replay_due_ms if self.disk_due_ms is None else self.disk_due_ms
        return min(self.disk_due_ms, self.replay_due_ms)

    def earliest_due_ms(self) -> int | None:
        """Return the earliest due moment among what is buffered and on disk; None when nothing is waiting."""
        dues = [queue[0].due_at_ms for queue in self._queues() if queue]
        on_disk = self.first_on_disk_ms()
        if on_disk is not None:
            dues.append(on_disk)
        return min(dues, default=None)

    def has_a_turn(self, now_ms: int) -> bool:
        """Say whether there is work to take; replayed work has to let pass what is still on disk, but for its turn."""
        if self._fresh or self._retries:
            return True
        others_wait = self.disk_due_ms is not None and self.disk_due_ms <= now_ms
        return bool(self._replayed) and (not others_wait or self._turns_since_replay >= _TURNS_TO_A_REPLAY)

    def runs_low(self, size: int, now_ms: int) -> bool:
        """Say whether less than `size` deliveries are buffered of what is due on disk as well."""
        if self.disk_due_ms is not None and self.disk_due_ms <= now_ms and self.room(size) > 0:
            return True
        return self.replay_due_ms is not None and self.replay_due_ms <= now_ms and self.replay_room(size) > 0

    def room(self, size: int) -> int:
        """Return how many of `size` deliveries, other than replayed ones, are not buffered."""
        return size - self.count + len(self._replayed)

    def room_aside(self) -> int:
        """Return how many deliveries may still be put aside."""
        return MOST_BUFFERED - len(self._aside)

    def replay_room(self, size: int) -> int:
        """Return how many of `size` replayed deliveries are not buffered; 0 where there is no memory for them."""
        return size - len(self._replayed) if self.replayed_bytes < MOST_REPLAYED_BYTES else 0

    def takes_directly(self, work: Work, now_ms: int) -> bool:
        """Say whether freshly committed work need not be read back: due, and nothing older on disk."""
        return (
            not self.is_refilling
            and work.due_at_ms <= now_ms
            and (self.disk_due_ms is None or self.disk_due_ms > now_ms)
        )

    def add(self, work: Work) -> int:
        """Buffer one piece of work, unless it is known already; return the bytes added."""
        if work.id in self.known:
            return 0
        self.known.add(work.id)
        self.count += 1
        size_bytes = cost_bytes(work)
        self.bytes += size_bytes
        if work.replayed:
            self.replayed_bytes += size_bytes
            self._replayed.append(work)
        else:
            (self._retries if work.attempt_count else self._fresh).append(work)
        return size_bytes

    def take(self) -> Work:
        """Return the next piece of work, which stays known; the buffer must not be empty."""
        if self._replayed and (self._turns_since_replay >= _TURNS_TO_A_REPLAY or not (self._fresh or self._retries)):
            work = self._replayed.popleft()
            self._turns_since_replay = 0
        else:
            first, second = (self._fresh, self._retries) if self._fresh_turn else (self._retries, self._fresh)
            work = first.popleft() if first else second.popleft()
            self._fresh_turn = work.attempt_count > 0
            self._turns_since_replay += 1
        self._uncharge(work)
        return work

    def take_in_order(self) -> Work:
        """Return the oldest piece of work by acceptance; the buffer must not be empty."""
        work = min((queue for queue in self._queues() if queue), key=lambda queue: queue[0].id).popleft()
        self._uncharge(work)
        return work

    def release(self, delivery_id: DeliveryId, next_due_ms: int | None) -> None:
        """Forget an id whose outcome is on disk, where it is due again at `next_due_ms` (None: it has ended)."""
        self.known.discard(delivery_id)
        if next_due_ms is not None:
            self.note_due(next_due_ms)
        changed_due_ms = self._changed_in_flight.pop(delivery_id, None)
        if changed_due_ms is not None:
            self.note_due(changed_due_ms)
            # The read was told to leave it out, and may have found what has to wait behind it.
            self._is_refill_stale = self.is_refilling

    def changed_on_disk(self, delivery_id: DeliveryId, due_ms: int) -> int:
        """Forget what was read of a row that has been changed since and may be due at `due_ms`; return the bytes freed.

        While it is in flight it stays known, and is looked at again when its outcome is on disk.
        """
        self.note_due(due_ms)
        if self.is_refilling:
            self._changed_during_refill.add(delivery_id)
        for queue in self._queues():
            for work in queue:
                if work.id == delivery_id:
                    queue.remove(work)
                    self.known.discard(delivery_id)
                    self._uncharge(work)
                    return cost_bytes(work)
        if any(aside == delivery_id for _, aside in self._aside):
            self._aside = [entry for entry in self._aside if entry[1] != delivery_id]
            heapq.heapify(self._aside)
            self.known.discard(delivery_id)
        elif delivery_id in self.known:
            self._changed_in_flight[delivery_id] = due_ms
        return 0

    def bring_back(self, now_ms: int | None = None) -> None:
        """Let be read what was put aside until `now_ms` (None: whatever was)."""
        while self._aside and (now_ms is None or self._aside[0][0] <= now_ms):
            until_ms, delivery_id = heapq.heappop(self._aside)
            self.known.discard(delivery_id)
            # Whoever brings back what was not to come yet has no moment to say for it but the beginning of time.
            self.note_due(0 if now_ms is None else until_ms)

    def empty(self) -> int:
        """Let go of everything buffered or just being read, to be read again later; return the bytes this frees."""
        freed = self.bytes
        self._is_refill_stale = self.is_refilling
        for queue in self._queues():
            for work in queue:
                self.known.discard(work.id)
                self._note_on_disk(work)
            queue.clear()
        self.count = self.bytes = self.replayed_bytes = 0
        return freed

    def begin_refill(self) -> None:
        """Note that a read has begun; what happens here until `end_refill` may be missing from its answer."""
        self.is_refilling = True
        self._changed_during_refill.clear()
        self._noted_during_refill = None
        self._replay_noted_during_refill = None
        self._is_refill_stale = False

    def end_refill(
        self,
        work: Iterable[Work],
        next_due_ms: int | None,
        next_replay_ms: int | None = None,
        *,
        aside: Mapping[DeliveryId, int] = NOTHING,
    ) -> int:
        """Take in what the read returned, but nothing that was changed meanwhile; return the bytes added.

        What stands in `aside` is left on disk until the moment given there (UTC ms). With 128 deliveries put aside,
        or one more, the next ones are read only when the first of these comes back.
        """
        added = 0
        self.is_refilling = False
        self.disk_due_ms, self.replay_due_ms = next_due_ms, next_replay_ms
        for piece in work:
            if self._is_refill_stale or piece.id in self._changed_during_refill:
                self._note_on_disk(piece)
            elif piece.id in aside and piece.id not in self.known:
                self.known.add(piece.id)
                heapq.heappush(self._aside, (aside[piece.id], piece.id))
            else:
                added += self.add(piece)
        if self._aside:
            if self.room_aside() <= 0:
                self.disk_due_ms = self._aside[0][0]
            self.note_due(self._aside[0][0])
        if self._noted_during_refill is not None:
            self.note_due(self._noted_during_refill)
        if self._replay_noted_during_refill is not None:
            self.note_replay_due(self._replay_noted_during_refill)
        return added

    def _queues(self) -> tuple[deque[Work], ...]:
        return self._fresh, self._retries, self._replayed

    def _note_on_disk(self, work: Work) -> None:
        if work.replayed:
            self.note_replay_due(work.due_at_ms)
        else:
            self.note_due(work.due_at_ms)

    def _uncharge(self, work: Work) -> None:
        self.count -= 1
        size_bytes = cost_bytes(work)
        self.bytes -= size_bytes
        if work.replayed:
            self.replayed_bytes -= size_bytes
