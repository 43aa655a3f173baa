"""JSON text taken apart without touching the bytes of its values."""

from __future__ import annotations

import json
import re

import msgspec

from webhookd.api.problems import invalid, malformed
from webhookd.errors import Fault, InvalidRequestError

WHITESPACE = b" \t\r\n"

_ANY = msgspec.json.Decoder(msgspec.Raw)
_ESCAPE = re.compile(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
_SPACES = re.compile(r"[ \t\r\n]*")

# Numbers are only measured: a number too long for int() or float() must not end the walk.
_WALKER = json.JSONDecoder(parse_int=len, parse_float=len, object_pairs_hook=len)


def require_text(body: bytes) -> None:
    """Refuse a body that is not UTF-8 (RFC 8259, section 8.1)."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8 (byte {error.start})") from None


def require_json(body: bytes) -> None:
    """Refuse a body that is not one JSON value in UTF-8; escapes, spacing, repeated keys and big numbers may pass."""
    require_text(body)
    try:
        _ANY.decode(body)
    except msgspec.DecodeError as error:
        if not has_surrogate_escape(body):
            raise not_json(error) from None
        try:
            _ANY.decode(neutral_escapes(body))
        except (msgspec.DecodeError, RecursionError) as again:
            raise not_json(again) from None
    except RecursionError as error:
        raise not_json(error) from None


def not_json(error: Exception) -> InvalidRequestError:
    """Build the refusal for a text that the parser gave up on."""
    if isinstance(error, RecursionError):
        return malformed("the JSON is nested too deeply")
    return malformed(f"the body is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}")


def has_surrogate_escape(body: bytes) -> bool:
    """Say whether some escape stands for half of a surrogate pair, which may lack its other half."""
    return b"\\ud" in body or b"\\uD" in body


def neutral_escapes(body: bytes) -> bytes:
    r"""Return a text of the same length in which surrogate escapes are harmless ones.

    JavaScript's JSON.stringify writes a lone surrogate as its escape, which is valid JSON; msgspec refuses it, as no
    Python string could leave as UTF-8. For finding out where values begin and end, `\u0041` does as well.
    """
    return _ESCAPE.sub(lambda match: b"\\u0041" if len(match.group()) == 6 else match.group(), body)


def object_members(body: bytes) -> list[tuple[str, bytes]]:
    """Return the members of a JSON object, repeated ones included, each value as the bytes that stand there.

    `body` must have passed `require_json` and be an object.
    """
    # Latin-1 keeps one character per byte, so positions in the text are positions in the bytes.
    text = body.decode("latin-1")
    members: list[tuple[str, bytes]] = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key_at = at
        _, at = _WALKER.raw_decode(text, at)
        key: str = json.loads(body[key_at:at])
        start = _skip(text, _skip(text, at) + 1)
        try:
            _, at = _WALKER.raw_decode(text, start)
        except RecursionError as error:
            raise not_json(error) from None
        members.append((key, body[start:at]))
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def read_object(body: bytes) -> dict[str, bytes]:
    """Return the members of the JSON object that `body` has to be; a key that stands there twice is refused."""
    require_json(body)
    if body.lstrip(WHITESPACE)[:1] != b"{":
        raise invalid("invalid_body", "the body must be a JSON object", Fault("", "not an object"))
    members = object_members(body)
    refuse_repeats(members)
    return dict(members)


def refuse_repeats(members: list[tuple[str, bytes]]) -> None:
    """Refuse an object with a key that stands there twice: which of the two was meant cannot be known."""
    if len({key for key, _ in members}) != len(members):
        raise malformed("a key stands there twice")


def _skip(text: str, at: int) -> int:
    match = _SPACES.match(text, at)
    return at if match is None else match.end()
