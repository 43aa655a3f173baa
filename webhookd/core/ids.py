"""Time-ordered 63-bit ids: integers inside, where they are primary keys, prefixed text outside."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NewType

from webhookd.errors import NotFoundError

EventId = NewType("EventId", int)
DeliveryId = NewType("DeliveryId", int)
EndpointId = NewType("EndpointId", str)

EPOCH_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z; 41 bits of milliseconds from here last until 2093."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGIT = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_TEXT_LENGTH = 11
_NODE_BITS = 6
_SEQUENCE_BITS = 16
_SLOT_SHIFT = _NODE_BITS + _SEQUENCE_BITS
_LAST_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
_MAX_ID = 2**63 - 1

_ENDPOINT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


class IdGenerator:
    """Mints ids that only ever grow, whatever the clock does.

    An id is `milliseconds since EPOCH_MS (41 bits) | node (6) | sequence (16)`. When the clock stands still, goes back,
    or more than 65,536 ids are asked of one millisecond, the generator runs ahead of the clock instead of repeating.
    """

    def __init__(self, *, highest: int = 0, node: int = 0) -> None:
        if not 0 <= node < 1 << _NODE_BITS:
            msg = f"node must be between 0 and {(1 << _NODE_BITS) - 1}, not {node}"
            raise ValueError(msg)
        self._node = node << _SEQUENCE_BITS
        # What is left of the highest id's millisecond counts as used: another node may have minted it. And 0 is never
        # minted: `highest` is 0 also where there was no id yet, and the clock may be before EPOCH_MS.
        self._last = highest >> _SLOT_SHIFT << _SLOT_SHIFT | self._node | (_LAST_SEQUENCE if highest else 0)

    def mint(self, now_ms: int) -> int:
        """Return an id greater than every id before it, carrying `now_ms` (UTC) unless the generator is ahead of it."""
        number = now_ms - EPOCH_MS << _SLOT_SHIFT | self._node
        if number <= self._last:
            number = self._last + 1
            if not number & _LAST_SEQUENCE:
                number = (self._last >> _SLOT_SHIFT) + 1 << _SLOT_SHIFT | self._node
        self._last = number
        return number


def lowest_id_at(at_ms: int) -> int:
    """Return the smallest id that could have been minted at `at_ms` (UTC), for ranges over acceptance time."""
    return max(0, at_ms - EPOCH_MS) << _SLOT_SHIFT


def format_id(prefix: str, number: int) -> str:
    """Return `prefix` and eleven characters that sort, as text, in the order of the numbers."""
    rest, p5 = divmod(number, 3844)
    rest, p4 = divmod(rest, 3844)
    return f"{prefix}{_beginning(rest)}{_PAIRS[p4]}{_PAIRS[p5]}"


@lru_cache(maxsize=256)
def _beginning(rest: int) -> str:
    # Ids of the same three milliseconds have it in common.
    rest, p3 = divmod(rest, 3844)
    rest, p2 = divmod(rest, 3844)
    p0, p1 = divmod(rest, 3844)
    return f"{_ALPHABET[p0]}{_PAIRS[p1]}{_PAIRS[p2]}{_PAIRS[p3]}"


def event_text(event_id: EventId) -> str:
    """Return the id as receivers and users see it: `evt_…`."""
    return format_id("evt_", event_id)


def delivery_text(delivery_id: DeliveryId) -> str:
    """Return the id as users see it: `dlv_…`."""
    return format_id("dlv_", delivery_id)


def parse_event_id(text: str) -> EventId:
    """Return the number behind `evt_…`, or raise NotFoundError: an id we cannot have minted names nothing."""
    return EventId(_parse("evt_", text, "event"))


def parse_delivery_id(text: str) -> DeliveryId:
    """Return the number behind `dlv_…`, or raise NotFoundError."""
    return DeliveryId(_parse("dlv_", text, "delivery"))


def is_endpoint_id(text: str) -> bool:
    """Say whether `text` is a slug an endpoint may have."""
    return _ENDPOINT_ID.match(text) is not None


def _parse(prefix: str, text: str, noun: str) -> int:
    digits = text.removeprefix(prefix)
    if len(digits) + len(prefix) == len(text) and len(digits) == _TEXT_LENGTH:
        try:
            number = 0
            for character in digits:
                number = number * 62 + _DIGIT[character]
        except KeyError:
            number = _MAX_ID + 1
        if number <= _MAX_ID:
            return number
    msg = f"there is no {noun} {text[:40]!r}"
    raise NotFoundError(msg)
