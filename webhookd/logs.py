"""Carries log lines to their sink from a thread of their own, and loses them, counted, rather than hold up the daemon.

The front is the standard library: `logging.getLogger("webhookd.engine").info("attempt.failed", extra={"fields": {…}})`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Any, Final, TextIO

import orjson

MAX_QUEUED_LINES: Final = 10_000
MAX_QUEUED_BYTES: Final = 8 * 1024 * 1024
"""Bounds of what waits for a slow sink; a line that would exceed either is dropped."""

_MAX_VALUE_CHARACTERS = 2048
_MAX_TRACEBACK_CHARACTERS = 16 * 1024
_MAX_LINE_BYTES = 64 * 1024
_BATCH_BYTES = 32 * 1024
_MAX_KINDS_REMEMBERED = 100

# sd-daemon(3): the number is a syslog priority.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

# C0 and C1 controls move cursors and start escape sequences, U+2028/9 start lines for some readers, and the direction
# marks make a line read as another one (CVE-2021-42574).
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_UNSAFE}]")
_NEEDS_QUOTES = re.compile(f'[\\s"=\\\\{_UNSAFE}]|^$')

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Style(StrEnum):
    """How a line looks: for people, for machines, or for machines behind journald with its priority in front."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


def configure(
    stream: TextIO | None = None, *, style: Style | str = Style.AUTO, level: int | str = logging.INFO
) -> LineWriter:
    """Send what is logged from now on to `stream` (stderr), replacing what an earlier call set up.

    `level` is that of webhookd's own loggers; other libraries are heard from warnings up.
    """
    target = sys.stderr if stream is None else stream
    chosen = Style(style)
    writer = LineWriter(target, detect_style(target) if chosen is Style.AUTO else chosen)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LineWriter)]:
        handler.close()
    root.addHandler(writer)
    root.setLevel(logging.WARNING)
    logging.getLogger("webhookd").setLevel(level.upper() if isinstance(level, str) else level)
    logging.captureWarnings(True)
    return writer


def flush(timeout_seconds: float) -> bool:
    """Wait until what was logged before is written, at most `timeout_seconds`; say whether it is."""
    return all(
        handler.flush(timeout_seconds) for handler in logging.getLogger().handlers if isinstance(handler, LineWriter)
    )


def detect_style(stream: TextIO) -> Style:
    """Say what reads `stream`: journald where JOURNAL_STREAM names its device and inode, a person, or a machine."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return Style.JSON
    if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return Style.JOURNAL
    return Style.TEXT if stream.isatty() else Style.JSON


class LineWriter(logging.Handler):
    """Formats where the logging happens, writes from its own thread; never blocks and never raises into the caller."""

    def __init__(self, stream: TextIO, style: Style) -> None:
        super().__init__()
        self._line: Callable[[logging.LogRecord], bytes] = {
            Style.TEXT: text_line,
            Style.JSON: json_line,
            Style.JOURNAL: journal_line,
        }[style]
        self._sink = _Sink(stream)
        self._queue: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        # Each number has one writing side, the emitters under the handler's lock or the thread, so no lock is needed
        # between them and a difference is never too small.
        self._put_lines = self._put_bytes = self._refused = 0
        self._done_lines = self._done_bytes = self._lost = 0
        self._reported = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="webhookd-logs", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were lost so far, to a full queue or a broken sink."""
        return self._refused + self._lost

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001 - a value whose str() raises must not reach the code that only wanted to log it
            self._refused += 1
            return
        full = (
            self._put_lines - self._done_lines >= MAX_QUEUED_LINES
            or self._put_bytes - self._done_bytes + len(line) > MAX_QUEUED_BYTES
        )
        if full or self._closed:
            self._refused += 1
            return
        self._put_lines += 1
        self._put_bytes += len(line)
        self._queue.put(line)

    # logging.shutdown calls this without arguments and does not look at the answer.
    def flush(self, timeout_seconds: float = 1.0) -> bool:  # type: ignore[override]
        """Wait until what was logged before is written, at most `timeout_seconds`; say whether it is."""
        if not self._thread.is_alive():
            return True
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(timeout_seconds)

    def close(self) -> None:
        """Flush as far as the sink allows within a second, and stop listening to the loggers."""
        if not self._closed:
            self._closed = True
            root = logging.getLogger()
            if self in root.handlers:
                root.removeHandler(self)
                logging.captureWarnings(False)
            self._queue.put(None)
            self._thread.join(1.0)
        super().close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            lines: list[bytes] = []
            reached: list[threading.Event] = []
            size = 0
            item = self._queue.get()
            while True:
                if isinstance(item, bytes):
                    lines.append(item)
                    size += len(item)
                elif item is None:
                    stopping = True
                else:
                    reached.append(item)
                if stopping or size >= _BATCH_BYTES:
                    break
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            if lines:
                self._write(lines)
            self._done_lines += len(lines)
            self._done_bytes += size
            for event in reached:
                event.set()
        self._sink.close()

    def _write(self, lines: list[bytes]) -> None:
        dropped = self.dropped
        news = [self._line(_dropped_record(dropped - self._reported))] if dropped > self._reported else []
        written = self._sink.write(b"".join(news + lines))
        if written >= sum(map(len, news)):
            self._reported = dropped
        for line in news:
            written -= len(line)
        for line in lines:
            written -= len(line)
            self._lost += written < 0


