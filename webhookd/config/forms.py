"""How one value is written: parsers for durations, sizes, rates, numbers and words, and the way back to text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from webhookd.core.durations import parse_duration as text_duration
from webhookd.core.settings import GIB, KIB, MIB

T = TypeVar("T")
Word = TypeVar("Word", bound=StrEnum)

Where = tuple[str | int, ...]
"""A place in a document: keys of tables and indexes of lists, from the outside in."""

QUOTED_CHARACTERS = 60
"""Most of a refused value that a complaint repeats."""

_SIZE = re.compile(r"(\d{1,16})(B|KiB|MiB|GiB|TiB)\Z", re.ASCII)
_RATE = re.compile(r"(\d{1,10}(?:\.\d{1,9})?)/(s|m|h)\Z", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,18}\Z", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,18}\.\d{1,18}\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}
_SECONDS_PER = {"s": 1, "m": 60, "h": 3600}
_FASTEST_PER_SECOND = 1_000_000.0


class BadValueError(ValueError):
    """A value that cannot be taken; `faults` pairs each place within it with a sentence, never empty."""

    def __init__(self, *faults: tuple[Where, str]) -> None:
        super().__init__("; ".join(text for _, text in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """One kind of value, both ways.

    `parse` takes what stood in TOML or JSON and raises ValueError (a BadValueError where it can say more than one
    thing); `show` gives back what could have stood there; `from_text` makes of an environment variable what `parse`
    takes, and is None for lists and tables, which the environment cannot hold.
    """

    parse: Callable[[object], T]
    show: Callable[[T], object]
    from_text: Callable[[str], object] | None = None


def faults_of(error: ValueError) -> tuple[tuple[Where, str], ...]:
    """Return what a parser complains about, whichever kind of ValueError it raised."""
    return error.faults if isinstance(error, BadValueError) else (((), str(error)),)


def kind_of(value: object) -> str:
    """Name the type of a TOML or JSON value in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case int():
            return "a whole number"
        case float():
            return "a decimal number"
        case list():
            return "a list"
        case Mapping():
            return "a table"
        case _:
            return "a date or time"


def quote(text: str) -> str:
    """Repeat a refused value in a complaint, cut and with control characters escaped."""
    return repr(text if len(text) <= QUOTED_CHARACTERS else text[:QUOTED_CHARACTERS] + "…")


def take_text(value: object) -> str:
    """Return `value` if it is text."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {kind_of(value)}")  # noqa: TRY004 - every refusal is one kind of error
    return value


def parse_duration(value: object) -> float:
    """Return the seconds in a text such as `250ms` or `1.5h`, exact to the millisecond."""
    if not isinstance(value, str):
        raise ValueError(f'must be a duration such as "250ms", "5s" or "2h", not {kind_of(value)}')  # noqa: TRY004
    return text_duration(value)


def show_duration(seconds: float) -> str:
    """Return the shortest text for `seconds`; a day is shown as 24h, since schedules are read in hours up to there."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        size = _MILLISECONDS[unit]
        if milliseconds and milliseconds % size == 0 and not (unit == "d" and milliseconds == size):
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def spell_duration(seconds: float) -> str:
    """Return `seconds` with every unit it fills, such as `3d 3h 35m 5s`."""
    rest = round(seconds * 1000)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _MILLISECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def parse_size(value: object) -> int:
    """Return the bytes in a text such as `64KiB`."""
    if not isinstance(value, str):
        raise ValueError(f'must be a size such as "64KiB" or "1GiB", not {kind_of(value)}')  # noqa: TRY004
    match = _SIZE.match(value)
    if match is None:
        raise ValueError(
            f'{quote(value)} is not a size: a whole number and one of B, KiB, MiB, GiB, TiB, such as "64KiB"'
        )
    return int(match[1]) * _BYTES[match[2]]


