"""The benchmark `isolation`: what endpoints that answer notice of a fifth of all endpoints that hang.

Two thousand endpoints get 300 events a second in turn. Every fifth answers only after 14 seconds, just before the
timeout. What counts is the time from the answer to the producer until the request arrives at a healthy endpoint. The
bare pipeline has one receiver and would stand still with it; it only says how fast the machine is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import disk
from bench.counting import check, check_database, states_in
from bench.latency import percentile
from bench.plan import Plan, circumstances
from bench.processes import MeasurementError, complete
from bench.report import Report, goal
from bench.runs import Scene, bounded, staged
from bench.sample import type_of
from bench.subjects import Endpoint
from bench.throughput import yardstick

DEFAULTS = {"seconds": 60}
ENDPOINTS = 2000
EVERY_TARPIT = 5
RATE = 300
TARPIT_SECONDS = 14.0


def run(plan: Plan) -> Report:
    """Run the bare pipeline as a yardstick of the machine, then the daemon among tarpits for `plan.seconds`."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        bare = await yardstick(plan, workplace)
        figures = await bounded("isolation", _measure(plan, disk.room(workplace, "isolation")), seconds=plan.seconds)
    return {
        "benchmark": "isolation",
        "about": f"{RATE} events a second for {plan.seconds} s over {ENDPOINTS:,} endpoints, every fifth a tarpit",
        **about,
        "figures": {**figures, "bare: events per second at most": bare.events_per_second},
        "goals": [goal("healthy endpoints, accept to arrival p99, s", figures["healthy p99 ms"] / 1000, at_most=1)],
    }


async def _measure(plan: Plan, directory: Path) -> dict[str, float]:
    scene = Scene(
        endpoints=[
            Endpoint(path=f"/tarpit/{number}" if _hangs(number) else "/hook", type=type_of(number))
            for number in range(ENDPOINTS)
        ],
        receiver=("--times", "--tarpit-seconds", str(TARPIT_SECONDS)),
    )
    events = RATE * plan.seconds
    healthy = sum(not _hangs(number % ENDPOINTS) for number in range(events))
    async with staged("daemon", plan, directory, scene, profile=plan.profile) as stage:
        await stage.lanes_open()
        load = await stage.hand_in(events, rate=RATE, types=ENDPOINTS, times=True, deliveries=healthy)
        seen = await stage.conclude()
    check(load, seen, events=events, deliveries=healthy)
    _check_states(seen, stage.place.database, healthy=healthy, hanging=events - healthy)
    answered = dict(zip(load["ids"], load["answered_at"], strict=True))
    # A delivery may well overtake the answer to its producer: then it came at once.
    delays = sorted(max(0.0, at - answered[one]) for one, at in zip(seen["ids"], seen["first_at"], strict=True))
    return {
        "healthy p50 ms": percentile(delays, 50) * 1000,
        "healthy p99 ms": percentile(delays, 99) * 1000,
        "healthy at most ms": delays[-1] * 1000,
        "accept p99 ms": load["accept_p99_ms"],
        "requests hanging at most": seen["most_hanging"],
    }


def _hangs(number: int) -> bool:
    return number % EVERY_TARPIT == 0


def _check_states(seen: dict[str, Any], database: Path, *, healthy: int, hanging: int) -> None:
    """Raise MeasurementError unless all is delivered but what hangs, and of that nothing is that was not sent."""
    is_tarpit = f"CAST(substr(endpoint_id, 2) AS INTEGER) % {EVERY_TARPIT} = 0"
    check_database(database, {"delivered": healthy}, where=f"NOT {is_tarpit}")
    states = states_in(database, where=is_tarpit)
    delivered = states.get("delivered", 0)
    if states.get("pending", 0) + delivered != hanging or delivered > seen["held"]:
        raise MeasurementError(f"of {hanging} deliveries to tarpits {seen['held']} came; the database holds {states}")
