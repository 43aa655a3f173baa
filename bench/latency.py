"""The benchmark `latency`: how long acceptance and delivery take at a steady thousand events a second."""

from __future__ import annotations

from pathlib import Path

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report, goal
from bench.runs import Scene, bounded, check, staged
from bench.throughput import LIMIT_SECONDS, in_turn

RATE = 1000


def run(plan: Plan) -> Report:
    """Run the bare pipeline at full speed as a yardstick of the machine, then bare and daemon at the steady rate."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        yardstick = (await in_turn(plan.with_subjects("bare"), workplace))["bare"]
        figures = {"bare: events per second at most": yardstick.events_per_second}
        for name in ("bare", "daemon"):
            directory = disk.room(workplace, f"steady-{name}")
            measured = await bounded(name, plan.seconds + LIMIT_SECONDS, _measure(name, plan, directory))
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
        await stage.warm_up()
        load = await stage.hand_in(events, rate=RATE, times=True)
        seen = await stage.receiver.ask("report")
    check(load, seen, events=events)
    arrived = dict(zip(seen["ids"], seen["first_at"], strict=True))
    accept = sorted(answered - sent for sent, answered in zip(load["sent_at"], load["answered_at"], strict=True))
    # From the moment it was handed in: a delivery may well overtake the answer to its producer.
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
