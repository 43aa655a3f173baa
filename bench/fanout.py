"""The benchmark `fanout`: each event goes to a hundred endpoints, and the rate is that of deliveries.

The bare pipeline has one endpoint, so what stands beside is its rate of single events, each delivered once.
"""

from __future__ import annotations

from pathlib import Path

from bench import disk
from bench.counting import check, check_database
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report
from bench.runs import Scene, bounded, staged
from bench.subjects import Endpoint
from bench.throughput import yardstick

DEFAULTS = {"events": 50_000}
ENDPOINTS = 100
_WARM_UP = 10


def run(plan: Plan) -> Report:
    """Run the bare pipeline with single events for comparison, then the daemon with `plan.events` deliveries."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    events = max(1, plan.events // ENDPOINTS)
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        bare = await yardstick(plan, workplace)
        figures = await bounded("fanout", _measure(plan, disk.room(workplace, "fanout"), events), events=plan.events)
    return {
        "benchmark": "fanout",
        "about": f"{events:,} events to {ENDPOINTS} endpoints each, the lanes open",
        **about,
        "figures": {
            **figures,
            "bare: deliveries per second": bare.events_per_second,
            "bare: CPU µs per delivery": bare.cpu_us_per_event,
        },
    }


async def _measure(plan: Plan, directory: Path, events: int) -> dict[str, float]:
    scene = Scene(endpoints=[Endpoint(path=f"/hook/{number}") for number in range(ENDPOINTS)], receiver=("--by-path",))
    deliveries = events * ENDPOINTS
    async with staged("daemon", plan, directory, scene, profile=plan.profile) as stage:
        await stage.lanes_open()
        await stage.warm_up(_WARM_UP, deliveries=_WARM_UP * ENDPOINTS)
        cpu_before = stage.subject.cpu_seconds()
        load = await stage.hand_in(events, deliveries=deliveries)
        await stage.subject.rest()
        cpu_seconds = stage.subject.cpu_seconds() - cpu_before
        seen = await stage.conclude()
    check(load, seen, events=events, deliveries=deliveries)
    check_database(stage.place.database, {"delivered": deliveries + _WARM_UP * ENDPOINTS})
    return {
        "deliveries per second": deliveries / (seen["last_at"] - load["started_at"]),
        "CPU µs per delivery": cpu_seconds / deliveries * 1e6,
    }
