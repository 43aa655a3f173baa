"""Handing events to a store one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from webhookd.core.ports import Acceptance, Answer, Intake, Submission


def accepted(store: Intake, submissions: Sequence[Submission]) -> asyncio.Task[list[Acceptance]]:
    """Hand in one call at once, and return what is to become of it; raises what it is refused for."""
    return asyncio.ensure_future(_only(store.accept([submissions])))


async def _only(answers: Awaitable[list[Answer]]) -> list[Acceptance]:
    (answer,) = await answers
    if isinstance(answer, Exception):
        raise answer
    return answer
