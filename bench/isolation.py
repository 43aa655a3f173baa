"""The benchmark `isolation`: what endpoints that answer notice of a fifth of all endpoints that hang.

Two thousand endpoints get 300 events a second in turn. Every fifth answers only after 14 seconds, just before the
timeout. What counts is the time from the answer to the producer until the request arrives at a healthy endpoint.
"""

from __future__ import annotations

from pathlib import Path

from bench import disk
from bench.latency import percentile
from bench.plan import Plan, circumstances
from bench.processes import MeasurementError, complete
from bench.report import Report, goal
from bench.runs import Scene, bounded, staged
from bench.sample import type_of
from bench.subjects import Endpoint
from bench.throughput import LIMIT_SECONDS, in_turn

ENDPOINTS = 2000
EVERY_TARPIT = 5
RATE = 300


def run(plan: Plan) -> Report:
    """Run the bare pipeline as a yardstick of the machine, then the daemon among tarpits for `plan.seconds`."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        yardstick = (await in_turn(plan.with_subjects("bare"), workplace))["bare"]
        directory = disk.room(workplace, "isolation")
        figures = await bounded("isolation", plan.seconds + LIMIT_SECONDS, _measure(plan, directory))
    return {
        "benchmark": "isolation",
        "about": f"{RATE} events a second for {plan.seconds} s over {ENDPOINTS:,} endpoints, every fifth a tarpit",
        **about,
        "figures": {**figures, "bare: events per second at most": yardstick.events_per_second},
        "goals": [goal("healthy endpoints, accept to arrival p99, s", figures["healthy p99 ms"] / 1000, at_most=1)],
    }


async def _measure(plan: Plan, directory: Path) -> dict[str, float]:
    scene = Scene(
        endpoints=[
            Endpoint(path=f"/tarpit/{number}" if number % EVERY_TARPIT == 0 else "/hook", type=type_of(number))
            for number in range(ENDPOINTS)
        ],
        receiver=("--times",),
    )
    events = RATE * plan.seconds
    healthy = sum(number % ENDPOINTS % EVERY_TARPIT != 0 for number in range(events))
    async with staged("daemon", plan, directory, scene, profile=plan.profile) as stage:
        await stage.lanes_open()
        load = await stage.hand_in(events, rate=RATE, types=ENDPOINTS, times=True, deliveries=healthy)
        seen = await stage.receiver.ask("report")
    if load["refused"] or seen["duplicates"] or seen["complaints"] or seen["requests"] != healthy:
        counts = {key: seen[key] for key in ("requests", "duplicates", "complaints")}
        raise MeasurementError(f"of {healthy} deliveries to healthy endpoints: {counts}, refused {load['refused']}")
    answered = dict(zip(load["ids"], load["answered_at"], strict=True))
    delays = sorted(max(0.0, at - answered[one]) for one, at in zip(seen["ids"], seen["first_at"], strict=True))
    return {
        "healthy p50 ms": percentile(delays, 50) * 1000,
        "healthy p99 ms": percentile(delays, 99) * 1000,
        "healthy at most ms": delays[-1] * 1000,
        "accept p99 ms": load["accept_p99_ms"],
    }
