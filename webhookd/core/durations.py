"""Durations as text, such as `250ms`, `5s` or `1.5h`."""

from __future__ import annotations

import re
from fractions import Fraction

_DURATION = re.compile(r"(\d{1,16})(?:\.(\d{1,9}))?(ms|s|m|h|d)\Z", re.ASCII)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUOTED_CHARACTERS = 60


def parse_duration(text: str) -> float:
    """Return the seconds in a text such as `250ms` or `1.5h`, exact to the millisecond. Raises ValueError."""
    match = _DURATION.match(text)
    quoted = repr(text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…")
    if match is None:
        raise ValueError(f'{quoted} is not a duration: a number and one of ms, s, m, h, d, such as "250ms" or "2h"')
    whole, part, unit = match.groups()
    milliseconds = Fraction(f"{whole}.{part or 0}") * _MILLISECONDS[unit]
    if milliseconds.denominator != 1:
        raise ValueError(f"{quoted} is finer than a millisecond")
    return int(milliseconds) / 1000
