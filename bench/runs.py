"""One run: a receiver, a subject beside it and what is handed in, counted only if all was delivered exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.plan import Plan
from bench.processes import Child, MeasurementError, child
from bench.subjects import Endpoint, Place, free_address, running

T = TypeVar("T")

WARM_UP_EVENTS = 1000
"""Handed in before the clock starts, so that neither connections, nor statements, nor code are new."""
LANES_OPEN_SECONDS = 11.0


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

    def __init__(self, plan: Plan, place: Place, receiver: Child, subject: Child) -> None:
        self.place = place
        self.receiver = receiver
        self.subject = subject
        self._plan = plan
        self._next = 0

    async def hand_in(self, events: int, *, deliveries: int | None = None, **options: float) -> dict[str, Any]:
        """Let a process of its own hand in `events` events; return its report.

        Ends when the receiver has seen `deliveries` requests since it was last reset (default: as many as events; at 0
        nothing is waited for). The options are those of bench.load.
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

    async def warm_up(self, events: int = WARM_UP_EVENTS, **options: float) -> None:
        """Hand in what does not count, and wait until all of it is done with."""
        await self.hand_in(events, **options)
        await self.subject.rest()
        await self.receiver.ask("reset")


@contextlib.asynccontextmanager
async def staged(
    name: str, plan: Plan, directory: Path, scene: Scene = ONE_ENDPOINT, *, profile: Path | None = None
) -> AsyncIterator[Stage]:
    """Run the subject `name` in `directory`, with a receiver; ended in order on the way out of a good run.

    What is in the directory already, such as a filled database, is what the subject finds.
    """
    arguments = [*scene.receiver, *(["--certificate", str(scene.certificate)] if scene.certificate else [])]
    async with child(["-m", "bench.receiver", *arguments], directory) as receiver:
        port = (await receiver.read())["port"]
        place = Place(
            directory=directory,
            address=free_address(plan.socket, directory),
            target=f"{'https://localhost' if scene.certificate else 'http://127.0.0.1'}:{port}",
            endpoints=scene.endpoints,
            ca_file=scene.ca_file,
        )
        async with running(name, place, profile=profile) as subject:
            yield Stage(plan, place, receiver, subject)
            if subject.process.returncode is None:
                await subject.stop()


async def bounded(name: str, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; MeasurementError if it takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise MeasurementError(f"{name} took longer than {seconds:g} s") from None


def check(load: dict[str, Any], seen: dict[str, Any], *, events: int, copies: int = 1) -> None:
    """Raise MeasurementError unless each of `events` events was accepted, and each delivered exactly as handed in.

    With `copies`, the receiver counts by path, and every event must have come once to as many paths.
    """
    wrong = [f"{count} were answered {status}, not 202" for status, count in load["refused"].items()]
    accepted, delivered = set(load["ids"]), {one.partition(" ")[0] for one in seen["ids"]}
    if load["accepted"] != len(accepted):
        wrong.append(f"{load['accepted']} were accepted under only {len(accepted)} ids")
    if lost := accepted - delivered:
        wrong.append(f"{len(lost)} were accepted and not delivered, such as {min(lost)}")
    if strange := delivered - accepted:
        wrong.append(f"{len(strange)} were delivered and not accepted, such as {min(strange)}")
    if seen["duplicates"]:
        wrong.append(f"{seen['duplicates']} deliveries came twice")
    if not wrong and seen["requests"] != events * copies:
        wrong.append(f"{seen['requests']} deliveries came of {events} events")
    if not seen["checked"]:
        wrong.append("no delivery was looked at")
    wrong.extend(seen["complaints"])
    if wrong:
        raise MeasurementError("; ".join(wrong))


def check_database(path: Path, deliveries: int) -> None:
    """Raise MeasurementError unless the database the subject left behind knows that all was delivered."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        states = dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY state"))
    if states != {"delivered": deliveries}:
        raise MeasurementError(f"the database of {deliveries} deliveries holds {states}")
