"""The benchmark `steps`: what each step on the path of one event costs by itself, in the bare pipeline.

One process, one thread, nothing beside it: the pieces of `bench.bare` one after another, each many times over, by the
processor time of the thread. Sockets are a connected pair over the loopback interface. Commits are made of as many
events and outcomes as are given, in the file and with the settings of the pipeline; `waiting` is the time in which the
disk was waited for. It is the floor under every figure of the daemon, and says where the rest of its time is not.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, cast

import httptools

from bench import bare, disk, sample
from bench.plan import Plan, circumstances
from bench.processes import complete
from bench.report import Report
from bench.runs import bounded

DEFAULTS = {"events": 20_000}
GROUPS = (1, 8, 64, 256)
_AT_ONCE = 64
_TARGET = "http://127.0.0.1:80/hook"
_ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 62\r\n\r\n" + b"." * 62
_ACKNOWLEDGEMENT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def run(plan: Plan) -> Report:
    """Measure every step `plan.events` times, commits of one event for a tenth of them."""
    return complete(bounded("steps", _run(plan), events=10 * plan.events))


async def _run(plan: Plan) -> Report:
    with disk.workplace(plan.directory) as workplace:
        about = circumstances(plan, workplace)
        figures = {**_decoding(plan.events), **_sending(plan.events)}
        for size in GROUPS:
            events = max(1, plan.events // (10 if size == 1 else 1) // size) * size
            figures |= _committing(workplace / f"group-{size}.db", events, size)
    return {
        "benchmark": "steps",
        "about": f"{plan.events:,} times each, in one thread with nothing beside it",
        **about,
        "figures": {f"{what}, µs": value for what, value in figures.items()},
    }


class _Nobody:
    """Takes whatever is handed on by the step that is measured."""

    idle = ()

    def accept(self, body: bytes, intake: bare.Intake) -> None:
        """Do nothing."""

    def settle(self, settled: bare.Settled, outlet: bare.Outlet) -> None:
        """Do nothing."""


def _each(times: int, step: Callable[[], object]) -> float:
    """Return the microseconds of processor time of one `step`."""
    begun = thread_time()
    for _ in range(times):
        step()
    return (thread_time() - begun) / times * 1e6


def _decoding(events: int) -> dict[str, float]:
    nobody = cast("bare.Pipeline", _Nobody())
    request = sample.Requests().build(1)
    intake, outlet = bare.Intake(nobody), bare.Outlet(nobody)
    body = request[request.index(b"\r\n\r\n") + 4 :]
    decode = bare.DECODER.decode
    pipeline = bare.Pipeline(cast("bare.Session", None), _TARGET, sample.KEY)
    owed = bare.Owed(1 << 60, sample.TYPE, "default", 0, sample.payload(1), intake)
    response = httptools.HttpResponseParser(outlet)
    return {
        "parsing a request": _each(events, lambda: intake.data_received(request)),
        "decoding its envelope": _each(events, lambda: bytes(decode(body).payload)),
        "building and signing a delivery": _each(events, lambda: pipeline.sign(owed)),
        "parsing a response": _each(events, lambda: response.feed_data(_ACKNOWLEDGEMENT)),
    }


def _sending(events: int) -> dict[str, float]:
    """Measure sends and receives of what goes over the four directions, as many at once as there are connections."""
    sizes = {
        "request": len(sample.Requests().build(1)),
        "answer": len(_ANSWER),
        "delivery": 300 + sample.PAYLOAD_BYTES,
        "acknowledgement": len(_ACKNOWLEDGEMENT),
    }
    sent, received = {}, {}
    with _pairs(_AT_ONCE) as pairs:
        for what, size in sizes.items():
            data = b"." * size
            sending = receiving = 0.0
            rounds = max(1, events // _AT_ONCE)
            for _ in range(rounds):
                begun = thread_time()
                for near, _ in pairs:
                    near.send(data)
                between = thread_time()
                for _, far in pairs:
                    far.recv(65536)
                sending += between - begun
                receiving += thread_time() - between
            sent[what] = sending / rounds / _AT_ONCE * 1e6
            received[what] = receiving / rounds / _AT_ONCE * 1e6
    return {
        "receiving a request": received["request"],
        "sending its answer": sent["answer"],
        "sending a delivery": sent["delivery"],
        "receiving its acknowledgement": received["acknowledgement"],
    }


@contextlib.contextmanager
def _pairs(number: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Lend connected pairs of sockets over the loopback interface."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pairs = []
        for _ in range(number):
            near = stack.enter_context(socket.create_connection(server.getsockname()))
            pairs.append((near, stack.enter_context(server.accept()[0])))
        yield pairs


def _committing(database: Path, events: int, size: int) -> dict[str, float]:
    """Measure commits of `size` events, and as many outcomes of those of the commit before."""
    db = bare.opened(database)
    numbers: Iterator[int] = count(1 << 60)
    nobody: Any = None
    settled: list[bare.Settled] = []
    used = elapsed = 0.0
    for _ in range(events // size):
        ids = [next(numbers) for _ in range(size)]
        accepted = [bare.Owed(one, sample.TYPE, "default", 0, sample.payload(one % 1000), nobody) for one in ids]
        begun, began = thread_time(), perf_counter()
        bare.commit(db, accepted, settled)
        used += thread_time() - begun
        elapsed += perf_counter() - began
        settled = [bare.Settled(one, 0, 1.0, 200) for one in ids]
    db.close()
    return {
        f"committing, {size} at a time": used / events * 1e6,
        f"waiting for the disk, {size} at a time": max(0.0, elapsed - used) / events * 1e6,
    }
