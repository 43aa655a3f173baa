"""What the dispatcher sets going, as tasks and callbacks, none of which may fail without ending the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")


class Errands:
    """Keeps tasks until they end; `failed` resolves with the first exception of any of them, or of a callback."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def guarded(self, call: Callable[P, None]) -> Callable[P, None]:
        """Return `call` for the loop to call back, which would only log what it raises."""

        @wraps(call)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                call(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whoever waits for `failed` raises it
                self.fail(error)

        return guarded

    def cancel(self) -> None:
        """Drop every task."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Return once there is no task left."""
        while self._tasks:
            await asyncio.wait(set(self._tasks), return_when=asyncio.ALL_COMPLETED)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Report that the dispatcher cannot go on; the first report counts."""
        if not self.failed.done():
            self.failed.set_exception(error)
