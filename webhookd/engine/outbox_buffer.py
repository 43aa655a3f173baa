"""The part of one endpoint's outbox that is in memory: what may be sent soon, and what must not be read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from webhookd.core.delivery import Work
from webhookd.core.ids import DeliveryId

MOST_BUFFERED = 128
"""Deliveries buffered for one endpoint: a few of the widest usual windows, so that one read lasts a while."""

MOST_BUFFERED_BYTES = 1 << 20
_WORK_OVERHEAD_BYTES = 1024


def cost_bytes(work: Work) -> int:
    """Return what a piece of work is charged with against the memory budget."""
    return len(work.event.payload) + _WORK_OVERHEAD_BYTES


class OutboxBuffer:
    """A cache over the store's pending rows of one endpoint.

    Nothing is written to mark a delivery as buffered or in flight, so the store would return it again at every read;
    `known` holds the ids that are in memory in any stage (buffered, in flight, outcome not yet committed).
    `disk_due_ms` is the due moment of the first row left on disk, None when there is none. First attempts and retries
    take turns.
    """

    __slots__ = (
        "_fresh",
        "_fresh_turn",
        "_gone_during_refill",
        "_noted_during_refill",
        "_retries",
        "bytes",
        "disk_due_ms",
        "is_refilling",
        "known",
    )

    def __init__(self) -> None:
        self.disk_due_ms: int | None = None
        self.is_refilling = False
        self.known: set[DeliveryId] = set()
        self.bytes = 0
        """What the buffered work is charged with; work in flight is not counted here."""
        self._fresh: deque[Work] = deque()
        self._retries: deque[Work] = deque()
        self._fresh_turn = True
        self._gone_during_refill: set[DeliveryId] = set()
        self._noted_during_refill: int | None = None

    def __len__(self) -> int:
        return len(self._fresh) + len(self._retries)

    def __repr__(self) -> str:
        return f"<OutboxBuffer {len(self)} buffered, {len(self.known)} known, disk_due_ms={self.disk_due_ms}>"

    def note_due(self, due_ms: int) -> None:
        """Note that a row on disk is due at `due_ms`."""
        if self.disk_due_ms is None or due_ms < self.disk_due_ms:
            self.disk_due_ms = due_ms
        if self.is_refilling and (self._noted_during_refill is None or due_ms < self._noted_during_refill):
            self._noted_during_refill = due_ms

    def earliest_due_ms(self) -> int | None:
        """Return the earliest due moment among what is buffered and on disk; None when nothing is waiting."""
        dues = [queue[0].due_at_ms for queue in (self._fresh, self._retries) if queue]
        if self.disk_due_ms is not None:
            dues.append(self.disk_due_ms)
        return min(dues, default=None)

    def takes_directly(self, work: Work, now_ms: int) -> bool:
        """Say whether freshly committed work need not be read back: due, nothing older on disk, and room for it."""
        return (
            not self.is_refilling
            and work.due_at_ms <= now_ms
            and (self.disk_due_ms is None or self.disk_due_ms > now_ms)
            and len(self) < MOST_BUFFERED
            and self.bytes + cost_bytes(work) <= MOST_BUFFERED_BYTES
        )

    def add(self, work: Work) -> None:
        """Buffer one piece of work, unless it is known already."""
        if work.id in self.known:
            return
        self.known.add(work.id)
        self.bytes += cost_bytes(work)
        (self._retries if work.attempt_count else self._fresh).append(work)

    def take(self) -> Work:
        """Return the next piece of work, which stays known; the buffer must not be empty."""
        first, second = (self._fresh, self._retries) if self._fresh_turn else (self._retries, self._fresh)
        work = first.popleft() if first else second.popleft()
        self._fresh_turn = work.attempt_count > 0
        self.bytes -= cost_bytes(work)
        return work

    def take_in_order(self) -> Work:
        """Return the oldest piece of work by acceptance; the buffer must not be empty."""
        if not self._fresh or (self._retries and self._retries[0].id < self._fresh[0].id):
            work = self._retries.popleft()
        else:
            work = self._fresh.popleft()
        self.bytes -= cost_bytes(work)
        return work

    def release(self, delivery_id: DeliveryId, next_due_ms: int | None) -> None:
        """Forget an id whose outcome is on disk, where it is due again at `next_due_ms` (None: it has ended)."""
        self.known.discard(delivery_id)
        if self.is_refilling:
            self._gone_during_refill.add(delivery_id)
        if next_due_ms is not None:
            self.note_due(next_due_ms)

    def drop(self, delivery_id: DeliveryId) -> bool:
        """Take one piece of buffered work out because it is no longer owed; return False when it is not buffered."""
        if self.is_refilling:
            self._gone_during_refill.add(delivery_id)
        for queue in (self._fresh, self._retries):
            for work in queue:
                if work.id == delivery_id:
                    queue.remove(work)
                    self.known.discard(delivery_id)
                    self.bytes -= cost_bytes(work)
                    return True
        return False

    def empty(self) -> int:
        """Let go of everything buffered, to be read again later; return the bytes this frees."""
        freed = self.bytes
        for queue in (self._fresh, self._retries):
            for work in queue:
                self.known.discard(work.id)
                self.note_due(work.due_at_ms)
            queue.clear()
        self.bytes = 0
        return freed

    def begin_refill(self) -> None:
        """Note that a read has begun; what happens here until `end_refill` may be missing from its answer."""
        self.is_refilling = True
        self._gone_during_refill.clear()
        self._noted_during_refill = None

    def end_refill(self, work: Iterable[Work], next_due_ms: int | None) -> int:
        """Take in what the read returned, but nothing that left memory meanwhile; return the bytes added."""
        before = self.bytes
        self.is_refilling = False
        for piece in work:
            if piece.id not in self._gone_during_refill:
                self.add(piece)
        self.disk_due_ms = next_due_ms
        if self._noted_during_refill is not None:
            self.note_due(self._noted_during_refill)
        self._gone_during_refill.clear()
        return self.bytes - before
