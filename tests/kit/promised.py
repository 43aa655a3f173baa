"""What an answered call to the store promises to keep, and what of it a database holds."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from webhookd.core.ports import Settlement, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one call to the store promises to keep, once it is answered."""

    submissions: tuple[Submission, ...] = ()
    settlements: tuple[Settlement, ...] = ()


class Contents:
    """All that a database holds of what calls promise to keep."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.events = dict(db.execute("SELECT id, payload FROM events").fetchall())
        self.deliveries = {row[0]: row[1:] for row in db.execute("SELECT id, event_id, state FROM deliveries")}
        self.keys = set(db.execute("SELECT tenant, key, event_id, fingerprint FROM idempotency").fetchall())
        self.attempts = set(db.execute("SELECT delivery_id, number FROM attempts").fetchall())
        self.counted = db.execute("SELECT value FROM figures WHERE name = 'events'").fetchone()[0]

    def missing(self, kept: Kept) -> list[str]:
        """Return what is not there of `kept`, each a few words."""
        found = []
        for one in kept.submissions:
            if self.events.get(one.event.id) != one.event.payload:
                found.append(f"event {one.event.id}")
            found += [
                f"delivery {owed_id} of event {one.event.id}"
                for owed_id, _ in one.deliveries
                if self.deliveries.get(owed_id, (None,))[0] != one.event.id
            ]
            key = (one.event.tenant, one.idempotency_key, one.event.id, one.fingerprint)
            if one.idempotency_key is not None and key not in self.keys:
                found.append(f"the key of event {one.event.id}")
        for settlement in kept.settlements:
            attempt = settlement.attempt
            if (attempt.delivery_id, attempt.number) not in self.attempts:
                found.append(f"attempt {attempt.number} of delivery {attempt.delivery_id}")
            if self.deliveries.get(attempt.delivery_id, (None, None))[1] != settlement.state:
                found.append(f"what became of delivery {attempt.delivery_id}")
        return found

    def has_any(self, kept: Kept) -> bool:
        """Say whether anything of `kept` is there."""
        return any(one.event.id in self.events for one in kept.submissions) or any(
            (one.attempt.delivery_id, one.attempt.number) in self.attempts for one in kept.settlements
        )
