"""The benchmark `growth`: what an event takes on disk, and whether a history of millions slows the daemon down."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

from bench import disk
from bench.filling import bytes_in_use, fill
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import WARM_UP_EVENTS, bounded, staged
from bench.throughput import LIMIT_SECONDS, Result, in_turn, measure, middle_of

FILL_SECONDS = 900.0


def run(plan: Plan) -> Report:
    """Run bare pipeline and daemon on empty databases, then the daemon on one with `plan.rows` delivered events."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        empty = await in_turn(plan, workplace)
        taken = bytes_in_use(workplace / "daemon-0" / "bench.db")
        grown = await bounded("filling", FILL_SECONDS, _grown(plan, disk.room(workplace, "grown")))
    return {
        "benchmark": "growth",
        "about": f"{plan.events:,} events on an empty database and on one with {plan.rows:,} delivered before",
        **about,
        "runs": {name: asdict(result) for name, result in {**empty, f"daemon, {plan.rows:,}": grown}.items()},
        "figures": {"bytes on disk per event": taken / (plan.events + WARM_UP_EVENTS)},
        "goals": [
            goal(
                f"events per second, {plan.rows:,} rows / empty",
                grown.events_per_second / empty["daemon"].events_per_second,
                at_least=0.85,
            )
        ],
    }


async def _grown(plan: Plan, directory: Path) -> Result:
    async with staged("daemon", plan, directory):
        pass
    await asyncio.to_thread(fill, directory / "bench.db", plan.rows, endpoints=1, pending=False)
    runs, rows = [], plan.rows
    for _ in range(plan.rounds):
        runs.append(await bounded("daemon", LIMIT_SECONDS, measure("daemon", plan, directory, already=rows)))
        rows += plan.events + WARM_UP_EVENTS
    return middle_of(runs)
