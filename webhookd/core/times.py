"""Moments as text: RFC 3339, read in any offset and written in one way."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d:\d\d))\Z", re.ASCII)
_LOST_PLUS = re.compile(r" (\d\d:\d\d)\Z", re.ASCII)


def time_text(at_ms: int | None) -> str | None:
    """Return UTC milliseconds as RFC 3339 text, such as `2026-01-02T03:04:05.678Z`, and None as None."""
    if at_ms is None:
        return None
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time_ms(text: str, *, in_query: bool = False) -> int | None:
    """Return UTC milliseconds of an RFC 3339 time, None where it is none.

    In the query of a URL, a space may stand where a plus was sent unencoded.
    """
    match = _TIME.match(_LOST_PLUS.sub(r"+\1", text) if in_query else text)
    if match is None:
        return None
    date, clock, fraction, sign, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{sign or '+'}{offset or '00:00'}")
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    return seconds * 1000 + int(((fraction or "") + "000")[:3])
