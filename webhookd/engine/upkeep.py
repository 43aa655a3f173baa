"""What happens by the clock rather than by an event: retention, and a heartbeat that notices what is out of step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from webhookd.core.ports import Clock, Store
from webhookd.engine.dispatcher import Dispatcher
from webhookd.metrics import Metrics

log = logging.getLogger(__name__)

_ROUND_SECONDS = 600.0
_BREATH_SECONDS = 0.05
_BEAT_SECONDS = 1.0
_STEP_MS = 250


class Upkeep:
    """Runs retention every ten minutes, in batches small enough to be lost among other commits."""

    def __init__(self, *, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store

    async def run(self) -> None:
        """Prune until cancelled; what the store raises ends it."""
        while True:
            await self._clock.sleep(_ROUND_SECONDS)
            while await self._store.prune(now_ms=self._clock.now_ms()):
                await self._clock.sleep(_BREATH_SECONDS)


class Heartbeat:
    """Beats once a second: measures the loop's lag, notices steps of the wall clock, and asks the writer for a sign.

    `alive` is called at every beat by which the writer has answered; whoever feeds a watchdog feeds it from there. A
    writer that does not answer is asked nothing more, and `asked_at` tells.
    """

    def __init__(
        self, *, clock: Clock, store: Store, dispatcher: Dispatcher, metrics: Metrics, alive: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._store = store
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._alive = alive
        self.asked_at = clock.monotonic()
        """When the writer was last asked for a sign, monotonic seconds; older than a beat while it owes one."""

    async def run(self) -> None:
        """Beat until cancelled; what the writer fails with ends it."""
        offset_ms = self._offset_ms()
        sign = asyncio.ensure_future(self._store.ping())
        while True:
            due = self._clock.monotonic() + _BEAT_SECONDS
            await self._clock.sleep(_BEAT_SECONDS)
            now = self._clock.monotonic()
            self._metrics.loop_lag(max(0.0, now - due))
            step_ms = self._offset_ms() - offset_ms
            offset_ms += step_ms
            if abs(step_ms) > _STEP_MS:
                log.warning("clock.stepped", extra={"fields": {"seconds": round(step_ms / 1000, 3)}})
                self._dispatcher.clock_stepped()
            if sign.done():
                await sign
                self.asked_at = now
                sign = asyncio.ensure_future(self._store.ping())
                self._alive()

    def _offset_ms(self) -> float:
        return self._clock.now_ms() - 1000 * self._clock.monotonic()
