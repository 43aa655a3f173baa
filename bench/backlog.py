"""The benchmark `backlog`: a start with a million deliveries overdue, and whether they slow down what is delivered.

The same load over a thousand endpoints is handed in twice, to an empty database and to one with the backlog. In both
cases what counts is how many deliveries a second arrive while it is handed in; with the backlog most of them are old.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from time import monotonic
from typing import Any

from bench import disk
from bench.filling import fill
from bench.plan import Plan, circumstances
from bench.processes import MeasurementError, complete
from bench.report import Report, goal
from bench.runs import Scene, bounded, staged
from bench.sample import type_of
from bench.subjects import Endpoint
from bench.throughput import LIMIT_SECONDS, in_turn

ENDPOINTS = 1000
_SCENE = Scene(endpoints=[Endpoint(type=type_of(number)) for number in range(ENDPOINTS)])


def run(plan: Plan) -> Report:
    """Run the bare pipeline as a yardstick of the machine, then the daemon without and with `plan.pending`."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        yardstick = (await in_turn(plan.with_subjects("bare"), workplace))["bare"]
        empty = await bounded("an empty database", LIMIT_SECONDS, _measure(plan, disk.room(workplace, "empty"), 0))
        full = await bounded("a backlog", 2 * LIMIT_SECONDS, _measure(plan, disk.room(workplace, "full"), plan.pending))
    figures = {
        "bare: events per second": yardstick.events_per_second,
        **{f"empty: {what}": value for what, value in empty.items()},
        **{f"{plan.pending:,} pending: {what}": value for what, value in full.items()},
    }
    return {
        "benchmark": "backlog",
        "about": f"{plan.pending:,} pending over {ENDPOINTS:,} endpoints, {plan.events:,} new events meanwhile",
        **about,
        "figures": figures,
        "goals": [
            goal("ready after, s", full["ready after s"], at_most=3),
            goal("resident memory, MiB", full["resident MiB"], at_most=256),
            goal(
                "deliveries per second, with backlog / empty",
                full["deliveries per second"] / empty["deliveries per second"],
                at_least=0.8,
            ),
        ],
    }


async def _measure(plan: Plan, directory: Path, pending: int) -> dict[str, float]:
    if pending:
        async with staged("daemon", plan, directory, _SCENE):
            pass
        await asyncio.to_thread(fill, directory / "bench.db", pending, endpoints=ENDPOINTS, pending=True)
    begun = monotonic()
    async with staged("daemon", plan, directory, _SCENE, profile=plan.profile) as stage:
        ready_seconds = monotonic() - begun
        await stage.lanes_open()
        before = await stage.receiver.ask("count")
        load = await stage.hand_in(plan.events, types=ENDPOINTS, deliveries=0 if pending else None)
        after = await stage.receiver.ask("count")
        # What was resident at most, the start included.
        resident = stage.subject.most_resident_bytes()
        await stage.subject.stop()
        seen = await stage.receiver.ask("report")
    _check(load, seen, stage.place.database, owed=pending + plan.events)
    until = after["at"] if pending else after["last_at"]
    return {
        "ready after s": ready_seconds,
        "resident MiB": resident / 2**20,
        "deliveries per second": (after["requests"] - before["requests"]) / (until - load["started_at"]),
        "accept p99 ms": load["accept_p99_ms"],
    }


def _check(load: dict[str, Any], seen: dict[str, Any], database: Path, *, owed: int) -> None:
    """Raise MeasurementError unless what is recorded as delivered came once, and all else is still pending."""
    if load["refused"] or seen["duplicates"] or seen["complaints"]:
        counts = {key: seen[key] for key in ("requests", "duplicates", "complaints")}
        raise MeasurementError(f"received: {counts}, refused {load['refused']}")
    with contextlib.closing(sqlite3.connect(database)) as db:
        states = dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY state"))
    expected = {"delivered": seen["requests"], "pending": owed - seen["requests"]}
    if states != {state: number for state, number in expected.items() if number}:
        raise MeasurementError(f"{seen['requests']} of {owed} deliveries came; the database holds {states}")
