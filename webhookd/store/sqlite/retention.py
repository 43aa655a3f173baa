"""Retention: walks the oldest rows in bounded batches and deletes what is no longer kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import orjson

from webhookd.core.ids import lowest_id_at
from webhookd.core.settings import Storage
from webhookd.store.sqlite.changes import END, cancel_some
from webhookd.store.sqlite.intake import COUNT_EVENTS
from webhookd.store.sqlite.listing import unlist
from webhookd.store.sqlite.outbox import WITH_HEADS

BATCH_ROWS = 1000
HELD_TOO_LONG = "held_too_long"
"""Why a delivery is dead whose endpoint was disabled for all of `keep_dead`."""

NEXT_DELIVERIES = """
SELECT count(*), max(id) FROM (SELECT id FROM deliveries WHERE id > :after AND id < :before ORDER BY id LIMIT :limit)
"""

# By id, since there may be more disabled endpoints than rows in a batch.
END_HELD = f"""{END.format(by="NOT INDEXED")}
AND id > :after AND id <= :upto AND owed_since_ms < :dead_before
AND endpoint_id IN (SELECT id FROM endpoints WHERE disabled_reason IS NOT NULL)
"""

DELETE_DELIVERIES = """
DELETE FROM deliveries
WHERE id > :after AND id <= :upto AND finished_at_ms < iif(state = 'delivered', :delivered_before, :dead_before)
RETURNING id, event_id, endpoint_id
"""

DELETE_ATTEMPTS = "DELETE FROM attempts WHERE delivery_id IN (SELECT value FROM json_each(?))"

DELETE_EMPTIED_EVENTS = """
DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))
AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = events.id)
"""

NEXT_EVENTS = """
SELECT count(*), max(id) FROM (SELECT id FROM events WHERE id > :after AND id < :before ORDER BY id LIMIT :limit)
"""

DELETE_UNOWED_EVENTS = """
DELETE FROM events WHERE id > :after AND id <= :upto AND accepted_at_ms < :delivered_before
AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = events.id)
"""

DELETE_KEYS = """
DELETE FROM idempotency
WHERE event_id IN (SELECT event_id FROM idempotency ORDER BY event_id LIMIT ?) AND expires_at_ms <= ?
"""

# Left by an event that was matched while its endpoint was being removed.
_FIND_ORPHAN = f"""{WITH_HEADS}
SELECT endpoint_id FROM head
WHERE endpoint_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM endpoints AS p WHERE p.id = head.endpoint_id) LIMIT 1
"""


class Retention:
    """One round after the other over the file; where a round stands is kept in memory only.

    A delivery is kept from its end: `keep_delivered` if it was delivered, else `keep_dead`, which also bounds how long
    one may be held. An event goes with its last delivery, or after `keep_delivered` if it never had any.
    """

    def __init__(self, storage: Storage) -> None:
        self.apply(storage)
        self._steps: tuple[Callable[[sqlite3.Connection, int], int], ...] = (
            self._deliveries,
            self._events,
            self._keys,
            self._orphans,
        )
        self._step = 0
        self._after = 0

    def apply(self, storage: Storage) -> None:
        """Keep for as long as `storage` says, from the next batch on."""
        self._keep_delivered_ms = round(storage.keep_delivered_seconds * 1000)
        self._keep_dead_ms = round(storage.keep_dead_seconds * 1000)

    def prune(self, db: sqlite3.Connection, *, now_ms: int) -> int:
        """Do one batch; return the rows looked at, 0 when the round is complete and the next call starts another."""
        while self._step < len(self._steps):
            looked_at = self._steps[self._step](db, now_ms)
            if looked_at:
                return looked_at
            self._step += 1
            self._after = 0
        self._step = 0
        return 0

    def _deliveries(self, db: sqlite3.Connection, now_ms: int) -> int:
        values = self._values(now_ms, keep_ms=min(self._keep_delivered_ms, self._keep_dead_ms))
        looked_at, upto = db.execute(NEXT_DELIVERIES, values).fetchone()
        if not looked_at:
            return 0
        values["upto"] = upto
        db.execute(END_HELD, {**values, "state": "dead", "reason": HELD_TOO_LONG})
        gone = db.execute(DELETE_DELIVERIES, values).fetchall()
        if gone:
            db.execute(DELETE_ATTEMPTS, (_json([delivery_id for delivery_id, _, _ in gone]),))
            unlist(db, [(endpoint_id, delivery_id) for delivery_id, _, endpoint_id in gone])
            emptied = _json(sorted({event_id for _, event_id, _ in gone}))
            self._uncount(db, db.execute(DELETE_EMPTIED_EVENTS, (emptied,)).rowcount)
        self._after = upto
        return int(looked_at)

    def _events(self, db: sqlite3.Connection, now_ms: int) -> int:
        values = self._values(now_ms, keep_ms=self._keep_delivered_ms)
        looked_at, upto = db.execute(NEXT_EVENTS, values).fetchone()
        if looked_at:
            self._uncount(db, db.execute(DELETE_UNOWED_EVENTS, {**values, "upto": upto}).rowcount)
            self._after = upto
        return int(looked_at)

    def _keys(self, db: sqlite3.Connection, now_ms: int) -> int:
        return db.execute(DELETE_KEYS, (BATCH_ROWS, now_ms)).rowcount

    def _orphans(self, db: sqlite3.Connection, now_ms: int) -> int:
        row = db.execute(_FIND_ORPHAN).fetchone()
        return 0 if row is None else len(cancel_some(db, row[0], limit=BATCH_ROWS, now_ms=now_ms))

    def _values(self, now_ms: int, *, keep_ms: int) -> dict[str, object]:
        # Nothing ends before it began, and ids carry the time of that: younger rows need not even be looked at.
        return {
            "after": self._after,
            "before": lowest_id_at(now_ms - keep_ms),
            "limit": BATCH_ROWS,
            "now_ms": now_ms,
            "delivered_before": now_ms - self._keep_delivered_ms,
            "dead_before": now_ms - self._keep_dead_ms,
        }

    @staticmethod
    def _uncount(db: sqlite3.Connection, events: int) -> None:
        if events:
            db.execute(COUNT_EVENTS, (-events,))


def _json(ids: list[int]) -> str:
    return orjson.dumps(ids).decode()
