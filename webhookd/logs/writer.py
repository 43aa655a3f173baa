"""Carries lines to their sink from a thread of its own, and loses them, counted, rather than hold up the caller."""

from __future__ import annotations

import logging
import os
import select
import threading
from queue import Empty, SimpleQueue
from typing import Final, TextIO

from webhookd.logs.lines import FORMATS, Style

MAX_QUEUED_LINES: Final = 10_000
MAX_QUEUED_BYTES: Final = 8 * 1024 * 1024
"""Bounds of what waits for a slow sink; a line that would exceed either is dropped."""

_BATCH_BYTES = 32 * 1024


class LineWriter(logging.Handler):
    """Formats where the logging happens, writes from its own thread; never blocks and never raises into the caller."""

    def __init__(self, stream: TextIO, style: Style) -> None:
        super().__init__()
        self._line = FORMATS[style]
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


def _dropped_record(count: int) -> logging.LogRecord:
    record = logging.LogRecord("webhookd.logs", logging.WARNING, "", 0, "log_lines.dropped", None, None)
    record.fields = {"count": count}
    return record
