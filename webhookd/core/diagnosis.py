"""Why a signature does not match: usual changes to a body and usual mistakes with a secret, tried one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import product

from webhookd.core.keys import SECRET_PREFIX, key_bytes
from webhookd.core.settings import KeyEncoding

MOST_BYTES = 1024 * 1024
"""Above this, changes that take a pass over the whole body are not tried."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,:"]+|[,:]', re.DOTALL)


def changed_body(body: bytes, holds: Callable[[bytes], bool]) -> str | None:
    """Return in words how the body must have been changed for the signature to hold before, None if nobody knows."""
    for how, before in _earlier_bodies(body):
        if before != body and holds(before):
            return how
    return None


def other_key(secret: str, used: bytes, holds: Callable[[bytes], bool]) -> str | None:
    """Return in words what other key the sender has made of the same secret, None if nobody knows."""
    readings = (
        ("it was taken as plain text", KeyEncoding.RAW, ""),
        ("it was taken as plain text without whsec_", KeyEncoding.RAW, SECRET_PREFIX),
        ("it was decoded from base64", KeyEncoding.BASE64, SECRET_PREFIX),
        ("it was decoded from hexadecimal", KeyEncoding.HEX, ""),
    )
    for how, encoding, prefix in readings:
        try:
            key = key_bytes(secret, encoding, strip_prefix=prefix)
        except ValueError:
            continue
        if key != used and holds(key):
            return how
    for end in ("\n", "\r\n"):
        # Files end with a newline, and programs forget to take it off.
        if holds(secret.encode() + end.encode()):
            return "it was taken as plain text with a newline at its end"
    return None


def _earlier_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    if len(body) > MOST_BYTES:
        return
    for end in (b"\r\n", b"\n"):
        if body.endswith(end):
            yield "the newline at its end was not signed (without it the signature holds)", body.removesuffix(end)
    for end in (b"\n", b"\r\n"):
        yield "the newline at its end is gone (with it the signature holds)", body + end
    if body.startswith(_BYTE_ORDER_MARK):
        yield "the byte order mark at its beginning was not signed", body.removeprefix(_BYTE_ORDER_MARK)
    plain = body.replace(b"\r\n", b"\n")
    yield "its line ends were changed (they were LF)", plain
    yield "its line ends were changed (they were CR LF)", plain.replace(b"\n", b"\r\n")
    for how, text in _as_written_elsewhere(body):
        yield f"it was parsed and written anew: {how} was signed", text


def _as_written_elsewhere(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a JSON text as the usual libraries write it; its numbers and the order of its keys stay."""
    try:
        text = body.decode()
        json.loads(text, parse_int=str)
    except (ValueError, RecursionError):
        return
    tokens = _TOKEN.findall(text)
    spacings = (("JSON without spaces", ",", ":"), ("JSON with a space after commas and colons", ", ", ": "))
    strings: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("", lambda token: token),
        (" and with characters beyond ASCII as they are", lambda token: json.dumps(_value(token), ensure_ascii=False)),
        (" and with characters beyond ASCII as escapes", lambda token: json.dumps(_value(token))),
        (" and with escaped slashes", lambda token: json.dumps(_value(token)).replace("/", "\\/")),
    )
    for (spacing, comma, colon), (escapes, write) in product(spacings, strings):
        marks = {",": comma, ":": colon}
        parts = [write(token) if token[0] == '"' else marks.get(token, token) for token in tokens]
        yield spacing + escapes, "".join(parts).encode("utf-8", "surrogatepass")


def _value(token: str) -> str:
    value: str = json.loads(token)
    return value
