"""The benchmark `batch`: the events of `throughput` a hundred to a request (NDJSON), beside one to a request.

Both are the daemon's: what a batch gains is measured by the daemon's own single events. The bare pipeline takes single
events only, and says here how fast the machine was.
"""

from __future__ import annotations

from dataclasses import asdict

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.throughput import Result, measure, ratio, typical

DEFAULTS = {"events": 30_000, "rounds": 5}
BATCH = 100


def run(plan: Plan) -> Report:
    """Run the bare pipeline and the daemon with single events and the daemon with batches, in turn."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    events = max(BATCH, plan.events // BATCH * BATCH)
    asked = {"bare": ("bare", 1), "daemon": ("daemon", 1), f"daemon, {BATCH} a request": ("daemon", BATCH)}
    results: dict[str, list[Result]] = {name: [] for name in asked}
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        for turn in range(plan.rounds):
            for number, (name, (subject, batch)) in enumerate(asked.items()):
                directory = disk.room(workplace, f"{turn}-{number}")
                results[name].append(await measure(subject, plan.with_events(events), directory, batch=batch))
    _, single, batched = results.values()
    return {
        "benchmark": "batch",
        "about": f"{events:,} events from {plan.connections} connections ({plan.socket}) to one endpoint",
        **about,
        "runs": {name: asdict(typical(runs)) for name, runs in results.items()},
        "goals": [
            goal(
                f"events per second, {BATCH} a request / one a request",
                ratio(batched, single, "events_per_second"),
                at_least=1.5,
            )
        ],
    }
