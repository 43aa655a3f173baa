"""Looking into a payload without taking it apart: one level at a time, as exactly as it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from webhookd.core.event import is_json_type
from webhookd.core.filtering import Found, NotScalar, Steps, UnreadableError

_Raw = bytes | msgspec.Raw
_Level = Mapping[str, msgspec.Raw] | Sequence[msgspec.Raw] | None

_ANY = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,17})\Z")
# A pair of surrogates, a half of one, or any other escape, so that no escaped backslash is taken for the start of one.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


class Payload:
    """The payload of one event for everybody who wants to look into it; fills `core.filtering.Readable`.

    Nothing is read before it is asked for. Each level of the document is opened at most once, which passes over its
    bytes without building anything from them; the cost of a look is bounded by size times depth of the place. Where a
    member stands there twice, the last one counts. Half of a surrogate pair reads as U+FFFD.
    """

    __slots__ = ("_content", "_levels", "_well_formed", "content_type")

    def __init__(self, content: bytes, content_type: str) -> None:
        self.content_type = content_type
        self._content = content
        self._well_formed: bytes | None = None
        self._levels: dict[Steps, _Level] = {}

    def __repr__(self) -> str:
        return f"<Payload {self.content_type}, {len(self._content)} bytes, {len(self._levels)} levels open>"

    @property
    def is_json(self) -> bool:
        """Say whether it is JSON, going by its content type."""
        return is_json_type(self.content_type)

    def find(self, steps: Steps) -> Found:
        """Return what stands at the place. Raises UnreadableError, also for a payload that is not JSON."""
        if not self.is_json:
            raise UnreadableError("the payload is not JSON")
        try:
            return self._find(steps)
        except RecursionError:
            raise UnreadableError("the payload is nested too deeply") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UnreadableError("the payload is not valid JSON") from None

    def _find(self, steps: Steps) -> Found:
        here: _Raw = self._root()
        if not steps or _first(here) not in (b"{", b"["):
            # Nothing else would find out whether it is JSON: levels that are opened are read to their ends.
            _ANY.decode(here)
        for depth, step in enumerate(steps):
            level = self._open(steps[:depth], here)
            below = None
            if isinstance(level, Mapping):
                below = level.get(step)
            elif level is not None and _INDEX.match(step) and int(step) < len(level):
                below = level[int(step)]
            if below is None:
                return NotScalar.MISSING
            here = below
        return _value(here)

    def _root(self) -> bytes:
        if self._well_formed is None:
            self._well_formed = _without_half_pairs(self._content.strip(b" \t\r\n"))
        return self._well_formed

    def _open(self, steps: Steps, here: _Raw) -> _Level:
        if steps in self._levels:
            return self._levels[steps]
        level: _Level = None
        match _first(here):
            case b"{":
                level = _OBJECT.decode(here)
            case b"[":
                level = _LIST.decode(here)
        self._levels[steps] = level
        return level


def _without_half_pairs(content: bytes) -> bytes:
    """Return the document without halves of surrogate pairs, which JSON may have and no text in UTF-8 can hold."""
    if b"\\ud" not in content and b"\\uD" not in content:
        return content
    return _ESCAPE.sub(lambda match: b"\\ufffd" if match[1] else match[0], content)


def _first(raw: _Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _value(raw: _Raw) -> Found:
    match _first(raw):
        case b'"':
            return _TEXT.decode(raw)
        case b"{":
            return NotScalar.OBJECT
        case b"[":
            return NotScalar.LIST
        case b"t":
            return True
        case b"f":
            return False
        case b"n":
            return None
        case _:
            try:
                return Decimal(bytes(raw).decode("ascii"))
            except InvalidOperation:
                return NotScalar.BEYOND
