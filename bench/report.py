"""The report of a benchmark: what was measured, beside what is to be reached, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]

_COLUMNS = {
    "events/s": ("events_per_second", ",.0f"),
    "CPU µs/event": ("cpu_us_per_event", ".1f"),
    "accept p50 ms": ("accept_p50_ms", ".1f"),
    "p99 ms": ("accept_p99_ms", ".1f"),
    "load µs": ("load_us_per_event", ".1f"),
    "receiver µs": ("receiver_us_per_event", ".1f"),
}


def goal(what: str, measured: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """Return one figure beside the bound it is to reach."""
    reached = (at_least is None or measured >= at_least) and (at_most is None or measured <= at_most)
    return {"what": what, "measured": measured, "at_least": at_least, "at_most": at_most, "reached": reached}


def circumstances(report: Report) -> str:
    """Return what the figures have to be read with, in one line."""
    rounds = f", medians of {report['rounds']}" if report.get("runs") and report["rounds"] > 1 else ""
    return (
        f"Python {report['python']}, SQLite {report['sqlite']}, {report['processors']} processors, "
        f"fdatasync {report['fdatasync_ms']:.2f} ms{rounds}"
    )


def runs_of(report: Report) -> list[list[str]]:
    """Return a line of cells for each run, under one of headings; nothing where there are no runs."""
    runs = report.get("runs", {})
    lines = [[name, *(format(run[key], how) for key, how in _COLUMNS.values())] for name, run in runs.items()]
    return [["", *_COLUMNS], *lines] if lines else []


def figures_of(report: Report) -> list[list[str]]:
    """Return name and value of each single figure."""
    return [[name, f"{value:,.2f}"] for name, value in report.get("figures", {}).items()]


def goals_of(report: Report) -> list[list[str]]:
    """Return each goal: whether it was reached, what it is about, what was measured, and its bound."""
    return [
        ["reached" if one["reached"] else "MISSED", one["what"], f"{one['measured']:.3g}", _bound(one)]
        for one in report.get("goals", [])
    ]


def table(report: Report) -> str:
    """Return a report for people: circumstances, a line for each run, single figures, goals."""
    lines = [f"{report['benchmark']}: {report['about']}", f"{circumstances(report)}; {report['directory']}", ""]
    lines += _aligned(runs_of(report)) + _aligned(figures_of(report))
    lines += [f"{verdict:8}{what}: {measured}, {bound}" for verdict, what, measured, bound in goals_of(report)]
    return "\n".join(lines)


def _bound(one: dict[str, Any]) -> str:
    return f"at least {one['at_least']:g}" if one["at_least"] is not None else f"at most {one['at_most']:g}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines with their first cells flush left and all others flush right."""
    if not lines:
        return []
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return [
        line[0].ljust(first) + "".join(cell.rjust(width + 2) for cell, width in zip(line[1:], others, strict=True))
        for line in lines
    ]
