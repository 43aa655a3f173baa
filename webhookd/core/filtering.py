"""Which payloads an endpoint wants: conditions on single places in them, all of which must hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto
from typing import Protocol, assert_never

SHOWN_CHARACTERS = 64
"""Most of a payload's value, or of a wanted one, that an explanation repeats."""
SHOWN_VALUES = 8

_ESCAPE = re.compile(r"~(.?)", re.DOTALL)
# What can be told from a number, true, false and null also without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|null)\Z)[A-Za-z_][A-Za-z0-9_.:/-]*\Z")


Steps = tuple[str, ...]
"""A JSON pointer (RFC 6901) taken apart: names of members and, in lists, indexes."""

Scalar = str | bool | Decimal | None
"""A JSON value without parts; numbers are exact, and a number is never a text or a truth value."""


class NotScalar(Enum):
    """What stands in a place where there is nothing to compare with."""

    MISSING = auto()
    OBJECT = auto()
    LIST = auto()
    BEYOND = auto()
    """A number whose exponent has so many digits that nothing can be compared with it."""


Found = Scalar | NotScalar


class UnreadableError(ValueError):
    """The payload cannot be looked into; the text says why."""


class Readable(Protocol):
    """A payload as a filter sees it. Apart from the one there is, so that who only names filters loads no parser."""

    content_type: str

    @property
    def is_json(self) -> bool:
        """Say whether it is JSON, going by its content type."""

    def find(self, steps: Steps) -> Found:
        """Return what stands at the place. Raises UnreadableError, also for a payload that is not JSON."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The value is one of these; a missing one is not."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The opposite of AnyOf: the value is another one, or a list, or an object, or missing."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """Something stands there, be it null; or nothing does."""

    wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The value is a number within these bounds; None is no bound."""

    gt: Decimal | None = None
    gte: Decimal | None = None
    lt: Decimal | None = None
    lte: Decimal | None = None


Test = AnyOf | NoneOf | Exists | Between


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What has to be true of one place in a payload: every one of `tests`.

    `pointer` is a JSON pointer (RFC 6901), empty for the whole payload. Raises ValueError for one that is none.
    """

    pointer: str
    tests: tuple[Test, ...]
    steps: Steps = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", parse_pointer(self.pointer))

    def holds(self, payload: Readable) -> bool:
        """Say whether it is true of the payload. Raises UnreadableError."""
        found = payload.find(self.steps)
        return all(_passes(test, found) for test in self.tests)

    def complaint(self, payload: Readable) -> str | None:
        """Say in words what is not true of the payload, None if all is. Raises UnreadableError."""
        found = payload.find(self.steps)
        for test in self.tests:
            if not _passes(test, found):
                place = self.pointer or "the payload"
                return f"where {place} is {_shown(found)}, wanted {_wanted(test)}"
        return None


@dataclass(frozen=True, slots=True)
class Where:
    """The filter of an endpoint: conditions on different places; none let everything pass."""

    conditions: tuple[Condition, ...] = ()

    def accepts(self, payload: Readable) -> bool:
        """Say whether the payload passes; one that cannot be looked into does not, unless nothing is asked of it."""
        try:
            return all(condition.holds(payload) for condition in self.conditions)
        except UnreadableError:
            return False

    def refusal(self, payload: Readable) -> str | None:
        """Say in words why the payload does not pass, None where it does; values of it are cut short."""
        if not self.conditions:
            return None
        if not payload.is_json:
            return f"where takes JSON payloads only, this one is {payload.content_type[:SHOWN_CHARACTERS]}"
        try:
            complaints = (condition.complaint(payload) for condition in self.conditions)
            return next((words for words in complaints if words is not None), None)
        except UnreadableError as error:
            return f"where cannot be applied: {error}"


EVERYTHING = Where()
"""The filter of an endpoint that has none."""


def parse_pointer(pointer: str) -> Steps:
    """Return the steps of a JSON pointer (RFC 6901). Raises ValueError with a sentence."""
    if pointer and not pointer.startswith("/"):
        meant = "/" + pointer.removeprefix("$").strip("./").replace(".", "/")
        raise ValueError(f'is not a JSON pointer, which begins with "/"; did you mean {json.dumps(meant)}?')
    for escape in _ESCAPE.finditer(pointer):
        if escape[1] not in ("0", "1"):
            raise ValueError('is not a JSON pointer: "~" is written "~0" in it, and a "/" that belongs to a name "~1"')
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def _passes(test: Test, found: Found) -> bool:
    match test:
        case AnyOf(values):
            return _is_among(found, values)
        case NoneOf(values):
            return not _is_among(found, values)
        case Exists(wanted):
            return (found is not NotScalar.MISSING) is wanted
        case Between(gt=gt, gte=gte, lt=lt, lte=lte):
            return (
                isinstance(found, Decimal)
                and (gt is None or found > gt)
                and (gte is None or found >= gte)
                and (lt is None or found < lt)
                and (lte is None or found <= lte)
            )
        case _:
            assert_never(test)


def _is_among(found: Found, values: Iterable[Scalar]) -> bool:
    # To Python, True is 1; to JSON and to whoever wrote the filter it is not.
    return any(type(found) is type(value) and found == value for value in values)


def _wanted(test: Test) -> str:
    match test:
        case AnyOf(values):
            return _list(values)
        case NoneOf(values):
            return f"anything but {_list(values)}"
        case Exists(wanted):
            return "it to be there" if wanted else "it to be missing"
        case Between(gt=gt, gte=gte, lt=lt, lte=lte):
            bounds = ((">", gt), (">=", gte), ("<", lt), ("<=", lte))
            return "a number " + " and ".join(f"{sign} {_json(bound)}" for sign, bound in bounds if bound is not None)
        case _:
            assert_never(test)


def _list(values: tuple[Scalar, ...]) -> str:
    words = [
        value if isinstance(value, str) and _PLAIN.match(value) and len(value) <= SHOWN_CHARACTERS else _json(value)
        for value in values[:SHOWN_VALUES]
    ]
    if len(values) > SHOWN_VALUES:
        words.append(f"{len(values) - SHOWN_VALUES} more")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(found: Found) -> str:
    match found:
        case NotScalar.MISSING:
            return "missing"
        case NotScalar.OBJECT:
            return "an object"
        case NotScalar.LIST:
            return "a list"
        case NotScalar.BEYOND:
            return "a number out of all bounds"
        case _:
            return _json(found)


def _json(value: Scalar) -> str:
    if isinstance(value, str):
        return json.dumps(_cut(value), ensure_ascii=False)
    return _cut(str(value)) if isinstance(value, Decimal) else json.dumps(value)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