class _Sink:
    """Writes bytes to the descriptor behind a stream, or to the stream where it has none, and survives its failures."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._torn = False
        try:
            # Ours to keep: should somebody close stderr, its number may come to mean a database or a connection.
            self._descriptor: int | None = os.dup(stream.fileno())
        except (OSError, ValueError):
            self._descriptor = None

    def write(self, data: bytes) -> int:
        """Write and return how many bytes of `data` got through before the sink failed, if it did."""
        if self._descriptor is None:
            try:
                self._stream.write(data.decode())
                self._stream.flush()
            except (OSError, ValueError):
                return 0
            return len(data)
        # After a failure in mid-line the rest is gone; the next line must not be glued to what stands there.
        lead = b"\n" if self._torn else b""
        rest = memoryview(lead + data)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    # Somebody who shares the terminal made it non-blocking.
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll()
        except OSError:
            written = max(0, len(data) - len(rest))
            if written:
                self._torn = not data[:written].endswith(b"\n")
            return written
        self._torn = False
        return len(data)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


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


def install_loop_handler(
    loop: asyncio.AbstractEventLoop,
    *,
    interval_seconds: float = 5.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Log what the loop itself catches, each kind at most once in `interval_seconds`, with how often it was `repeated`.

    Running out of descriptors makes asyncio report once for every place in the backlog, in one burst.
    """
    log = logging.getLogger("webhookd.loop")
    # By kind: when it was last logged, and how many were swallowed since.
    seen: dict[tuple[str, str], tuple[float, int]] = {}

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = str(context.get("message", ""))
        # Anything that varies from one occurrence to the next, such as an address, would defeat the limit.
        kind = (text[:80], type(error).__name__)
        last, swallowed = seen.get(kind, (None, 0))
        now = monotonic()
        if last is not None and now - last < interval_seconds:
            seen[kind] = (last, swallowed + 1)
            return
        if len(seen) >= _MAX_KINDS_REMEMBERED:
            seen.clear()
        seen[kind] = (now, 0)
        fields: dict[str, object] = {"text": text, "repeated": swallowed}
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
            log.warning("resources.exhausted", extra={"fields": {**fields, "error": error.strerror}})
        else:
            log.error("callback.failed", exc_info=error, extra={"fields": fields})

    loop.set_exception_handler(handle)


def _dropped_record(count: int) -> logging.LogRecord:
    record = logging.LogRecord("webhookd.logs", logging.WARNING, "", 0, "log_lines.dropped", None, None)
    record.fields = {"count": count}
    return record


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
