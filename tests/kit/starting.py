"""Lets a fake that only knows how to send be started, as the engine starts attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from webhookd.core.attempt import Outcome
from webhookd.core.delivery import Work
from webhookd.core.settings import EndpointDefinition


class StartedTask:
    """An attempt made by a task; `ended` hears of it once, and never after `cancel`."""

    def __init__(self, task: asyncio.Task[Outcome], ended: Callable[[Outcome | Exception], None]) -> None:
        self._task = task
        self._ended = ended
        self._is_cancelled = False
        task.add_done_callback(self._tell)

    def cancel(self) -> None:
        self._is_cancelled = True
        self._task.cancel()

    def _tell(self, task: asyncio.Task[Outcome]) -> None:
        if self._is_cancelled or task.cancelled():
            return
        error = task.exception()
        self._ended(error if isinstance(error, Exception) else task.result())


class StartsBySending:
    """Gives a sender whose `send` is a coroutine the `start` of `core.ports.Sender`."""

    __slots__ = ()

    def start(
        self, work: Work, endpoint: EndpointDefinition, ended: Callable[[Outcome | Exception], None]
    ) -> StartedTask:
        return StartedTask(asyncio.get_running_loop().create_task(self.send(work, endpoint)), ended)

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        raise NotImplementedError
