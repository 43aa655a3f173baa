"""Replaying: finding the ended deliveries of an endpoint part by part, and owing them again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import orjson

from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EndpointId, lowest_id_at
from webhookd.core.queries import ReplayFilter
from webhookd.store.sqlite.changes import OWE_AGAIN
from webhookd.store.sqlite.listing import LISTED_UPTO

WINDOW_ROWS = 20_000
"""Rows that one read looks through: some tens of milliseconds, far from the limit of a read."""

BATCH_ROWS = 1000
"""Deliveries that one transaction owes again: a replay of a million must not stop intake for seconds."""

_MAX_ID = 2**63 - 1

# What ended badly has an index across endpoints, few rows among millions that ended well; what was delivered is found
# by the endpoint's list, and above that among the few deliveries which it does not hold yet.
FIND_ENDED = """
SELECT id FROM deliveries INDEXED BY deliveries_unacknowledged
WHERE state IN ('dead', 'cancelled') AND state = '{state}' AND id > :after AND id < :below
"""
FIND_LISTED = f"""
SELECT id FROM (
    SELECT * FROM (
        SELECT delivery_id AS id FROM endpoint_deliveries
        WHERE endpoint_id = :endpoint_id AND delivery_id > :after AND delivery_id < :below
        ORDER BY delivery_id LIMIT :window
    )
    UNION ALL
    SELECT * FROM (
        SELECT id FROM deliveries NOT INDEXED
        WHERE id > ({LISTED_UPTO}) AND id > :after AND id < :below AND endpoint_id = :endpoint_id
        ORDER BY id LIMIT :window
    )
)
"""

_LOOK = "SELECT count(*), max(id) FROM ({walk} ORDER BY id LIMIT :window)"

# Ids come as one text for each type: fetching row by row, each with a fight for the interpreter, takes far longer.
_TAKE = """
SELECT {type}, json_group_array(d.id)
FROM ({walk} ORDER BY id LIMIT :window) AS c CROSS JOIN deliveries AS d ON d.id = c.id {events}
WHERE d.endpoint_id = :endpoint_id AND d.state = :state {group}
"""

REPLAY = f"""{OWE_AGAIN.format(replayed=1)}
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = :state AND endpoint_id = :endpoint_id
AND EXISTS (SELECT 1 FROM endpoints AS p WHERE p.id = :endpoint_id)
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The ids between which a replay looks, `lowest` inclusive, `below` exclusive."""

    lowest: int
    below: int

    @classmethod
    def of(cls, which: ReplayFilter, *, highest_id: int) -> Bounds:
        """Return the bounds of `which`; what is accepted from now on is above them, however long the replay takes."""
        lowest = 0 if which.since_ms is None else min(lowest_id_at(which.since_ms), _MAX_ID)
        below = highest_id + 1 if which.until_ms is None else min(highest_id + 1, lowest_id_at(which.until_ms))
        return cls(lowest, below)


def find(
    db: sqlite3.Connection, which: ReplayFilter, *, state: DeliveryState, after: int, below: int
) -> tuple[list[int], int | None]:
    """Return matching deliveries among the next rows in order of acceptance, and where to go on, None at the end."""
    walk = FIND_LISTED if state is DeliveryState.DELIVERED else FIND_ENDED.format(state=state.value)
    values: dict[str, object] = {
        "endpoint_id": which.endpoint_id,
        "state": state.value,
        "after": after,
        "below": below,
        "window": WINDOW_ROWS,
    }
    looked_at, highest = db.execute(_LOOK.format(walk=walk), values).fetchone()
    if not looked_at:
        return [], None
    if which.types:
        take = _TAKE.format(
            walk=walk, type="e.type", events="CROSS JOIN events AS e ON e.id = d.event_id", group="GROUP BY e.type"
        )
    else:
        take = _TAKE.format(walk=walk, type="''", events="", group="")
    ids: list[int] = []
    # Rows may have come or gone since the look; what came below `highest` is taken along, what is above comes next.
    for event_type, found in db.execute(take, {**values, "below": highest + 1, "window": -1}).fetchall():
        if not which.types or any(fnmatchcase(event_type, pattern) for pattern in which.types):
            ids += orjson.loads(found)
    return sorted(ids), highest if looked_at == WINDOW_ROWS else None


def owe_again(
    db: sqlite3.Connection, endpoint_id: EndpointId, *, ids: Sequence[int], state: DeliveryState, now_ms: int
) -> int:
    """Owe those of `ids` again that are still as they were found; return how many."""
    values = {"ids": orjson.dumps(ids).decode(), "endpoint_id": endpoint_id, "state": state.value, "now_ms": now_ms}
    return db.execute(REPLAY, values).rowcount
