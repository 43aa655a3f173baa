"""The benchmark `throughput`: single events in, signed deliveries out, the daemon beside the bare pipeline.

A producer with C connections hands in N events, each in a request of its own, to a subject with one endpoint. The time
is that from the first request to the last delivery received, all of them exactly once. The processor time is that of
the subject with all its threads, until it has come to rest, so that bookkeeping after the last delivery counts as well.
A thousand events go ahead unmeasured: neither connections, nor statements, nor code are new when the clock starts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import ONE_ENDPOINT, WARM_UP_EVENTS, Scene, bounded, check, check_database, staged

LIMIT_SECONDS = 120.0
"""Longest that one run of one subject may take, its start and end included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run of one subject came to."""

    events_per_second: float
    cpu_us_per_event: float
    accept_p50_ms: float
    accept_p99_ms: float
    load_us_per_event: float
    receiver_us_per_event: float


def run(plan: Plan) -> Report:
    """Run every subject in turn, `rounds` times, each on a fresh database; MeasurementError if a run does not count."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        results = await in_turn(plan, workplace)
    return {
        "benchmark": "throughput",
        "about": f"{plan.events:,} events from {plan.connections} connections ({plan.socket}) to one endpoint",
        **about,
        "runs": {name: asdict(result) for name, result in results.items()},
        "goals": goals(results),
    }


async def in_turn(plan: Plan, workplace: Path) -> dict[str, Result]:
    """Run every subject of the plan in turn, `rounds` times, and return the run in the middle of each."""
    results: dict[str, list[Result]] = {name: [] for name in plan.subjects}
    for turn in range(plan.rounds):
        for name in plan.subjects:
            directory = disk.room(workplace, f"{name}-{turn}")
            results[name].append(await bounded(name, LIMIT_SECONDS, measure(name, plan, directory)))
    return {name: middle_of(runs) for name, runs in results.items()}


async def measure(
    name: str, plan: Plan, directory: Path, scene: Scene = ONE_ENDPOINT, *, batch: int = 1, already: int = 0
) -> Result:
    """Run one subject once, in a directory whose database, if there is one, holds `already` delivered events."""
    profile = plan.profile if name == "daemon" else None
    async with staged(name, plan, directory, scene, profile=profile) as stage:
        await stage.warm_up(batch=batch)
        before = await stage.receiver.ask("count")
        cpu_before = stage.subject.cpu_seconds()
        load = await stage.hand_in(plan.events, batch=batch)
        await stage.subject.rest()
        cpu_seconds = stage.subject.cpu_seconds() - cpu_before
        seen = await stage.receiver.ask("report")
    check(load, seen, events=plan.events)
    check_database(stage.place.database, already + plan.events + WARM_UP_EVENTS)
    return Result(
        events_per_second=plan.events / (seen["last_at"] - load["started_at"]),
        cpu_us_per_event=cpu_seconds / plan.events * 1e6,
        accept_p50_ms=load["accept_p50_ms"],
        accept_p99_ms=load["accept_p99_ms"],
        load_us_per_event=load["cpu_seconds"] / plan.events * 1e6,
        receiver_us_per_event=(seen["cpu_seconds"] - before["cpu_seconds"]) / plan.events * 1e6,
    )


def middle_of(runs: list[Result]) -> Result:
    """Return the run with the median processor time per event (the lower one of two)."""
    ordered = sorted(runs, key=lambda run: run.cpu_us_per_event)
    return ordered[(len(ordered) - 1) // 2]


def goals(results: dict[str, Result]) -> list[dict[str, Any]]:
    """Return the daemon divided by the bare pipeline, where both ran."""
    if len(results) < 2:
        return []
    bare, daemon = results["bare"], results["daemon"]
    return [
        goal("CPU per event, daemon / bare", daemon.cpu_us_per_event / bare.cpu_us_per_event, at_most=1.6),
        goal("events per second, daemon / bare", daemon.events_per_second / bare.events_per_second, at_least=0.6),
    ]
