"""Reads Retry-After, in either of its forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_SECONDS = 366 * 86_400.0
"""Longer waits are cut to this; what an endpoint may really ask for is a setting, and far below."""

_SECONDS = re.compile(rb"[0-9]{1,18}\Z")
# With its comma the form of today or the one of RFC 850, without it that of asctime (RFC 9110 section 5.6.7).
_DATE = re.compile(rb"[A-Z][a-z]{2,8}(?:, ?| (?=[A-Z][a-z]{2} ))[\x20-\x7e]{1,40}\Z")


def parse_retry_after(value: bytes, *, now_ms: int) -> float | None:
    """Return the wait in seconds from `now_ms` (UTC), finite and not negative; None for what is no Retry-After.

    The forms are those of RFC 9110 section 10.2.3: a whole number of seconds, or an HTTP date.
    """
    value = value.strip(b" \t")
    if _SECONDS.match(value):
        return min(float(value), LONGEST_SECONDS)
    if not _DATE.match(value):
        return None
    try:
        moment = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_SECONDS)
