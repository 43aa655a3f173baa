"""Values as words: numbers in the unit a person would use, text that cannot steer a terminal."""

from __future__ import annotations

import json


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


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
