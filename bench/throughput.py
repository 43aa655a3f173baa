"""The benchmark `throughput`: single events in, signed deliveries out, the daemon beside the bare pipeline.

A producer with C connections hands in N events, each in a request of its own, to a subject with one endpoint. The time
is that from the first request to the last delivery received, all of them exactly once. The processor time is that of
the subject with all its threads, until it has come to rest, so that bookkeeping after the last delivery counts as well.
A thousand events go ahead unmeasured: neither connections, nor statements, nor code are new when the clock starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import disk, sample
from bench.processes import Child, MeasurementError, child, complete
from bench.subjects import Place, free_address, running

LIMIT_SECONDS = 120.0
"""Longest that one run of one subject may take, its start and end included."""
WARM_UP_EVENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    events: int
    connections: int
    subjects: tuple[str, ...]
    rounds: int
    socket: str
    directory: Path
    profile: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run of one subject came to."""

    events_per_second: float
    cpu_us_per_event: float
    accept_p50_ms: float
    accept_p99_ms: float
    load_us_per_event: float
    receiver_us_per_event: float


def run(plan: Plan) -> dict[str, Any]:
    """Run every subject in turn, `rounds` times, each on a fresh database; MeasurementError if a run does not count."""
    return complete(_run(plan))


async def _run(plan: Plan) -> dict[str, Any]:
    results: dict[str, list[Result]] = {name: [] for name in plan.subjects}
    with disk.workplace(plan.directory) as workplace:
        sync_ms = disk.sync_ms(workplace)
        for turn in range(plan.rounds):
            for name in plan.subjects:
                directory = workplace / f"{name}-{turn}"
                directory.mkdir()
                try:
                    async with asyncio.timeout(LIMIT_SECONDS):
                        results[name].append(await measure(name, plan, directory))
                except TimeoutError:
                    raise MeasurementError(f"{name} took longer than {LIMIT_SECONDS:g} s") from None
    middle = {name: middle_of(runs) for name, runs in results.items()}
    return {
        "benchmark": "throughput",
        "events": plan.events,
        "connections": plan.connections,
        "payload_bytes": sample.PAYLOAD_BYTES,
        "socket": plan.socket,
        "rounds": plan.rounds,
        "directory": str(plan.directory),
        "fdatasync_ms": sync_ms,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "subjects": {name: asdict(result) for name, result in middle.items()},
        "ratio": ratios(middle),
    }


async def measure(name: str, plan: Plan, directory: Path) -> Result:
    """Run one subject once."""
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(child(["-m", "bench.receiver"], directory))
        port = (await receiver.read())["port"]
        place = Place(
            directory=directory,
            address=free_address(plan.socket, directory),
            target=f"http://127.0.0.1:{port}/hook",
        )
        profile = plan.profile if name == "daemon" else None
        subject = await stack.enter_async_context(running(name, place, profile=profile))
        await _hand_in(plan, place, receiver, events=WARM_UP_EVENTS, first=0)
        await subject.rest()
        before = await receiver.ask("reset")
        cpu_before = subject.cpu_seconds()
        load = await _hand_in(plan, place, receiver, events=plan.events, first=WARM_UP_EVENTS)
        await subject.rest()
        cpu_seconds = subject.cpu_seconds() - cpu_before
        seen = await receiver.ask("report")
        await subject.stop()
    check(load, seen, events=plan.events)
    _check_database(place.database, plan.events + WARM_UP_EVENTS)
    return Result(
        events_per_second=plan.events / (seen["last_at"] - load["started_at"]),
        cpu_us_per_event=cpu_seconds / plan.events * 1e6,
        accept_p50_ms=load["accept_p50_ms"],
        accept_p99_ms=load["accept_p99_ms"],
        load_us_per_event=load["cpu_seconds"] / plan.events * 1e6,
        receiver_us_per_event=(seen["cpu_seconds"] - before["cpu_seconds"]) / plan.events * 1e6,
    )


