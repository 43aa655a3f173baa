"""Receivers that hang keep nobody else waiting, in a real daemon with a socket for each of two hundred receivers."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver, Reply

RECEIVERS = 200
TARPITS = 40
PER_SECOND = 50
MEASURED_SECONDS = 10.0
TO_TARPITS = 0.4
"""Their share of the events: with windows of four, forty of them get hold of 160 requests within the time."""
IN_FLIGHT = 112
"""Fewer than that, so that they would take up all of it without a lane of their own; and enough for that lane."""


async def produce(daemon: Daemon, rng: random.Random, seconds: float) -> dict[str, tuple[int, float]]:
    """Hand in events evenly over time, each for one endpoint; return receiver and moment of the 202, by event."""
    accepted: dict[str, tuple[int, float]] = {}

    async def hand_in(number: int) -> None:
        event_id = (await daemon.send(f"number.{number}", {"n": number}))["id"]
        accepted[event_id] = number, time.monotonic()

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for turn in range(round(seconds * PER_SECOND)):
            await asyncio.sleep(max(0.0, began + turn / PER_SECOND - time.monotonic()))
            of = (0, TARPITS) if rng.random() < TO_TARPITS else (TARPITS, RECEIVERS)
            tasks.create_task(hand_in(rng.randrange(*of)))
    return accepted


async def waits_seconds(receivers: list[Receiver], accepted: dict[str, tuple[int, float]]) -> list[float]:
    """Return how long after its 202 each event for a receiver that is well first got there, in order."""
    wanted = {event_id: number for event_id, (number, _) in accepted.items() if number >= TARPITS}

    def first_seen() -> dict[str, float]:
        seen: dict[str, float] = {}
        for number in set(wanted.values()):
            for request in receivers[number].requests:
                seen.setdefault(request.event_id, request.at)
        return seen

    async def all_are_there() -> bool:
        return wanted.keys() <= first_seen().keys()

    await eventually(all_are_there, timeout_seconds=60)
    seen = first_seen()
    return sorted(max(0.0, seen[event_id] - accepted[event_id][1]) for event_id in wanted)


def p99(values: list[float]) -> float:
    return values[int(0.99 * (len(values) - 1))]


@pytest.mark.long
async def test_one_in_five_that_hang_do_not_delay_the_others(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(Receiver()) for _ in range(RECEIVERS)]
        endpoints = {
            f"e{number}": {
                "url": f"{receiver.url}/hook",
                "types": [f"number.{number}"],
                "timeout": "30s",
                "signatures": [],
            }
            for number, receiver in enumerate(receivers)
        }
        config = {"endpoints": endpoints, "network": {"max_in_flight": IN_FLIGHT}}
        daemon = await stack.enter_async_context(running_daemon(tmp_path, config))
        while_all_are_well = await waits_seconds(receivers, await produce(daemon, rng, MEASURED_SECONDS / 2))
        for tarpit in receivers[:TARPITS]:
            tarpit.script(Reply(hang=True))
        while_some_hang = await waits_seconds(receivers, await produce(daemon, rng, MEASURED_SECONDS))
        hanging = sum(tarpit.in_flight for tarpit in receivers[:TARPITS])
    assert hanging >= IN_FLIGHT * 3 // 4, "the tarpits did not even fill their own lane"
    assert hanging < IN_FLIGHT
    # On a machine that is busy with something else everybody waits; the tarpits are not to add to that.
    assert p99(while_some_hang) < max(1.0, 3 * p99(while_all_are_well)), (p99(while_some_hang), p99(while_all_are_well))
