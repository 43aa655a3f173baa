"""The benchmark `growth`: what an event takes on disk, and whether a history of millions slows the daemon down.

The first hundred thousand events of an empty database are measured in turn with as many after a history of millions,
which was put there by SQL. The bare pipeline runs beside them on an empty database and only says how fast the machine
is: its promise ends with a delivery, and nobody would let its file grow.
"""

from __future__ import annotations

from dataclasses import asdict

from bench import disk
from bench.filling import bytes_in_use, filled
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import WARM_UP_EVENTS, bounded, staged
from bench.throughput import Result, measure, ratio, typical, yardstick

DEFAULTS = {"events": 100_000}
_FILLED_PER_SECOND = 5_000


def run(plan: Plan) -> Report:
    """Run the bare pipeline, then `rounds` times the daemon on an empty database and on one with `plan.rows` events."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    empty: list[Result] = []
    grown: list[Result] = []
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        bare = await yardstick(plan, workplace)
        full = disk.room(workplace, "full")
        async with staged("daemon", plan, full):
            pass
        work = filled(full / "bench.db", plan.rows, endpoints=1, pending=False)
        await bounded("filling", work, seconds=plan.rows / _FILLED_PER_SECOND)
        for turn in range(plan.rounds):
            directory = disk.room(workplace, f"empty-{turn}")
            empty.append(await measure("daemon", plan, directory))
            grown.append(await measure("daemon", plan, full, already=plan.rows + turn * (plan.events + WARM_UP_EVENTS)))
        taken = bytes_in_use(workplace / "empty-0" / "bench.db")
    shown = {"bare": bare, "daemon": typical(empty), f"daemon, {plan.rows:,}": typical(grown)}
    return {
        "benchmark": "growth",
        "about": f"{plan.events:,} events on an empty database and on one with {plan.rows:,} delivered before",
        **about,
        "runs": {name: asdict(result) for name, result in shown.items()},
        "figures": {"bytes on disk per event": taken / (plan.events + WARM_UP_EVENTS)},
        "goals": [
            goal(
                f"events per second, {plan.rows:,} rows / empty",
                ratio(grown, empty, "events_per_second"),
                at_least=0.85,
            )
        ],
    }
