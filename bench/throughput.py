"""The benchmark `throughput`: single events in, signed deliveries out, the daemon beside the bare pipeline.

A producer with C connections hands in N events, each in a request of its own, to a subject with one endpoint. The time
is that from the first request to the last delivery received, all of them exactly once. The processor time is that of
the subject with all its threads, until it has come to rest, so that bookkeeping after the last delivery counts as well.
A thousand events go ahead unmeasured: neither connections, nor statements, nor code are new when the clock starts. By
then the lanes of the daemon take more at once than the one endpoint may be sent, so nothing waits for them to open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from bench import disk
from bench.counting import check, check_database
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import ONE_ENDPOINT, WARM_UP_EVENTS, Scene, bounded, staged

DEFAULTS = {"events": 20_000, "rounds": 15}
YARDSTICK_EVENTS = 20_000
_PARTS = {
    "main_user_us": "main thread, user",
    "main_system_us": "main thread, system",
    "others_user_us": "other threads, user",
    "others_system_us": "other threads, system",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run of one subject came to."""

    events_per_second: float
    cpu_us_per_event: float
    accept_p50_ms: float
    accept_p99_ms: float
    main_user_us: float
    main_system_us: float
    others_user_us: float
    others_system_us: float
    load_us_per_event: float
    receiver_us_per_event: float


def run(plan: Plan) -> Report:
    """Run every subject in turn, `rounds` times, each on a fresh database; MeasurementError if a run does not count."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        results = await in_turn(plan, workplace)
    shown = {name: typical(runs) for name, runs in results.items()}
    return {
        "benchmark": "throughput",
        "about": f"{plan.events:,} events from {plan.connections} connections ({plan.socket}) to one endpoint",
        **about,
        "runs": {name: asdict(result) for name, result in shown.items()},
        "figures": {
            f"{name}: CPU µs/event, {what}": getattr(result, key)
            for name, result in shown.items()
            for key, what in _PARTS.items()
        },
        "goals": goals(results),
    }


async def in_turn(plan: Plan, workplace: Path) -> dict[str, list[Result]]:
    """Run every subject of the plan in turn, `rounds` times."""
    results: dict[str, list[Result]] = {name: [] for name in plan.subjects}
    for turn in range(plan.rounds):
        # What a run leaves behind, such as pages still to be written, must not always fall on the same one.
        for name in plan.subjects if turn % 2 == 0 else reversed(plan.subjects):
            results[name].append(await measure(name, plan, disk.room(workplace, f"{name}-{turn}")))
    return results


async def yardstick(plan: Plan, workplace: Path) -> Result:
    """Return what the bare pipeline makes of `YARDSTICK_EVENTS`: how fast the machine is at this moment."""
    bare = plan.with_subjects("bare").with_events(min(plan.events, YARDSTICK_EVENTS))
    return await measure("bare", bare, disk.room(workplace, "yardstick"))


async def measure(
    name: str, plan: Plan, directory: Path, scene: Scene = ONE_ENDPOINT, *, batch: int = 1, already: int = 0
) -> Result:
    """Run one subject once, in a directory whose database, if there is one, holds `already` delivered events."""
    work = _measure(name, plan, directory, scene, batch=batch, already=already)
    return await bounded(name, work, events=plan.events)


async def _measure(name: str, plan: Plan, directory: Path, scene: Scene, *, batch: int, already: int) -> Result:
    profile = plan.profile if name == "daemon" else None
    async with staged(name, plan, directory, scene, profile=profile) as stage:
        await stage.warm_up(WARM_UP_EVENTS, batch=batch)
        before = await stage.receiver.ask("count")
        cpu_before = stage.subject.cpu()
        load = await stage.hand_in(plan.events, batch=batch)
        await stage.subject.rest()
        cpu = stage.subject.cpu().since(cpu_before)
        seen = await stage.conclude()
    check(load, seen, events=plan.events)
    check_database(stage.place.database, {"delivered": already + plan.events + WARM_UP_EVENTS})
    return Result(
        events_per_second=plan.events / (seen["last_at"] - load["started_at"]),
        cpu_us_per_event=sum(cpu) / plan.events * 1e6,
        **{f"{part}_us": seconds / plan.events * 1e6 for part, seconds in cpu._asdict().items()},
        accept_p50_ms=load["accept_p50_ms"],
        accept_p99_ms=load["accept_p99_ms"],
        load_us_per_event=load["cpu_seconds"] / plan.events * 1e6,
        receiver_us_per_event=(seen["cpu_seconds"] - before["cpu_seconds"]) / plan.events * 1e6,
    )


def typical(runs: list[Result]) -> Result:
    """Return the median of each figure."""
    return Result(**{field.name: median(getattr(run, field.name) for run in runs) for field in fields(Result)})


def ratio(runs: Sequence[Result], others: Sequence[Result], figure: str) -> float:
    """Return how many times a figure of `others` that of `runs` is: the median of the quotients, round by round.

    What the machine does beside it in one round falls on both, and in the next it may be something else.
    """
    pairs = zip(runs, others, strict=True)
    return median(getattr(run, figure) / getattr(other, figure) for run, other in pairs)


def goals(results: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """Return the daemon divided by the bare pipeline, where both ran."""
    if len(results) < 2:
        return []
    daemon, bare = results["daemon"], results["bare"]
    return [
        goal("CPU per event, daemon / bare", ratio(daemon, bare, "cpu_us_per_event"), at_most=1.6),
        goal("events per second, daemon / bare", ratio(daemon, bare, "events_per_second"), at_least=0.6),
    ]
