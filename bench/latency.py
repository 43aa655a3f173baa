"""The benchmark `latency`: how long acceptance and delivery take at a steady thousand events a second.

A producer that is kept waiting counts from the moment its event was due, so nothing is gained by taking in less.
Deliveries count from the moment an event is handed in, not from its acceptance: they may overtake the answer.
"""

from __future__ import annotations

from pathlib import Path

from bench import disk
from bench.counting import check, check_database
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import WARM_UP_EVENTS, Scene, bounded, staged
from bench.throughput import yardstick

RATE = 1000


def run(plan: Plan) -> Report:
    """Run the bare pipeline at full speed as a yardstick of the machine, then bare and daemon at the steady rate."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        figures = {"bare: events per second at most": (await yardstick(plan, workplace)).events_per_second}
        for name in ("bare", "daemon"):
            work = _measure(name, plan, disk.room(workplace, f"steady-{name}"))
            measured = await bounded(name, work, seconds=plan.seconds)
            figures |= {f"{name}: {what}": value for what, value in measured.items()}
    return {
        "benchmark": "latency",
        "about": f"{RATE:,} events a second for {plan.seconds} s over {plan.connections} connections ({plan.socket})",
        **about,
        "figures": figures,
        "goals": [
            goal("accept p99, ms", figures["daemon: accept p99 ms"], at_most=20),
            goal("handed in to received p50, ms", figures["daemon: handed in to received p50 ms"], at_most=5),
            goal("handed in to received p99, ms", figures["daemon: handed in to received p99 ms"], at_most=40),
        ],
    }


async def _measure(name: str, plan: Plan, directory: Path) -> dict[str, float]:
    events = RATE * plan.seconds
    profile = plan.profile if name == "daemon" else None
    async with staged(name, plan, directory, Scene(receiver=("--times",)), profile=profile) as stage:
        await stage.warm_up(WARM_UP_EVENTS)
        load = await stage.hand_in(events, rate=RATE, times=True)
        seen = await stage.conclude()
    check(load, seen, events=events)
    check_database(stage.place.database, {"delivered": events + WARM_UP_EVENTS})
    arrived = dict(zip(seen["ids"], seen["first_at"], strict=True))
    accept = sorted(answered - sent for sent, answered in zip(load["sent_at"], load["answered_at"], strict=True))
    onward = sorted(arrived[one] - sent for one, sent in zip(load["ids"], load["sent_at"], strict=True))
    return {
        "accept p50 ms": percentile(accept, 50) * 1000,
        "accept p99 ms": percentile(accept, 99) * 1000,
        "handed in to received p50 ms": percentile(onward, 50) * 1000,
        "handed in to received p99 ms": percentile(onward, 99) * 1000,
    }


def percentile(ordered: list[float], percent: float) -> float:
    """Return the value that `percent` of an ordered list do not exceed; the list must not be empty."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
