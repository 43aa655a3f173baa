"""What happens by the clock rather than by an event: retention, and a heartbeat that notices what is out of step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from webhookd.core.ports import Clock, Store
from webhookd.core.settings import Storage
from webhookd.engine.dispatcher import Dispatcher
from webhookd.errors import StoreIOError, StoreUnavailableError
from webhookd.metrics import Metrics

log = logging.getLogger(__name__)

_LONGEST_ROUND_SECONDS = 600.0
_SHORTEST_ROUND_SECONDS = 1.0
_ROUNDS_IN_A_LIFE = 10
_FIRST_ROUND_SECONDS = 60.0
_BREATH_SECONDS = 0.05
_BEAT_SECONDS = 1.0
_STEP_MS = 250
_FROZEN_SECONDS = 5.0


class Upkeep:
    """Runs retention every ten minutes, in batches small enough to be lost among other commits.

    Where something is kept for less than 100 minutes the rounds are shorter, so that nothing stays longer than a tenth
    beyond its time, or a second. `storage` may be replaced; it is looked at after each round.
    """

    def __init__(self, *, clock: Clock, store: Store, storage: Storage) -> None:
        self._clock = clock
        self._store = store
        self.storage = storage

    async def run(self) -> None:
        """Prune until cancelled; a disk that fails ends it, one that is full or busy only ends the round."""
        # Soon after the start, or a daemon that is restarted often would never come to it; not at once, since a wall
        # clock that is wrong after boot is put right in the first seconds.
        await self._clock.sleep(min(_FIRST_ROUND_SECONDS, self._round_seconds()))
        while True:
            try:
                while await self._store.prune(now_ms=self._clock.now_ms()):
                    await self._clock.sleep(_BREATH_SECONDS)
            except StoreIOError:
                raise
            except StoreUnavailableError as error:
                # Deleting takes room as well. Whoever makes some must not have to start the daemon again too.
                log.warning("retention.postponed", extra={"fields": {"reason": str(error)}})
            await self._clock.sleep(self._round_seconds())

    def _round_seconds(self) -> float:
        shortest = min(self.storage.keep_delivered_seconds, self.storage.keep_dead_seconds)
        return min(_LONGEST_ROUND_SECONDS, max(_SHORTEST_ROUND_SECONDS, shortest / _ROUNDS_IN_A_LIFE))


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
        self.awake_since = self.asked_at
        """When the process last went on after it had been frozen, monotonic seconds; at first, when it began."""

    async def run(self) -> None:
        """Beat until cancelled; a disk that fails ends it."""
        offset_ms = self._offset_ms()
        sign = asyncio.ensure_future(self._store.ping())
        while True:
            due = self._clock.monotonic() + _BEAT_SECONDS
            await self._clock.sleep(_BEAT_SECONDS)
            now = self._clock.monotonic()
            self._metrics.loop_lag(max(0.0, now - due))
            if now - due > _FROZEN_SECONDS:
                # Stopped, swapped out, or its machine was: nobody got on, so nobody is to blame for that time.
                self.awake_since = now
                log.warning("process.resumed", extra={"fields": {"after_seconds": round(now - due, 3)}})
            step_ms = self._offset_ms() - offset_ms
            offset_ms += step_ms
            if abs(step_ms) > _STEP_MS:
                log.warning("clock.stepped", extra={"fields": {"seconds": round(step_ms / 1000, 3)}})
                self._dispatcher.clock_stepped()
            if sign.done():
                if await _is_sign_of_life(sign):
                    self.asked_at = now
                    self._alive()
                sign = asyncio.ensure_future(self._store.ping())

    def _offset_ms(self) -> float:
        return self._clock.now_ms() - 1000 * self._clock.monotonic()


async def _is_sign_of_life(sign: Awaitable[None]) -> bool:
    try:
        await sign
    except StoreIOError:
        raise
    except StoreUnavailableError:
        # Too much is queued to ask: whether the writer gets on is for a later beat to see.
        return False
    return True
