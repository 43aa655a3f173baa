"""Remembers in a small file how lives of the daemon ended, so that one that crashes again and again goes on gently."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

log = logging.getLogger(__name__)

NAME = "webhookd.lives"
WITHIN_SECONDS = 60.0
MANY = 3
"""So many unclean ends within a minute, and something that is sent or answered may be what ends the process."""


class Lives:
    """The file is there while a daemon lives; one that is found at a start was left behind by a crash.

    It holds the moments at which that was found, a line each. It is kept as well as can be: where it cannot be read or
    written, everything starts as usual. Whoever uses it holds the lock of the directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def begin(self, now_ms: int) -> bool:
        """Begin a life; return whether at least three have ended uncleanly within the last minute."""
        with contextlib.suppress(OSError):
            found = self._path.read_text(encoding="ascii", errors="replace").split() if self._path.exists() else None
            ends = [int(word) for word in found or () if word.isascii() and word.isdigit() and len(word) < 16]
            if found is not None:
                ends.append(now_ms)
            ends = [end for end in ends if 0 <= now_ms - end <= WITHIN_SECONDS * 1000][-MANY:]
            self._path.write_text("".join(f"{end}\n" for end in ends), encoding="ascii")
            if len(ends) >= MANY:
                log.warning("crashes.noted", extra={"fields": {"crashes": len(ends), "within_seconds": WITHIN_SECONDS}})
            return len(ends) >= MANY
        return False

    def end(self) -> None:
        """End a life in the orderly way: whatever was before is forgotten."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
