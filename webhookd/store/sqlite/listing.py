"""The list of every endpoint's deliveries, which follows the deliveries themselves at a distance."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson

LIST_EVERY_ROWS = 4096
"""Deliveries that may be accepted before they are copied; also about how many a list must look through at its start."""

LISTED_UPTO = "SELECT value FROM figures WHERE name = 'listed_upto'"

_LIST = """
INSERT INTO endpoint_deliveries (endpoint_id, delivery_id)
SELECT endpoint_id, id FROM deliveries NOT INDEXED WHERE id > ? ORDER BY endpoint_id, id
"""

_MARK = "UPDATE figures SET value = (SELECT max(id) FROM deliveries) WHERE name = 'listed_upto'"

_LIST_LATE = """
INSERT INTO endpoint_deliveries (endpoint_id, delivery_id)
SELECT value ->> 0, value ->> 1 FROM json_each(?)
WHERE value ->> 1 <= (SELECT figures.value FROM figures WHERE name = 'listed_upto')
"""

UNLIST = """
DELETE FROM endpoint_deliveries WHERE endpoint_id = ? AND delivery_id IN (SELECT value FROM json_each(?))
"""


class Listed:
    """How far the list is complete: read once, since only the writer moves it."""

    def __init__(self) -> None:
        self._upto: int | None = None

    def upto(self, db: sqlite3.Connection) -> int:
        """Return the delivery up to which the list is complete."""
        if self._upto is None:
            (self._upto,) = db.execute(LISTED_UPTO).fetchone()
        return self._upto

    def catch_up(self, db: sqlite3.Connection) -> None:
        """Copy every delivery that is not in the list yet; the last thing to be done in its transaction."""
        if db.execute(_LIST, (self.upto(db),)).rowcount > 0:
            db.execute(_MARK)
            # Read again once this is committed, or was not.
            self._upto = None


def list_late(db: sqlite3.Connection, deliveries: Sequence[tuple[str, int]]) -> None:
    """Copy those of `deliveries`, just inserted, whose ids lie below what is complete: minted early, committed late."""
    db.execute(_LIST_LATE, (orjson.dumps(deliveries).decode(),))


def unlist(db: sqlite3.Connection, deliveries: Sequence[tuple[str, int]]) -> None:
    """Forget deliveries that were deleted."""
    # One endpoint at a time: by pairs SQLite would look through all that the endpoint has.
    of_endpoint: dict[str, list[int]] = {}
    for endpoint_id, delivery_id in deliveries:
        of_endpoint.setdefault(endpoint_id, []).append(delivery_id)
    for endpoint_id, delivery_ids in of_endpoint.items():
        db.execute(UNLIST, (endpoint_id, orjson.dumps(delivery_ids).decode()))
