"""The benchmark `instruments`: the load against a receiver that pretends to accept events, and nothing between them.

It shows what the instruments of `throughput` can do at most, and what they cost: both together have to fit on what the
subject leaves of the machine.
"""

from __future__ import annotations

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import MeasurementError, child, complete
from bench.report import Report
from bench.runs import RECEIVER, bounded

DEFAULTS = {"events": 100_000}


def run(plan: Plan) -> Report:
    """Run once."""
    return complete(bounded("instruments", _run(plan), events=plan.events))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as directory:
        about = circumstances(plan, directory)
        async with child([*RECEIVER, "--status", "202"], directory) as receiver:
            port = (await receiver.read())["port"]
            before = await receiver.ask("report")
            arguments = ["--events", str(plan.events), "--connections", str(plan.connections)]
            async with child(["-m", "bench.load", "--to", f"tcp:127.0.0.1:{port}", *arguments], directory) as load:
                report = await load.read()
            seen = await receiver.ask(f"await {plan.events}")
    if report["accepted"] != plan.events or seen["requests"] != plan.events:
        raise MeasurementError(f"{report['accepted']} accepted and {seen['requests']} seen of {plan.events} events")
    return {
        "benchmark": "instruments",
        "about": f"{plan.events:,} requests over {plan.connections} connections, without a subject",
        **about,
        "figures": {
            "requests per second": plan.events / (report["finished_at"] - report["started_at"]),
            "load: CPU µs per event": report["cpu_seconds"] / plan.events * 1e6,
            "receiver: CPU µs per event": (seen["cpu_seconds"] - before["cpu_seconds"]) / plan.events * 1e6,
        },
    }
