"""Finds where an HTTP/1.1 message ends, for the two instruments that must cost less than what they measure."""

from __future__ import annotations

_LENGTH = b"\r\ncontent-length:"


def measure(data: bytes) -> tuple[int, int] | None:
    """Return where the body of the first message in `data` begins and ends, or None until all of it is there.

    A message without Content-Length has no body. Raises ValueError for a transfer coding, which nobody here sends.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(_LENGTH)
    if at < 0:
        if b"\r\ntransfer-encoding:" in head:
            raise ValueError("a transfer coding where a Content-Length was expected")
        return end + 4, end + 4
    at += len(_LENGTH)
    stop = head.find(b"\r", at)
    body = end + 4
    finish = body + int(head[at:stop] if stop >= 0 else head[at:])
    return None if finish > len(data) else (body, finish)


def header(head: bytes, name: bytes) -> bytes | None:
    """Return the value of the header `name`, which is given in lower case, or None."""
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return None
    at += len(name) + 3
    stop = head.find(b"\r", at)
    return (head[at:stop] if stop >= 0 else head[at:]).strip()
