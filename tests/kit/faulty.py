"""Runs the real daemon with one part that fails, from the moment a file is there.

`python -m tests.kit.faulty FAULT FILE serve -c FILE` takes the place of `webhookd serve -c FILE`. Everything is wrapped
where the daemon puts its rooms together; the product knows of none of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from webhookd import daemon
from webhookd.cli import main
from webhookd.core.event import Event
from webhookd.core.lanes import Lane
from webhookd.core.signing import HeaderPlan
from webhookd.engine.outage import NetworkWatch
from webhookd.engine.station import Station

BLOCKED_SECONDS = 60.0
_LOOK_SECONDS = 0.05

TASKS = ("the recorder", "retention", "the heartbeat", "reloading")
"""What the daemon supervises and may not end."""


async def _there(trigger: Path) -> None:
    # Made by another process, which can set no event in this one.
    while not trigger.exists():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)


def _poison() -> None:
    render = HeaderPlan.render

    def poisoned(self: HeaderPlan, event: Event, **more: Any) -> bytes:
        if b"poison" in event.payload:
            raise RecursionError("poison \ud800 \0")
        return render(self, event, **more)

    HeaderPlan.render = poisoned  # type: ignore[method-assign]


def _task(what: str, trigger: Path, *, raises: bool) -> None:
    """Let the supervised task `what` return, or raise, when `trigger` is there."""
    supervise = daemon.Daemon._supervise  # noqa: SLF001

    def supervised(self: Any, work: Any, name: str) -> None:
        async def ending() -> None:
            running = asyncio.ensure_future(work)
            await _there(trigger)
            running.cancel()
            if raises:
                raise LookupError("scripted")

        supervise(self, ending() if name == what else work, name)

    daemon.Daemon._supervise = supervised  # type: ignore[method-assign, assignment]  # noqa: SLF001


def _beside(act: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run `act` beside the daemon once it has started."""
    serve = daemon.Daemon.serve

    async def serving(self: Any) -> None:
        keep = asyncio.create_task(act(self))
        await serve(self)
        keep.cancel()

    daemon.Daemon.serve = serving  # type: ignore[method-assign]


def _blocked_loop(trigger: Path) -> None:
    async def block(_: Any) -> None:
        await _there(trigger)
        time.sleep(BLOCKED_SECONDS)

    _beside(block)


def _blocked_writer(trigger: Path) -> None:
    async def block(running: Any) -> None:
        await _there(trigger)
        await running.store._change(lambda _: time.sleep(BLOCKED_SECONDS))  # noqa: SLF001

    _beside(block)


def _dead_dispatcher(trigger: Path) -> None:
    next_of = NetworkWatch.next_of

    def failing(self: NetworkWatch, lane: Lane, now: float) -> Station | None:
        if trigger.exists():
            raise LookupError("scripted")
        return next_of(self, lane, now)

    NetworkWatch.next_of = failing  # type: ignore[method-assign]


def _run() -> None:
    _, fault, file, *arguments = sys.argv
    trigger = Path(file)
    match fault.split(":"):
        case ["poison"]:
            _poison()
        case ["blocked-loop"]:
            _blocked_loop(trigger)
        case ["blocked-writer"]:
            _blocked_writer(trigger)
        case ["dead-dispatcher"]:
            _dead_dispatcher(trigger)
        case ["task", what, how]:
            _task(what, trigger, raises=how == "raises")
        case _:
            raise SystemExit(f"unknown fault {fault}")
    main(args=arguments, prog_name="webhookd")


if __name__ == "__main__":
    _run()
