"""The benchmark `idle`: how soon a daemon with 10,000 endpoints is ready, and what it costs while nothing happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import Scene, bounded, staged
from bench.subjects import Endpoint
from bench.throughput import LIMIT_SECONDS, in_turn

ENDPOINTS = 10_000


def run(plan: Plan) -> Report:
    """Run the bare pipeline as a yardstick of the machine, then let the daemon stand for `plan.seconds`."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        yardstick = (await in_turn(plan.with_subjects("bare"), workplace))["bare"]
        directory = disk.room(workplace, "idle")
        figures = await bounded("idle", plan.seconds + LIMIT_SECONDS, _measure(plan, directory))
    return {
        "benchmark": "idle",
        "about": f"{ENDPOINTS:,} declared endpoints, no events for {plan.seconds} s",
        **about,
        "figures": {**figures, "bare: CPU µs per event": yardstick.cpu_us_per_event},
        "goals": [goal("processor, percent of one", figures["processor %"], at_most=0.5)],
    }


async def _measure(plan: Plan, directory: Path) -> dict[str, float]:
    scene = Scene(endpoints=[Endpoint(path=f"/hook/{number}") for number in range(ENDPOINTS)])
    begun = monotonic()
    async with staged("daemon", plan, directory, scene) as stage:
        ready_seconds = monotonic() - begun
        await stage.subject.rest()
        cpu_before, since = stage.subject.cpu_seconds(), monotonic()
        await asyncio.sleep(plan.seconds)
        used = (stage.subject.cpu_seconds() - cpu_before) / (monotonic() - since)
        return {
            "ready after s": ready_seconds,
            "processor %": used * 100,
            "resident MiB": stage.subject.resident_bytes() / 2**20,
        }
