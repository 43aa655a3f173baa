"""Reads a request that was saved as text: a dump of HTTP, or what `listen` prints, for people or as JSON."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass

_REQUEST_LINE = re.compile(rb"[A-Z]{1,32} \S+ HTTP/\d(?:\.\d)?\Z|HTTP/\d(?:\.\d)? \d{3}\b.*\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\Z")
_LISTENED = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z  \S+ .*  answered \d{3}\Z")
_INDENT = b"  "


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRequest:
    """The headers of a request, and its body byte for byte, as far as the text still has it."""

    headers: dict[str, str]
    body: bytes


def read_saved(text: bytes) -> SavedRequest:
    """Return the request in `text`. Raises ValueError with a sentence where there is none."""
    if text.lstrip()[:1] == b"{":
        return _from_json(text)
    if _LISTENED.match(text.lstrip(b"\r\n").split(b"\n", 1)[0].rstrip(b"\r")):
        return _from_listen(text.lstrip(b"\r\n"))
    return _from_dump(text)


def read_header(line: str) -> tuple[str, str]:
    """Return name and value of a header that was written as `Name: value`. Raises ValueError."""
    match = _HEADER.match(line.encode("utf-8", "surrogateescape"))
    if match is None:
        raise ValueError(f"{line[:60]!r} is not a header: Name: value")
    return _text(match[1]), _text(match[2])


def _from_dump(text: bytes) -> SavedRequest:
    headers: dict[str, str] = {}
    number, at = 0, 0
    while at < len(text):
        end = text.find(b"\n", at)
        line = text[at : end if end >= 0 else len(text)].removesuffix(b"\r")
        at = end + 1 if end >= 0 else len(text)
        number += 1
        if not line:
            if headers:
                return SavedRequest(headers=headers, body=text[at:])
            # Whatever saved it put empty lines before it.
            continue
        if not headers and _REQUEST_LINE.match(line):
            continue
        match = _HEADER.match(line)
        if match is None:
            raise ValueError(f"line {number} is neither a header nor the empty line that ends them: {line[:60]!r}")
        _add(headers, _text(match[1]), _text(match[2]))
    if not headers:
        raise ValueError("it is empty")
    return SavedRequest(headers=headers, body=b"")


def _from_listen(text: bytes) -> SavedRequest:
    """Read the headers and the body that stand indented under the line of the request."""
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    if any(_LISTENED.match(line) for line in lines[1:]):
        raise ValueError("it holds more than one request: save one of them")
    headers: dict[str, str] = {}
    at = 1
    while at < len(lines) and (match := _HEADER.match(lines[at].removeprefix(_INDENT))) is not None:
        _add(headers, _text(match[1]), _text(match[2]))
        at += 1
    body = []
    # Within the body an empty line is indented as well; what follows it is not.
    for line in lines[at + 1 :]:
        if not line.startswith(_INDENT):
            break
        body.append(line.removeprefix(_INDENT))
    return SavedRequest(headers=headers, body=b"\n".join(body))


def _from_json(text: bytes) -> SavedRequest:
    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        try:
            lines = [json.loads(text)]
        except (ValueError, RecursionError):
            raise ValueError("it begins like JSON and is none, nor a request") from None
    if len(lines) != 1:
        raise ValueError("it holds more than one request: save one of them")
    saved = lines[0]
    try:
        headers: dict[str, str] = {}
        for name, value in saved["headers"]:
            _add(headers, str(name), str(value))
        if "body_base64" in saved:
            return SavedRequest(headers=headers, body=base64.b64decode(saved["body_base64"]))
        return SavedRequest(headers=headers, body=str(saved["body"]).encode())
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "it is JSON, but not what listen --json prints; a bare body goes with --header and -d"
        ) from None


def _add(headers: dict[str, str], name: str, value: str) -> None:
    """Add a header; of those that stand there again, in whatever case, the values are joined (RFC 9110 section 5.2)."""
    given = next((known for known in headers if known.lower() == name.lower()), None)
    if given is None:
        headers[name] = value
    else:
        headers[given] = f"{headers[given]}, {value}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
