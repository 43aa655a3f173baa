"""The one command of the measurements: `python -m bench [NAME | all] [--json] [--record] [--events N] …`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from bench import backlog, batch, disk, fanout, growth, idle, instruments, isolation, latency, steps, throughput, tls
from bench.plan import Plan
from bench.processes import MeasurementError
from bench.record import PAGE, record
from bench.report import table
from bench.subjects import SUBJECTS

BENCHMARKS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (throughput, batch, fanout, latency, backlog, isolation, idle, growth, tls, instruments, steps)
}
DEFAULTS = {"events": 20_000, "rounds": 1, "seconds": 30}
"""What holds where the module of a benchmark has no `DEFAULTS` of its own."""

MOST_EVENTS = 1_000_000
MOST_CONNECTIONS = 512


def bounded(most: int) -> Callable[[str], int]:
    """Return a converter for whole numbers from 1 to `most`."""

    def number(text: str) -> int:
        value = int(text)
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from 1 to {most:,}")
        return value

    return number


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "all"], default="throughput")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, one object for each benchmark")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name} as well")
    parser.add_argument("--events", type=bounded(MOST_EVENTS), metavar="N")
    parser.add_argument("--connections", type=bounded(MOST_CONNECTIONS), default=64, metavar="C")
    parser.add_argument("--subject", choices=[*SUBJECTS, "both"], default="both", help="of throughput")
    parser.add_argument(
        "--rounds",
        type=bounded(99),
        help="of throughput, batch, tls and growth: runs in turn; tables have their medians, goals those of ratios",
    )
    parser.add_argument("--socket", choices=["tcp", "unix"], default="tcp", help="what the subject listens on")
    parser.add_argument("--seconds", type=bounded(600), help="length of latency, isolation, idle, and of backlog alone")
    parser.add_argument("--pending", type=bounded(5_000_000), default=1_000_000, help="size of the backlog")
    parser.add_argument("--rows", type=bounded(20_000_000), default=5_000_000, help="history that growth looks at")
    parser.add_argument("--dir", type=Path, default=disk.DEFAULT, help="directory on a disk (default: %(default)s)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="run the daemon under cProfile, and write FILE")
    return parser.parse_args(arguments)


def plan_of(given: argparse.Namespace, benchmark: ModuleType) -> Plan:
    """Return what one benchmark is to do."""
    sizes = DEFAULTS | getattr(benchmark, "DEFAULTS", {})
    sizes |= {name: value for name in DEFAULTS if (value := getattr(given, name)) is not None}
    return Plan(
        **sizes,
        connections=given.connections,
        subjects=tuple(SUBJECTS) if given.subject == "both" else (given.subject,),
        socket=given.socket,
        directory=given.dir,
        profile=given.profile and given.profile.absolute(),
        pending=given.pending,
        rows=given.rows,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark or all, print the reports, and return the exit code: 1 where a run does not count.

    A goal that is missed is reported and no failure: the machine may have been busy.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    given = parse(words)
    names = list(BENCHMARKS) if given.name == "all" else [given.name]
    options = [word for word in words if word not in {given.name, "--record"}]
    failed = 0
    for name in names:
        try:
            report = BENCHMARKS[name].run(plan_of(given, BENCHMARKS[name]))
        except MeasurementError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed = 1
            continue
        except KeyboardInterrupt:
            return 130
        print(json.dumps(report, indent=2) if given.json else table(report) + "\n", flush=True)
        if given.record:
            record(report, ["python", "-m", "bench", name, *options], PAGE)
    return failed


if __name__ == "__main__":
    sys.exit(main())