def show_size(size_bytes: int) -> str:
    """Return the shortest text for `size_bytes`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit] == 0:
            return f"{size_bytes // _BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def parse_rate(value: object) -> float | None:
    """Return requests per second for a text such as `50/s` or `30/m`, None for the empty text."""
    text = take_text(value)
    if not text:
        return None
    match = _RATE.match(text)
    if match is None:
        raise ValueError(
            f'{quote(text)} is not a rate: a number and one of /s, /m, /h, such as "50/s", or "" for no limit'
        )
    rate = float(match[1]) / _SECONDS_PER[match[2]]
    if not 1 / _SECONDS_PER["h"] <= rate <= _FASTEST_PER_SECOND:
        raise ValueError(f"{quote(text)} is out of range: from 1/h to 1000000/s, or empty for no limit")
    return rate


def show_rate(per_second: float | None) -> str:
    """Return the text for a rate, in the unit that makes it a whole number where there is one."""
    if per_second is None:
        return ""
    for unit, seconds in _SECONDS_PER.items():
        count = round(per_second * seconds)
        if count and abs(per_second * seconds - count) < 1e-9 * count:
            return f"{count}/{unit}"
    amount, unit = (per_second, "s") if per_second >= 1 else (per_second * _SECONDS_PER["h"], "h")
    return f"{amount:.9f}".rstrip("0").rstrip(".") + f"/{unit}"


def duration(low: str, high: str) -> Form[float]:
    """Return the form of durations from `low` to `high`."""
    bounds = parse_duration(low), parse_duration(high)

    def parse(value: object) -> float:
        seconds = parse_duration(value)
        if not bounds[0] <= seconds <= bounds[1]:
            raise ValueError(f"{quote(str(value))} is out of range: from {low} to {high}")
        return seconds

    return Form(parse, show_duration, str)


def size(low: str, high: str) -> Form[int]:
    """Return the form of sizes from `low` to `high`."""
    bounds = parse_size(low), parse_size(high)

    def parse(value: object) -> int:
        size_bytes = parse_size(value)
        if not bounds[0] <= size_bytes <= bounds[1]:
            raise ValueError(f"{quote(str(value))} is out of range: from {low} to {high}")
        return size_bytes

    return Form(parse, show_size, str)


def integer(low: int, high: int) -> Form[int]:
    """Return the form of whole numbers from `low` to `high`."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {kind_of(value)}")  # noqa: TRY004
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return Form(parse, lambda number: number, _number_from_text)


def decimal(low: float, high: float) -> Form[float]:
    """Return the form of numbers from `low` to `high`, whole ones included."""

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number, not {kind_of(value)}")  # noqa: TRY004
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return Form(parse, lambda number: number, _number_from_text)


def word(words: type[Word]) -> Form[Word]:
    """Return the form of one of a few words."""

    def parse(value: object) -> Word:
        text = take_text(value)
        try:
            return words(text)
        except ValueError:
            raise ValueError(f"{quote(text)} is none of {', '.join(words)}") from None

    return Form(parse, str, str)


def line(most_characters: int) -> Form[str]:
    """Return the form of text without control characters."""

    def parse(value: object) -> str:
        text = take_text(value)
        if len(text) > most_characters:
            raise ValueError(f"must be at most {most_characters} characters long")
        if _CONTROL.search(text):
            raise ValueError("must not contain control characters")
        return text

    return Form(parse, lambda text: text, str)


def _parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {kind_of(value)}")  # noqa: TRY004
    return value


def _flag_from_text(text: str) -> object:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)


def _number_from_text(text: str) -> object:
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _DECIMAL.match(text) else text


def parse_path(value: object) -> Path:
    """Return a path of the file system, perhaps a relative one."""
    text = take_text(value)
    if not text:
        raise ValueError("must not be empty")
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    if text.startswith("~"):
        raise ValueError("~ is not expanded here: write the whole path")
    return Path(text)


FLAG: Form[bool] = Form(_parse_flag, lambda flag: flag, _flag_from_text)
RATE: Form[float | None] = Form(parse_rate, show_rate, str)
# What stands in the environment was written by whoever stands in the working directory, not in that of the file.
PATH: Form[Path] = Form(parse_path, str, lambda text: str(Path(text).absolute()) if text[:1] not in {"", "~"} else text)


def parse_list(value: object, parse: Callable[[object], T], *, most: int) -> tuple[T, ...]:
    """Return the parsed elements of a list of at most `most`, complaining about each bad one by its index."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, not {kind_of(value)}")  # noqa: TRY004
    if len(value) > most:
        raise ValueError(f"must have at most {most} entries")
    elements: list[T] = []
    faults: list[tuple[Where, str]] = []
    for index, element in enumerate(value):
        try:
            elements.append(parse(element))
        except ValueError as error:
            faults += [((index, *where), text) for where, text in faults_of(error)]
    if faults:
        raise BadValueError(*faults)
    return tuple(elements)


def list_of(form: Form[Any], *, most: int) -> Form[tuple[Any, ...]]:
    """Return the form of lists of at most `most` values."""
    return Form(
        lambda value: parse_list(value, form.parse, most=most), lambda items: [form.show(item) for item in items]
    )
