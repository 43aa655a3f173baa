"""One run: a receiver, a subject beside it, and a process that hands in events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from bench.plan import Plan
from bench.processes import Child, MeasurementError, child
from bench.subjects import Endpoint, Place, free_address, running

T = TypeVar("T")

WARM_UP_EVENTS = 1000
"""Handed in before the clock starts, so that neither connections, nor statements, nor code are new."""

LANES_OPEN_SECONDS = 11.0
RECEIVER = ["-m", "bench.receiver"]
_START_AND_END_SECONDS = 90.0
_SLOWEST_PER_SECOND = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What differs from a single kind of event for a single endpoint."""

    endpoints: Sequence[Endpoint] = (Endpoint(),)
    receiver: Sequence[str] = ()
    certificate: Path | None = None
    ca_file: Path | None = None


ONE_ENDPOINT = Scene()


class Stage:
    """A subject that is ready, and a receiver for what it delivers."""

    def __init__(self, plan: Plan, place: Place, receiver: Child, subject: Child, ready_seconds: float) -> None:
        self.place = place
        self.receiver = receiver
        self.subject = subject
        self.ready_seconds = ready_seconds
        """From the start of its process until it said that it was ready."""
        self._plan = plan
        self._next = 0

    async def hand_in(self, events: int, *, deliveries: int | None = None, **options: float) -> dict[str, Any]:
        """Let a process of its own hand in `events` events; return its report.

        Ends when the receiver has seen `deliveries` requests since it was last reset (default: as many as events; at 0
        nothing is waited for), or has lost patience. The options are those of bench.load.
        """
        arguments = ["--to", self.place.address, "--events", str(events), "--first", str(self._next)]
        for name, value in {"connections": self._plan.connections, **options}.items():
            arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        self._next += events
        async with child(["-m", "bench.load", *arguments], self.place.directory) as load:
            report = await load.read()
        if deliveries != 0:
            await self.receiver.ask(f"await {events if deliveries is None else deliveries}")
        return report

    async def lanes_open(self) -> None:
        """Wait until the daemon may send as much at once as it ever will; after a start it opens its lanes slowly."""
        await asyncio.sleep(LANES_OPEN_SECONDS)

    async def warm_up(self, events: int, **options: float) -> None:
        """Hand in what does not count, and wait until all of it is done with."""
        await self.hand_in(events, **options)
        await self.subject.rest()
        await self.receiver.ask("reset")

    async def conclude(self) -> dict[str, Any]:
        """End the subject in order, so that nothing can come any more, and return what the receiver has seen."""
        await self.subject.stop()
        return await self.receiver.ask("report")


@contextlib.asynccontextmanager
async def staged(
    name: str, plan: Plan, directory: Path, scene: Scene = ONE_ENDPOINT, *, profile: Path | None = None
) -> AsyncIterator[Stage]:
    """Run the subject `name` in `directory`, with a receiver; ended in order on the way out of a good run.

    What is in the directory already, such as a filled database, is what the subject finds.
    """
    arguments = [*scene.receiver, *(["--certificate", str(scene.certificate)] if scene.certificate else [])]
    async with child([*RECEIVER, *arguments], directory) as receiver:
        port = (await receiver.read())["port"]
        place = Place(
            directory=directory,
            address=free_address(plan.socket, directory),
            target=f"{'https://localhost' if scene.certificate else 'http://127.0.0.1'}:{port}",
            endpoints=scene.endpoints,
            ca_file=scene.ca_file,
        )
        begun = monotonic()
        async with running(name, place, profile=profile) as subject:
            yield Stage(plan, place, receiver, subject, monotonic() - begun)
            if subject.process.returncode is None:
                await subject.stop()


async def bounded(name: str, work: Coroutine[Any, Any, T], *, events: int = 0, seconds: float = 0.0) -> T:
    """Return what `work` returns; MeasurementError if it takes much longer than it could.

    It hands in `events` events, and takes `seconds` of whatever else it does.
    """
    limit = _START_AND_END_SECONDS + events / _SLOWEST_PER_SECOND + seconds
    try:
        async with asyncio.timeout(limit):
            return await work
    except TimeoutError:
        raise MeasurementError(f"{name} took longer than {limit:.0f} s") from None
