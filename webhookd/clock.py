"""The clock of the machine, as `core.ports.Clock` asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from webhookd.core.ports import Cancellable


class SystemClock:
    """Tells real time; `call_later` and `sleep` belong to the loop that is running when they are called."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> Cancellable:
        return asyncio.get_running_loop().call_later(delay_seconds, callback)

    async def sleep(self, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
