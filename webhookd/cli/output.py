"""Prints: data on stdout, messages on stderr, tables that stay aligned, and nothing that could steer a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click

from webhookd.cli.connection import Answer

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
    """Print the daemon's JSON as it came, so that no number or key is lost on the way, on one line."""
    body = answer.body.strip()
    if b"\n" in body or b"\r" in body:
        emit_json(answer.json())
    else:
        click.echo(body)


def colored(text: str, word: str | None = None) -> str:
    """Return `text` in the colour of `word` (default: of itself); click takes it away again where no terminal is."""
    color = _COLORS.get(word or text)
    return click.style(text, fg=color) if color else text


def printable(value: object) -> str:
    """Return `value` as text on one line: control characters, line ends and lone surrogates are written as escapes."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def escaped_bytes(data: bytes) -> str:
    """Return `data` as text in which every line end stands and any other control byte is written as an escape."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def size(value: object) -> str:
    """Return a number of bytes in the unit a person would use."""
    if not isinstance(value, int | float):
        return ""
    if value < 1024:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def milliseconds(value: object) -> str:
    """Return a duration given in milliseconds in words; empty for none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def counted(count: object, noun: str, plural: str | None = None) -> str:
    """Return `1 event`, `2 events`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


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


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
