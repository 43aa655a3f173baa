"""The benchmark `tls`: the events of `throughput` to a receiver behind TLS, beside the same in plain text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bench import disk
from bench.plan import Plan, circumstances
from bench.processes import MeasurementError, complete
from bench.report import Report
from bench.runs import ONE_ENDPOINT, Scene
from bench.throughput import Result, measure, typical

DEFAULTS = {"events": 30_000, "rounds": 3}


def run(plan: Plan) -> Report:
    """Run bare pipeline and daemon in plain text and the daemon over TLS, with a certificate made for the run."""
    return complete(_run(plan))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        asked = {"bare": ("bare", ONE_ENDPOINT), "daemon": ("daemon", ONE_ENDPOINT)}
        asked["daemon over TLS"] = ("daemon", _certified(workplace))
        results: dict[str, list[Result]] = {name: [] for name in asked}
        for turn in range(plan.rounds):
            for number, (name, (subject, scene)) in enumerate(asked.items()):
                results[name].append(await measure(subject, plan, disk.room(workplace, f"{turn}-{number}"), scene))
    return {
        "benchmark": "tls",
        "about": f"{plan.events:,} events from {plan.connections} connections ({plan.socket}) to one endpoint",
        **about,
        "runs": {name: asdict(typical(runs)) for name, runs in results.items()},
    }


def _certified(workplace: Path) -> Scene:
    try:
        import trustme  # noqa: PLC0415 - only this benchmark needs it
    except ImportError:
        raise MeasurementError("trustme makes the certificates: pip install -e '.[test]'") from None
    authority = trustme.CA()
    certificate, ca_file = workplace / "receiver.pem", workplace / "authority.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(ca_file)
    return Scene(certificate=certificate, ca_file=ca_file)