async def _hand_in(plan: Plan, place: Place, receiver: Child, *, events: int, first: int) -> dict[str, Any]:
    """Let a process of its own hand in `events` events; return its report when the receiver has seen as many."""
    arguments = ["--to", place.address, "--events", str(events), "--connections", str(plan.connections)]
    async with child(["-m", "bench.load", *arguments, "--first", str(first)], place.directory) as load:
        report = await load.read()
    await receiver.ask(f"await {events}")
    return report


def check(load: dict[str, Any], seen: dict[str, Any], *, events: int) -> None:
    """Raise MeasurementError unless each of `events` events was accepted, and delivered exactly once as handed in."""
    wrong = [f"{count} were answered {status}, not 202" for status, count in load["refused"].items()]
    accepted, delivered = set(load["ids"]), set(seen["ids"])
    if load["accepted"] != len(accepted):
        wrong.append(f"{load['accepted']} were accepted under only {len(accepted)} ids")
    if lost := accepted - delivered:
        wrong.append(f"{len(lost)} were accepted and not delivered, such as {min(lost)}")
    if strange := delivered - accepted:
        wrong.append(f"{len(strange)} were delivered and not accepted, such as {min(strange)}")
    if seen["duplicates"]:
        wrong.append(f"{seen['duplicates']} deliveries came twice")
    if not wrong and seen["requests"] != events:
        wrong.append(f"{seen['requests']} deliveries came of {events} events")
    if not seen["checked"]:
        wrong.append("no delivery was looked at")
    wrong.extend(seen["complaints"])
    if wrong:
        raise MeasurementError("; ".join(wrong))


def _check_database(path: Path, events: int) -> None:
    """Raise MeasurementError unless the database the subject left behind knows that all was delivered."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        states = dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY state"))
    if states != {"delivered": events}:
        raise MeasurementError(f"the database of {events} deliveries holds {states}")


def middle_of(runs: list[Result]) -> Result:
    """Return the run with the median processor time per event (the lower one of two)."""
    ordered = sorted(runs, key=lambda run: run.cpu_us_per_event)
    return ordered[(len(ordered) - 1) // 2]


def ratios(results: dict[str, Result]) -> dict[str, float] | None:
    """Return daemon divided by bare pipeline, where both ran."""
    if len(results) < 2:
        return None
    bare, daemon = results["bare"], results["daemon"]
    return {
        "events_per_second": daemon.events_per_second / bare.events_per_second,
        "cpu_us_per_event": daemon.cpu_us_per_event / bare.cpu_us_per_event,
    }


def table(report: dict[str, Any]) -> str:
    """Return the report for people."""
    ratio = report["ratio"]
    lines = [
        (
            f"{report['events']:,} events of {report['payload_bytes']} bytes from {report['connections']} connections "
            f"({report['socket']}) to one endpoint, median of {report['rounds']}"
        ),
        (
            f"Python {report['python']}, SQLite {report['sqlite']}, {report['processors']} processors; "
            f"{report['directory']}, fdatasync {report['fdatasync_ms']:.2f} ms"
        ),
        "",
        f"{'':14}{'events/s':>10}{'CPU µs/event':>14}{'accept p50':>12}{'p99':>10}{'load':>9}{'receiver':>10}",
    ]
    for name, result in report["subjects"].items():
        lines.append(
            f"{name:14}{result['events_per_second']:>10,.0f}{result['cpu_us_per_event']:>14.1f}"
            f"{result['accept_p50_ms']:>9.1f} ms{result['accept_p99_ms']:>7.1f} ms"
            f"{result['load_us_per_event']:>6.1f} µs{result['receiver_us_per_event']:>7.1f} µs"
        )
    if ratio is not None:
        lines.append(f"{'daemon / bare':14}{ratio['events_per_second']:>10.2f}{ratio['cpu_us_per_event']:>14.2f}")
    return "\n".join(lines)
