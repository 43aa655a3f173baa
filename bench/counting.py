"""What has to hold for a run to count: every event accepted, and every delivery made exactly once, as handed in."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.processes import MeasurementError


def check(load: dict[str, Any], seen: dict[str, Any], *, events: int, deliveries: int | None = None) -> None:
    """Raise MeasurementError unless each of `events` events was accepted, and as many deliveries came, none twice.

    With `deliveries` there are more or fewer of them than events: several to each, which the receiver tells apart by
    their paths, or none for events whose receivers hang.
    """
    owed = events if deliveries is None else deliveries
    wrong = [f"{count} were answered {status}, not 202" for status, count in load["refused"].items()]
    accepted, delivered = set(load["ids"]), {one.partition(" ")[0] for one in seen["ids"]}
    if load["accepted"] != len(accepted):
        wrong.append(f"{load['accepted']} were accepted under only {len(accepted)} ids")
    if not wrong and len(accepted) != events:
        wrong.append(f"{len(accepted)} were accepted of {events} events")
    if owed >= events and (lost := accepted - delivered):
        wrong.append(f"{len(lost)} were accepted and not delivered, such as {min(lost)}")
    if strange := delivered - accepted:
        wrong.append(f"{len(strange)} were delivered and not accepted, such as {min(strange)}")
    wrong += _repeated(seen)
    if not wrong and seen["requests"] != owed:
        wrong.append(f"{seen['requests']} deliveries came of {owed}")
    _complain(wrong + _unlike_what_was_handed_in(seen))


def check_backlog(load: dict[str, Any], seen: dict[str, Any], database: Path, *, events: int, owed: int) -> None:
    """Raise MeasurementError unless what is recorded as delivered is what came, once, and all else is still pending."""
    wrong = [f"{count} were answered {status}, not 202" for status, count in load["refused"].items()]
    if load["accepted"] != events or len(set(load["ids"])) != events:
        wrong.append(f"{load['accepted']} were accepted of {events} events")
    _complain(wrong + _repeated(seen) + _unlike_what_was_handed_in(seen))
    check_database(database, {"delivered": seen["requests"], "pending": owed - seen["requests"]})


def check_database(path: Path, expected: Mapping[str, int], *, where: str = "true") -> None:
    """Raise MeasurementError unless the database a subject left behind holds these numbers of deliveries by state."""
    states = states_in(path, where=where)
    if states != {state: number for state, number in expected.items() if number}:
        raise MeasurementError(f"the deliveries in the database are {states}, not {dict(expected)}")


def states_in(path: Path, *, where: str = "true") -> dict[str, int]:
    """Return how many deliveries there are in each state; `where` is a condition in SQL."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute(f"SELECT state, count(*) FROM deliveries WHERE {where} GROUP BY state"))  # noqa: S608


def _repeated(seen: dict[str, Any]) -> list[str]:
    return [f"{seen[key]} deliveries came twice" for key in ("duplicates", "held_twice") if seen[key]]


def _unlike_what_was_handed_in(seen: dict[str, Any]) -> list[str]:
    return [*seen["complaints"], *([] if seen["checked"] else ["no delivery was looked at"])]


def _complain(wrong: list[str]) -> None:
    if wrong:
        raise MeasurementError("; ".join(wrong))
