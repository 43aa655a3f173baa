"""What several producers hand in within one turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import running_engine
from webhookd.core.ports import Submission
from webhookd.engine import intake


async def test_nobody_waits_for_more_than_is_committed_together(
    clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_ROWS_AT_ONCE", 4)
    async with running_engine(clock, tmp_path, builders.endpoint("orders", declared=True)) as engine:
        portions: list[list[int]] = []
        store = engine.intake._store  # noqa: SLF001

        class Watched:
            def accept(self, calls: Sequence[Sequence[Submission]]) -> Any:
                portions.append([len(call) for call in calls])
                return store.accept(calls)

        monkeypatch.setattr(engine.intake, "_store", Watched())
        one = builders.draft()
        answers = [engine.hand_in(*drafts) for drafts in ([one], [one], [one], [one, one, one], [one])]
        taken = await asyncio.gather(*answers)
        assert portions == [[1, 1], [1], [3], [1]]
        assert [len(acceptances) for acceptances in taken] == [1, 1, 1, 3, 1]


async def test_an_answer_that_cannot_be_told_is_a_fault_of_ours(clock: VirtualClock, tmp_path: Path) -> None:
    """Whoever was to be answered behind it must not wait for ever: the process ends."""

    def broken(_: object) -> None:
        raise RuntimeError("nobody to tell")

    with pytest.raises(RuntimeError, match="nobody to tell"):  # noqa: PT012 - it is raised by the end of the engine
        async with running_engine(clock, tmp_path, builders.endpoint("orders", declared=True)) as engine:
            engine.intake.accept([builders.draft()], broken)
            await clock.run_for(1)
            assert len(engine.sent()) == 1
