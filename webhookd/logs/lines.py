"""Turns log records into lines: for people, for machines, and for machines behind journald."""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import orjson

_MAX_VALUE_CHARACTERS = 2048
_MAX_TRACEBACK_CHARACTERS = 16 * 1024
_MAX_LINE_BYTES = 64 * 1024

# sd-daemon(3): the number is a syslog priority.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

# C0 and C1 controls move cursors and start escape sequences, U+2028/9 start lines for some readers, and the direction
# marks make a line read as another one (CVE-2021-42574).
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_UNSAFE}]")
_NEEDS_QUOTES = re.compile(f'[\\s"=\\\\{_UNSAFE}]|^$')


class Style(StrEnum):
    """How a line looks: for people, for machines, or for machines behind journald with its priority in front."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


def json_line(record: logging.LogRecord) -> bytes:
    """Return the record as one JSON object: `time` (RFC 3339), `level`, `logger`, `message`, fields, `exception`."""
    entry: dict[str, Any] = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _cut(_message(record)),
    }
    for key, value in _fields(record).items():
        entry[f"field_{key}" if key in entry or key == "exception" else str(key)] = _cut(value)
    exception = _exception(record)
    if exception:
        entry["exception"] = exception
    line = _dumps(entry)
    if len(line) > _MAX_LINE_BYTES:
        kept = {key: entry[key] for key in ("time", "level", "logger", "message")}
        line = _dumps({**kept, "cut_bytes": len(line)})
    return line + b"\n"


def journal_line(record: logging.LogRecord) -> bytes:
    """Return the JSON line behind its priority, `<N>`, which journald takes off and files (sd-daemon(3))."""
    priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
    return b"<%d>" % priority + json_line(record)


def text_line(record: logging.LogRecord) -> bytes:
    """Return the record for a person to read: time, level, message, fields; an exception indented below."""
    fields = " ".join(f"{_quoted(key)}={_quoted(value)}" for key, value in _fields(record).items())
    message = _escaped(str(_cut(_message(record))))
    line = f"{_time(record)} {record.levelname:<8} {message:<24} {fields}".rstrip()
    for below in _exception(record).splitlines():
        line += f"\n    {_escaped(below)}"
    encoded = line.encode(errors="backslashreplace")
    if len(encoded) > _MAX_LINE_BYTES:
        encoded = encoded[:_MAX_LINE_BYTES].decode(errors="ignore").encode()
    return encoded + b"\n"


FORMATS: dict[Style, Callable[[logging.LogRecord], bytes]] = {
    Style.TEXT: text_line,
    Style.JSON: json_line,
    Style.JOURNAL: journal_line,
}


def _fields(record: logging.LogRecord) -> Mapping[object, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the format; what was meant is still worth reading
        return f"{record.msg} {record.args!r}"


def _time(record: logging.LogRecord) -> str:
    seconds, milliseconds = divmod(int(record.created * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"


def _exception(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    text = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    if len(text) > _MAX_TRACEBACK_CHARACTERS:
        half = _MAX_TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return text


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > _MAX_VALUE_CHARACTERS:
        return value[:_MAX_VALUE_CHARACTERS] + "…"
    return value


def _quoted(value: object) -> str:
    text = str(_cut(value if isinstance(value, str) else str(value)))
    if not _NEEDS_QUOTES.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_escaped(escaped)}"'


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _dumps(entry: Mapping[str, object]) -> bytes:
    try:
        line = orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Lone surrogates and integers beyond 64 bits, which the standard library can write.
        line = json.dumps(entry, default=str, separators=(",", ":"))
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", line).encode()
