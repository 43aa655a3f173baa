"""The benchmark `idle`: how soon a daemon with 10,000 endpoints is ready, and what it costs while nothing happens.

At the end one event goes to all of them: what was idle was not dead. The bare pipeline knows no endpoints and costs
nothing when idle; it only says how fast the machine is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

from bench import disk
from bench.counting import check, check_database
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import Scene, bounded, staged
from bench.subjects import Endpoint
from bench.throughput import yardstick

DEFAULTS = {"seconds": 60}
ENDPOINTS = 10_000


def run(plan: Plan) -> Report:
    """Run the bare pipeline as a yardstick of the machine, then let the daemon stand for `plan.seconds`."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        bare = await yardstick(plan, workplace)
        figures = await bounded("idle", _measure(plan, disk.room(workplace, "idle")), seconds=plan.seconds)
    return {
        "benchmark": "idle",
        "about": f"{ENDPOINTS:,} declared endpoints, no events for {plan.seconds} s, then one for all",
        **about,
        "figures": {**figures, "bare: CPU µs per event": bare.cpu_us_per_event},
        "goals": [goal("processor, percent of one", figures["processor %"], at_most=0.5)],
    }


async def _measure(plan: Plan, directory: Path) -> dict[str, float]:
    scene = Scene(endpoints=[Endpoint(path=f"/hook/{number}") for number in range(ENDPOINTS)], receiver=("--by-path",))
    async with staged("daemon", plan, directory, scene) as stage:
        await stage.subject.rest()
        switches_before = stage.subject.wakeups()
        cpu_before, since = stage.subject.cpu_seconds(), monotonic()
        await asyncio.sleep(plan.seconds)
        seconds = monotonic() - since
        used = (stage.subject.cpu_seconds() - cpu_before) / seconds
        woken = (stage.subject.wakeups() - switches_before) / seconds
        resident = stage.subject.resident_bytes()
        load = await stage.hand_in(1, deliveries=ENDPOINTS)
        seen = await stage.conclude()
    check(load, seen, events=1, deliveries=ENDPOINTS)
    check_database(stage.place.database, {"delivered": ENDPOINTS})
    return {
        "ready after s": stage.ready_seconds,
        "processor %": used * 100,
        "wakeups per second": woken,
        "resident MiB": resident / 2**20,
        "then one event for all, s": seen["last_at"] - load["started_at"],
    }
