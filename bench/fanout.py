"""The benchmark `fanout`: each event goes to a hundred endpoints, and the rate is that of deliveries."""

from __future__ import annotations

from pathlib import Path

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report
from bench.runs import Scene, bounded, check, check_database, staged
from bench.subjects import Endpoint
from bench.throughput import LIMIT_SECONDS, in_turn

ENDPOINTS = 100
_WARM_UP = 10


def run(plan: Plan) -> Report:
    """Run the bare pipeline with single events for comparison, then the daemon with as many deliveries."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    events = max(1, plan.events // ENDPOINTS)
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        bare = await in_turn(plan.with_subjects("bare"), workplace)
        directory = disk.room(workplace, "fanout")
        figures = await bounded("fanout", LIMIT_SECONDS, _measure(plan, directory, events))
    yardstick = bare["bare"]
    return {
        "benchmark": "fanout",
        "about": f"{events:,} events to {ENDPOINTS} endpoints each",
        **about,
        "figures": {
            **figures,
            "bare: deliveries per second": yardstick.events_per_second,
            "bare: CPU µs per delivery": yardstick.cpu_us_per_event,
        },
    }


async def _measure(plan: Plan, directory: Path, events: int) -> dict[str, float]:
    scene = Scene(endpoints=[Endpoint(path=f"/hook/{number}") for number in range(ENDPOINTS)], receiver=("--by-path",))
    async with staged("daemon", plan, directory, scene, profile=plan.profile) as stage:
        await stage.lanes_open()
        await stage.warm_up(_WARM_UP, deliveries=_WARM_UP * ENDPOINTS)
        cpu_before = stage.subject.cpu_seconds()
        load = await stage.hand_in(events, deliveries=events * ENDPOINTS)
        await stage.subject.rest()
        cpu_seconds = stage.subject.cpu_seconds() - cpu_before
        seen = await stage.receiver.ask("report")
    check(load, seen, events=events, copies=ENDPOINTS)
    check_database(stage.place.database, (events + _WARM_UP) * ENDPOINTS)
    deliveries = events * ENDPOINTS
    return {
        "deliveries per second": deliveries / (seen["last_at"] - load["started_at"]),
        "CPU µs per delivery": cpu_seconds / deliveries * 1e6,
    }
