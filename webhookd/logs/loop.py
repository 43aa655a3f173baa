"""Logs what the event loop itself catches, without letting a burst of the same trouble fill the log."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from typing import Any

_MAX_KINDS_REMEMBERED = 100

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def install_loop_handler(
    loop: asyncio.AbstractEventLoop,
    *,
    interval_seconds: float = 5.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> asyncio.Future[None]:
    """Log what the loop itself catches, each kind at most once in `interval_seconds`, with how often it was `repeated`.

    Running out of descriptors makes asyncio report once for every place in the backlog, in one burst. What is returned
    fails with a MemoryError that was caught: a transport that finds no memory to read into only closes, and nothing
    else would tell.
    """
    failed: asyncio.Future[None] = loop.create_future()
    log = logging.getLogger("webhookd.loop")
    # By kind: when it was last logged, and how many were swallowed since.
    seen: dict[tuple[str, str], tuple[float, int]] = {}

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, MemoryError) and not failed.done():
            failed.set_exception(error)
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
    return failed
