"""Kills at random moments, under load: what was acknowledged is delivered, and nothing on record is sent again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.kit.ledger import keeping_book
from tests.kit.ledger_check import Report

PARTS, DAEMONS = 4, 2
"""200 kills: in parts that are each over within a minute, two daemons side by side, since each is mostly starting."""

UNRECORDED_SECONDS = 2.0
"""An outcome is on record after some milliseconds, if the machine is not busy with other tests."""


async def killed(directory: Path, kills: int, *, seed: int) -> Report:
    """Kill the daemon again and again, 5 to 500 ms after it was ready and sometimes before; return what there was.

    One life in twenty lasts for seconds: what was not on record for so long would else be forgiven with the rest.
    """
    draw = random.Random(seed)
    directory.mkdir()
    async with keeping_book(directory, seed=seed) as book:
        await book.produce()
        for turn in range(kills):
            is_early, is_long = draw.random() < 0.1, turn % 20 == 10
            await book.start(ready=not is_early or is_long)
            if is_long:
                await asyncio.sleep(1.5 * UNRECORDED_SECONDS)
            else:
                await asyncio.sleep(draw.uniform(0, 0.7) if is_early else draw.uniform(0.005, 0.5))
            await book.kill9()
        await book.start()
        report = await book.close(unrecorded_seconds=UNRECORDED_SECONDS)
        assert report.kills == kills
        assert report.acknowledged > 5 * kills
        return report


async def test_a_few_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    await killed(tmp_path / "0", 5, seed=seed)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
async def test_kills_lose_nothing_and_repeat_only_what_was_not_on_record(
    tmp_path: Path, seed: int, scale: int, part: int
) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(DAEMONS):
            chosen = (seed * PARTS + part) * DAEMONS + number
            group.create_task(killed(tmp_path / str(number), 25 * scale, seed=chosen))
