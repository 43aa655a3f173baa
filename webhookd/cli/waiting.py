"""Says on a terminal that something long is going on, and for how long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

SILENT_SECONDS = 1.0
"""How long nothing is said: what is over by then needs no words."""

_EVERY_SECONDS = 0.5
_CLEAR = "\r\x1b[K"


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show `words` and the seconds on stderr while the body runs, if that is a terminal; leave nothing of it."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def show() -> None:
        began = time.monotonic()
        pause = SILENT_SECONDS
        while not over.wait(pause):
            click.echo(f"{_CLEAR}{words} … {time.monotonic() - began:.0f} s", err=True, nl=False)
            pause = _EVERY_SECONDS
        if pause != SILENT_SECONDS:
            click.echo(_CLEAR, err=True, nl=False)

    # A daemon: an interrupted command must not wait for it.
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
