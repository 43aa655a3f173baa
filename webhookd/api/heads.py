"""What the head of a request must look like before anything else is asked of it."""

from __future__ import annotations

from dataclasses import dataclass

from webhookd.api.problems import malformed, refuse
from webhookd.core.settings import KIB

LINE_BYTES = 8 * KIB
HEAD_BYTES = 32 * KIB
HEAD_FIELDS = 100
LENGTH_DIGITS = 20
"""Of a Content-Length: as many as the largest number of 64 bits has."""

_SINGULAR = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"expect",
        b"host",
        b"idempotency-key",
        b"origin",
        b"sec-fetch-site",
        b"transfer-encoding",
    }
)
_NOT_HANDED_ON = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


@dataclass(slots=True)
class Head:
    """A request line and its header fields, names in lower case, collected within the bounds of this module."""

    target: bytes
    fields: dict[bytes, bytes]
    size_bytes: int
    count: int

    def add(self, name: bytes, value: bytes) -> None:
        """Take one field; a repeated one is joined by a comma where that keeps its meaning (RFC 9110, section 5.3)."""
        size = len(name) + len(value) + 4
        self.size_bytes += size
        self.count += 1
        if size > LINE_BYTES or self.size_bytes > HEAD_BYTES or self.count > HEAD_FIELDS:
            raise too_large()
        key = name.lower()
        fields = self.fields
        if key not in fields:
            fields[key] = value
        elif key in _SINGULAR:
            raise malformed("a header field that may stand only once is repeated")
        else:
            fields[key] += b", " + value


def too_large() -> Exception:
    """Build the refusal for a head that is out of bounds."""
    return malformed(
        f"the head of the request is too large: {LINE_BYTES} bytes a line, {HEAD_FIELDS} fields, {HEAD_BYTES} bytes"
    )


def split_target(head: Head) -> tuple[bytes, bytes]:
    """Return path and query of the target; an absolute one also settles the Host (RFC 9112, section 3.2.2)."""
    target = head.target
    if b"#" in target:
        # Whoever is asked for it behind us would cut it off, and find another route than the one judged here.
        raise malformed("the request target has a fragment")
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in {b"http", b"https"}:
            raise malformed("the request target is neither a path nor a URL")
        slash = rest.find(b"/")
        if slash < 0:
            raise malformed("the request target has no path")
        head.fields[b"host"] = rest[:slash]
        head.target = target = rest[slash:]
    path, _, query = target.partition(b"?")
    return path, query


def check_framing(head: Head, version: str) -> int | None:
    """Refuse what two readers could read in two ways; return the announced length of the body, None for chunks."""
    fields = head.fields
    if version == "1.1":
        if b"host" not in fields:
            raise malformed("the Host header is missing")
    elif version != "1.0":
        raise malformed("this is HTTP/1.1")
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
        raise malformed("the transfer coding is not chunked")
    encoding = fields.get(b"content-encoding")
    if encoding is not None and encoding.lower() not in {b"identity", b""}:
        raise refuse("unsupported_media_type", 415, "bodies are taken as they are, without a content encoding")
    if coding is not None:
        return None
    length = fields.get(b"content-length", b"0")
    # The parser has seen that it is a number; it may still be one of zeros, thousands of them, at which int() stops.
    if len(length) > LENGTH_DIGITS:
        raise malformed("the Content-Length has too many digits")
    return int(length)


def without_upgrade(method: bytes, head: Head, version: str) -> bytes:
    """Return the head again, as of a client that did not ask for another protocol."""
    close = b"close" in head.fields.get(b"connection", b"").lower()
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in head.fields.items()
        if name not in {b"connection", b"upgrade", b"http2-settings"}
    ]
    tail = b"connection: close\r\n\r\n" if close else b"\r\n"
    return b"%b %b HTTP/%b\r\n%b%b" % (method, head.target, version.encode(), b"".join(lines), tail)


def rewritten(method: bytes, head: Head, body: bytes, *, keep: bool) -> bytes:
    """Return the request as one that no parser can misread: whole, with a length, without hop-by-hop fields."""
    lines = [b"%b: %b\r\n" % (name, value) for name, value in head.fields.items() if name not in _NOT_HANDED_ON]
    close = b"" if keep else b"connection: close\r\n"
    return b"%b %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        method,
        head.target,
        b"".join(lines),
        close,
        len(body),
        body,
    )
