"""Prints: data on stdout, messages on stderr, tables that stay aligned, and nothing that could steer a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click

from webhookd.cli.connection import Answer
from webhookd.cli.text import printable

_COLORS = {
    "enabled": "green",
    "delivered": "green",
    "acknowledged": "green",
    "ready": "green",
    "pending": "yellow",
    "held": "yellow",
    "failing": "yellow",
    "dead": "red",
    "disabled": "red",
    "not ready": "red",
}


def emit(line: str = "") -> None:
    """Print one line of data."""
    click.echo(line)


def note(text: str) -> None:
    """Print one message for people."""
    click.echo(text, err=True)


def emit_json(data: object) -> None:
    """Print one JSON value on a line of its own."""
    click.echo(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace"))


def emit_answer(answer: Answer) -> None:
    """Print the daemon's JSON as it came, so that no number or key is lost on the way, on one line.

    Line ends in JSON stand between its tokens only (RFC 8259 section 7), where a space means the same.
    """
    click.echo(answer.body.strip().replace(b"\r", b" ").replace(b"\n", b" "))


def colored(text: str, word: str | None = None) -> str:
    """Return `text` in the colour of `word` (default: of itself); click takes it away again where no terminal is."""
    color = _COLORS.get(word or text)
    return click.style(text, fg=color) if color else text


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their heads in columns as wide as their widest cell; the last column is as long as it likes."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in cells)]) for i, head in enumerate(heads)]
    emit(_aligned([click.style(head, bold=True) for head in heads], list(heads), widths))
    for row in cells:
        emit(_aligned([colored(cell) for cell in row], row, widths))


def pairs(facts: Mapping[str, object]) -> None:
    """Print names and values in two columns, leaving out those without a value."""
    shown = {name: printable(value) for name, value in facts.items() if value is not None and value != ""}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        emit(f"{name.ljust(width)}  {colored(value)}")


def _aligned(styled: Sequence[str], plain: Sequence[str], widths: Sequence[int]) -> str:
    last = len(plain) - 1
    return "  ".join(
        text if i == last else text + " " * (widths[i] - len(plain[i])) for i, text in enumerate(styled)
    ).rstrip()
