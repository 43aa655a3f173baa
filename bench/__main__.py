"""The one command of the measurements: `python -m bench [NAME] [--json] [--events N] [--connections C]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

from bench import backlog, batch, disk, fanout, growth, idle, instruments, isolation, latency, throughput, tls
from bench.plan import Plan
from bench.processes import MeasurementError
from bench.report import table
from bench.subjects import SUBJECTS

BENCHMARKS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (throughput, batch, fanout, latency, backlog, isolation, idle, growth, tls, instruments)
}
MOST_EVENTS = 1_000_000
MOST_CONNECTIONS = 512


def bounded(most: int):  # noqa: ANN201 - a converter for argparse
    """Return a converter for whole numbers from 1 to `most`."""

    def number(text: str) -> int:
        value = int(text)
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from 1 to {most:,}")
        return value

    return number


def parse(arguments: list[str] | None) -> tuple[ModuleType, Plan, bool]:
    """Return the benchmark, what to run, and whether the report is wanted as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=list(BENCHMARKS), default="throughput")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--events", type=bounded(MOST_EVENTS), default=20_000, metavar="N")
    parser.add_argument("--connections", type=bounded(MOST_CONNECTIONS), default=64, metavar="C")
    parser.add_argument("--subject", choices=[*SUBJECTS, "both"], default="both", help="of throughput")
    parser.add_argument(
        "--rounds", type=bounded(99), default=1, help="runs of each subject, in turn; the median counts"
    )
    parser.add_argument("--socket", choices=["tcp", "unix"], default="tcp", help="what the subject listens on")
    parser.add_argument("--seconds", type=bounded(600), default=30, help="length of latency, isolation and idle")
    parser.add_argument("--pending", type=bounded(5_000_000), default=1_000_000, help="size of the backlog")
    parser.add_argument("--rows", type=bounded(20_000_000), default=5_000_000, help="history that growth looks at")
    parser.add_argument("--dir", type=Path, default=disk.DEFAULT, help="directory on a disk (default: %(default)s)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="run the daemon under cProfile, and write FILE")
    given = parser.parse_args(arguments)
    plan = Plan(
        events=given.events,
        connections=given.connections,
        subjects=tuple(SUBJECTS) if given.subject == "both" else (given.subject,),
        rounds=given.rounds,
        socket=given.socket,
        directory=given.dir,
        profile=given.profile and given.profile.absolute(),
        seconds=given.seconds,
        pending=given.pending,
        rows=given.rows,
    )
    return BENCHMARKS[given.name], plan, given.json


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark, print its report, and return the exit code: 1 for a run that does not count."""
    benchmark, plan, as_json = parse(arguments)
    try:
        report = benchmark.run(plan)
    except MeasurementError as error:
        print(f"{benchmark.__name__.rpartition('.')[2]} failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(report, indent=2) if as_json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
