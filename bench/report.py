"""The report of a benchmark: what was measured, beside what is to be reached, for people and for programs."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]


def goal(what: str, measured: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """Return one figure beside the bound it is to reach."""
    reached = (at_least is None or measured >= at_least) and (at_most is None or measured <= at_most)
    return {"what": what, "measured": measured, "at_least": at_least, "at_most": at_most, "reached": reached}


def table(report: Report) -> str:
    """Return a report for people: circumstances, a line for each run, single figures, goals."""
    lines = [
        f"{report['benchmark']}: {report['about']}",
        (
            f"Python {report['python']}, SQLite {report['sqlite']}, {report['processors']} processors; "
            f"{report['directory']}, fdatasync {report['fdatasync_ms']:.2f} ms, median of {report['rounds']}"
        ),
        "",
    ]
    if report.get("runs"):
        lines.append(
            f"{'':22}{'events/s':>10}{'CPU µs/event':>14}{'accept p50':>12}{'p99':>10}{'load':>9}{'receiver':>10}"
        )
    lines += [
        f"{name:22}{run['events_per_second']:>10,.0f}{run['cpu_us_per_event']:>14.1f}"
        f"{run['accept_p50_ms']:>9.1f} ms{run['accept_p99_ms']:>7.1f} ms"
        f"{run['load_us_per_event']:>6.1f} µs{run['receiver_us_per_event']:>7.1f} µs"
        for name, run in report.get("runs", {}).items()
    ]
    lines += [f"{name:34}{value:>14,.2f}" for name, value in report.get("figures", {}).items()]
    for one in report.get("goals", []):
        bound = f"at least {one['at_least']:g}" if one["at_least"] is not None else f"at most {one['at_most']:g}"
        verdict = "reached" if one["reached"] else "MISSED"
        lines.append(f"{verdict:8}{one['what']}: {one['measured']:.3g}, {bound}")
    return "\n".join(lines)
