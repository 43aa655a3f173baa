"""The configuration file: where it is looked for, how it is read, and on which line a key stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from webhookd.config.forms import Where
from webhookd.config.secret_sources import read_regular_file
from webhookd.errors import ConfigError, ConfigErrors

MOST_BYTES = 16 * 1024 * 1024
MOST_LINES_OF_A_VALUE = 200
"""A value that goes on for longer ends the search for lines; complaints then come without them."""

_PLACE = re.compile(r"(?P<text>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What stood in the file; `path` is None for built-in defaults, `base` is where relative paths begin."""

    path: Path | None
    base: Path
    tables: Mapping[str, object]
    text: str

    def lines(self) -> LineIndex:
        """Return where each key stands; takes a second pass over the text, so it is for complaints only."""
        return LineIndex(self.text)


def find_file(environ: Mapping[str, str]) -> Path | None:
    """Return the first configuration file there is, in the order people expect, None for none."""
    places = [Path("webhookd.toml")]
    home = _xdg_directory(environ, "XDG_CONFIG_HOME", ".config")
    if home is not None:
        places.append(home / "webhookd" / "config.toml")
    places.append(Path("/etc/webhookd/config.toml"))
    # A file that is there and cannot be read is a complaint, not a reason to take the next one.
    return next((place for place in places if os.path.lexists(place)), None)


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Return where a user's programs keep state (XDG Base Directory Specification), None where there is no home."""
    return _xdg_directory(environ, "XDG_STATE_HOME", ".local/state")


def _xdg_directory(environ: Mapping[str, str], variable: str, fallback: str) -> Path | None:
    # The specification: a path in these variables that is not absolute is to be ignored.
    if environ.get(variable, "").startswith("/"):
        return Path(environ[variable])
    return Path(environ["HOME"]) / fallback if environ.get("HOME", "").startswith("/") else None


def read_document(path: Path | None) -> Document:
    """Return what stands in the file at `path`. Raises ConfigErrors with the one thing that is wrong with it."""
    if path is None:
        return Document(path=None, base=Path.cwd(), tables={}, text="")
    path = path.absolute()
    try:
        content = read_regular_file(path, most_bytes=MOST_BYTES)[0]
        text = _decoded(content)
        return Document(path=path, base=path.parent, tables=_parsed(text), text=text)
    except ValueError as error:
        sentence = str(error).removeprefix(f"{path} ")
        raise ConfigErrors([ConfigError(str(path), sentence)]) from None


def _decoded(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {number}: not UTF-8 text") from None
    if not text.strip():
        raise ValueError("is empty; without any file the built-in defaults are used")
    return text


def _parsed(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_with_place(str(error), text)) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        # Not a mistake of syntax but of value, such as a number of more digits than Python converts.
        raise ValueError(f"cannot be read: {error}") from None


def _with_place(complaint: str, text: str) -> str:
    match = _PLACE.match(complaint)
    if match is None:
        return complaint
    if match["line"]:
        return f"line {match['line']}, column {match['column']}: {match['text']}"
    lines = text.split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}: {match['text']}"


class LineIndex:
    """Says on which line a key stands, as far as that is known."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Where, int] = {}
        self._entries: Counter[Where] = Counter()
        table: Where = ()
        for number, first_line, statement in _statements(text):
            keys = _keys_of(statement)
            if first_line.startswith("["):
                table = self._enter(keys, is_list=first_line.startswith("[["))
                self._lines.setdefault(table, number)
            else:
                for length in range(1, len(keys) + 1):
                    self._lines.setdefault((*table, *keys[:length]), number)

    def line_of(self, where: Where) -> int | None:
        """Return the line of the innermost key on the way to `where`, None where none is known."""
        for length in range(len(where), 0, -1):
            if where[:length] in self._lines:
                return self._lines[where[:length]]
        return None

    def _enter(self, keys: Where, *, is_list: bool) -> Where:
        place: Where = ()
        for depth, key in enumerate(keys, 1):
            place = (*place, key)
            if is_list and depth == len(keys):
                self._entries[place] += 1
            # A header that passes through a list of tables means the last of them.
            if place in self._entries:
                place = (*place, self._entries[place] - 1)
        return place


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, object]]]:
    """Yield each statement of a valid document: its line, its first line stripped, and what it says by itself."""
    pending: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        pending.append(line.removesuffix("\r"))
        try:
            # No beginning of a statement that goes over several lines is a statement itself.
            parsed = tomllib.loads("\n".join(pending))
        except ValueError:
            if len(pending) >= MOST_LINES_OF_A_VALUE:
                return
            continue
        if parsed:
            yield number - len(pending) + 1, pending[0].strip(), parsed
        pending = []


def _keys_of(statement: object) -> Where:
    keys: Where = ()
    while isinstance(statement, dict) and len(statement) == 1:
        ((key, statement),) = statement.items()
        keys = (*keys, key)
    return keys
