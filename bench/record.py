"""Writes the figures of a run into docs/performance.md, between the two marks that wait there for each benchmark."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.report import Report, circumstances, figures_of, goals_of, runs_of

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


class NoPlaceError(Exception):
    """The page has no place, or several, for the figures of this benchmark."""


def record(report: Report, command: Sequence[str], page: Path) -> None:
    """Put the figures of `report`, measured by `command`, in the place of those of an earlier run."""
    name = report["benchmark"]
    place = re.compile(rf"^(<!-- figures: {name} -->\n).*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE)
    text, found = place.subn(lambda it: f"{it[1]}\n{markdown(report, command)}\n{it[2]}", page.read_text())
    if found != 1:
        raise NoPlaceError(f"{page.name} has {found} places for the figures of {name}")
    page.write_text(text)


def markdown(report: Report, command: Sequence[str]) -> str:
    """Return the report in Markdown: how and when it was measured, and a table each of runs, figures and goals."""
    figures, goals = figures_of(report), goals_of(report)
    return "\n".join(
        [
            f"`{shlex.join(command)}`, {datetime.now(UTC):%Y-%m-%d}: {report['about']}. {circumstances(report)}.",
            *_table(runs_of(report)),
            *(_table([["figure", ""], *figures]) if figures else []),
            *(_table([["", "goal", "measured", "bound"], *goals]) if goals else []),
            "",
        ]
    )


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    if not lines:
        return []
    heading, *rows = lines
    return ["", _row(heading), _row(["---", *["---:"] * (len(heading) - 1)]), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
