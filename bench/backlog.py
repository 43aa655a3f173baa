"""The benchmark `backlog`: a start with a million deliveries overdue, and whether they slow down what is delivered.

The same load over a thousand endpoints is handed in twice, to an empty database and to one with the backlog, each after
the lanes have opened and the connections stand. In both cases what counts is how many deliveries a second arrive while
it is handed in; with the backlog most of them are old. Before that the daemon works it off undisturbed for a while,
which shows what the reads of the backlog allow, and lets its memory grow to what it is going to be. The bare pipeline
keeps no backlog; it only says how fast the machine is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import Any

from bench import disk
from bench.counting import check, check_backlog, check_database
from bench.filling import filled
from bench.plan import Plan, circumstances
from bench.processes import MeasurementError, complete
from bench.report import Report, goal
from bench.runs import Scene, Stage, bounded, staged
from bench.sample import type_of
from bench.subjects import Endpoint
from bench.throughput import yardstick

DEFAULTS = {"events": 40_000, "seconds": 20}
ENDPOINTS = 1000
_SCENE = Scene(endpoints=[Endpoint(type=type_of(number)) for number in range(ENDPOINTS)])
_FILLED_PER_SECOND = 5_000


def run(plan: Plan) -> Report:
    """Run the bare pipeline as a yardstick of the machine, then the daemon without and with `plan.pending`."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        bare = await yardstick(plan, workplace)
        work = _without(plan, disk.room(workplace, "empty"))
        empty = await bounded("an empty database", work, events=plan.events)
        work = _with(plan, disk.room(workplace, "full"))
        seconds = plan.seconds + plan.pending / _FILLED_PER_SECOND
        full = await bounded("a backlog", work, events=plan.events, seconds=seconds)
    return {
        "benchmark": "backlog",
        "about": f"{plan.pending:,} pending over {ENDPOINTS:,} endpoints, {plan.events:,} new events meanwhile",
        **about,
        "figures": {
            "bare: events per second": bare.events_per_second,
            **{f"empty: {what}": value for what, value in empty.items()},
            **{f"{plan.pending:,} pending: {what}": value for what, value in full.items()},
        },
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


async def _without(plan: Plan, directory: Path) -> dict[str, float]:
    warm_up = 2 * ENDPOINTS
    async with staged("daemon", plan, directory, _SCENE, profile=plan.profile) as stage:
        await stage.lanes_open()
        await stage.warm_up(warm_up, types=ENDPOINTS)
        load = await stage.hand_in(plan.events, types=ENDPOINTS)
        resident = stage.subject.most_resident_bytes()
        seen = await stage.conclude()
    check(load, seen, events=plan.events)
    check_database(stage.place.database, {"delivered": plan.events + warm_up})
    return {
        "ready after s": stage.ready_seconds,
        "resident MiB": resident / 2**20,
        "deliveries per second": plan.events / (seen["last_at"] - load["started_at"]),
        **_acceptance(plan, load),
    }


async def _with(plan: Plan, directory: Path) -> dict[str, float]:
    owed = plan.pending + plan.events
    async with staged("daemon", plan, directory, _SCENE):
        pass
    await filled(directory / "bench.db", plan.pending, endpoints=ENDPOINTS, pending=True)
    async with staged("daemon", plan, directory, _SCENE, profile=plan.profile) as stage:
        await stage.lanes_open()
        alone = await _undisturbed(stage, plan)
        before = await stage.receiver.ask("count")
        load = await stage.hand_in(plan.events, types=ENDPOINTS, deliveries=0)
        after = await stage.receiver.ask("count")
        # What was resident at most, the start included.
        resident = stage.subject.most_resident_bytes()
        seen = await stage.conclude()
    check_backlog(load, seen, stage.place.database, events=plan.events, owed=owed)
    if after["requests"] >= plan.pending:
        raise MeasurementError("the backlog was gone before the end: more has to be --pending, or --seconds be fewer")
    return {
        "ready after s": stage.ready_seconds,
        "resident MiB": resident / 2**20,
        **alone,
        "deliveries per second": _rate(before, after, since=load["started_at"]),
        **_acceptance(plan, load),
        "delivered in all": seen["requests"],
    }


async def _undisturbed(stage: Stage, plan: Plan) -> dict[str, float]:
    """Let the backlog be worked off for `plan.seconds`, and return at what rate and cost that was."""
    cpu_before, begun = stage.subject.cpu_seconds(), monotonic()
    before = await stage.receiver.ask("count")
    await asyncio.sleep(plan.seconds)
    after = await stage.receiver.ask("count")
    cpu_seconds = stage.subject.cpu_seconds() - cpu_before
    return {
        "undisturbed, per second": _rate(before, after, since=begun),
        "undisturbed, CPU µs per delivery": cpu_seconds / max(1, after["requests"] - before["requests"]) * 1e6,
    }


def _acceptance(plan: Plan, load: dict[str, Any]) -> dict[str, float]:
    return {
        "accepted per second": plan.events / (load["finished_at"] - load["started_at"]),
        "accept p99 ms": load["accept_p99_ms"],
    }


def _rate(before: dict[str, Any], after: dict[str, Any], *, since: float) -> float:
    return (after["requests"] - before["requests"]) / (after["at"] - since)
