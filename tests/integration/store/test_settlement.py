"""Outcomes of every kind in one piece, written without anybody who would try again what went wrong."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.kit.builders import delivered, retried, work
from tests.kit.clock import START_MS
from tests.kit.values import replace
from webhookd.core.delivery import Work
from webhookd.store.sqlite import schema, settlement

LATER_MS = START_MS + 60_000


def owe(db: sqlite3.Connection, one: Work) -> None:
    db.execute(
        "INSERT INTO deliveries (id, event_id, endpoint_id, owed_since_ms, created_at_ms, due_at_ms)"
        " VALUES (?, ?, 'a', ?, ?, ?)",
        (one.id, one.event.id, START_MS, START_MS, START_MS),
    )


def test_what_cannot_be_changed_does_not_disturb_its_neighbours() -> None:
    """One comes twice, one was cancelled meanwhile, and one is there no more."""
    twice, once, cancelled, gone = (work() for _ in range(4))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.migrate(db, schema.migrations())
        for one in (twice, once, cancelled):
            owe(db, one)
        db.execute(
            "UPDATE deliveries SET state = 'cancelled', reason = 'operator', due_at_ms = NULL, finished_at_ms = 7"
            " WHERE id = ?",
            (cancelled.id,),
        )
        first = retried(twice, due_at_ms=LATER_MS)
        again = delivered(replace(twice, attempt_count=1, retries_used=1), at_ms=LATER_MS)
        settlement.settle(db, [first, delivered(gone), delivered(once), delivered(cancelled), again])
        assert db.execute("SELECT id, state, attempt_count, finished_at_ms FROM deliveries ORDER BY id").fetchall() == [
            (twice.id, "delivered", 2, LATER_MS),
            (once.id, "delivered", 1, START_MS),
            (cancelled.id, "cancelled", 1, 7),
        ]
        assert db.execute("SELECT delivery_id, number FROM attempts ORDER BY delivery_id, number").fetchall() == [
            (twice.id, 1),
            (twice.id, 2),
            (once.id, 1),
            (cancelled.id, 1),
        ]
