"""Logging: who listens to the loggers, and how it reads; a slow or broken sink never holds up the daemon.

The front is the standard library: `logging.getLogger("webhookd.engine").info("attempt.failed", extra={"fields": {…}})`.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from webhookd.logs.lines import Style
from webhookd.logs.loop import install_loop_handler
from webhookd.logs.writer import LineWriter

__all__ = ["LineWriter", "Style", "configure", "detect_style", "dropped", "flush", "install_loop_handler"]

_STANDARD_ERROR = 2


def configure(
    stream: TextIO | None = None, *, style: Style | str = Style.AUTO, level: int | str = logging.INFO
) -> LineWriter:
    """Send what is logged from now on to `stream` (stderr), replacing what an earlier call set up.

    `level` is that of webhookd's own loggers; other libraries are heard from warnings up.
    """
    target = _standard_error() if stream is None else stream
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


def _standard_error() -> TextIO:
    """Return stderr, and where there is none something in its place, that leads nowhere.

    Under the number of a stream that was closed the next file or connection would be opened, and whatever writes to
    standard error by its number, as a crashing interpreter does, would write into that.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(_STANDARD_ERROR, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    return sys.stderr


def flush(timeout_seconds: float) -> bool:
    """Wait until what was logged before is written, at most `timeout_seconds`; say whether it is."""
    return all(
        handler.flush(timeout_seconds) for handler in logging.getLogger().handlers if isinstance(handler, LineWriter)
    )


def dropped() -> int:
    """Return how many lines were lost so far to a sink that did not keep up or is gone."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LineWriter))


def detect_style(stream: TextIO) -> Style:
    """Say what reads `stream`: journald where JOURNAL_STREAM names its device and inode, a person, or a machine."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return Style.JSON
    if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return Style.JOURNAL
    return Style.TEXT if stream.isatty() else Style.JSON
