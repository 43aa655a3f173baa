"""Fills the database of a daemon with what months would bring, by SQL, while no daemon has it open.

It runs as a process of its own: one that is told to stop can be killed in the middle of a million rows, a thread not.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from bench import sample
from bench.processes import child, say
from webhookd.core.ids import lowest_id_at

_BLOCK = 50_000
_DAY_MS = 24 * 60 * 60 * 1000


async def filled(database: Path, rows: int, *, endpoints: int, pending: bool) -> None:
    """Let a process of its own `fill` the database."""
    arguments = ["--database", str(database), "--rows", str(rows), "--endpoints", str(endpoints)]
    if pending:
        arguments.append("--pending")
    async with child(["-m", "bench.filling", *arguments], database.parent) as process:
        await process.read()


def fill(database: Path, rows: int, *, endpoints: int, pending: bool) -> None:
    """Add `rows` events with a delivery each, spread over the endpoints e0 and so on: due now, or delivered long ago.

    The file has to be one that a daemon has made and left. Ids are of the day before, so new ones come after them.
    """
    now_ms = int(time.time() * 1000)
    then_ms = now_ms - _DAY_MS
    first = lowest_id_at(then_ms)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for begin in range(0, rows, _BLOCK):
            numbers = range(begin, min(rows, begin + _BLOCK))
            db.execute("BEGIN")
            db.executemany(
                "INSERT INTO events (id, type, tenant, content_type, accepted_at_ms, payload) "
                "VALUES (?, ?, 'default', 'application/json', ?, ?)",
                ((first + n, sample.type_of(n % endpoints), then_ms, sample.payload(n)) for n in numbers),
            )
            db.executemany(
                "INSERT INTO deliveries (id, event_id, endpoint_id, state, attempt_count, owed_since_ms, "
                "created_at_ms, due_at_ms, finished_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _deliveries(numbers, first, then_ms, now_ms, endpoints=endpoints, pending=pending),
            )
            if not pending:
                db.executemany(
                    "INSERT INTO attempts (delivery_id, number, trigger, started_at_ms, duration_ms, status, excerpt) "
                    "VALUES (?, 1, 'scheduled', ?, 1.0, 200, x'')",
                    ((first + n, then_ms) for n in numbers),
                )
            db.execute("COMMIT")
        db.execute("INSERT INTO endpoint_deliveries SELECT endpoint_id, id FROM deliveries ORDER BY endpoint_id, id")
        db.execute("UPDATE figures SET value = value + ? WHERE name = 'events'", (rows,))
        db.execute("UPDATE figures SET value = (SELECT max(id) FROM deliveries) WHERE name = 'listed_upto'")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _deliveries(
    numbers: range, first: int, then_ms: int, now_ms: int, *, endpoints: int, pending: bool
) -> Iterator[tuple[object, ...]]:
    state = (
        ("pending", 0, then_ms, then_ms, now_ms, None) if pending else ("delivered", 1, then_ms, then_ms, None, now_ms)
    )
    return ((first + n, first + n, f"e{n % endpoints}", *state) for n in numbers)


def bytes_in_use(database: Path) -> int:
    """Return how much of the file holds something."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        pages, free, size = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


def main() -> None:
    """Fill, and print a line when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path, required=True, metavar="FILE")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--endpoints", type=int, required=True)
    parser.add_argument("--pending", action="store_true", help="all of it due now; without it, delivered long ago")
    given = parser.parse_args()
    fill(given.database, given.rows, endpoints=given.endpoints, pending=given.pending)
    say({"rows": given.rows})


if __name__ == "__main__":
    main()
