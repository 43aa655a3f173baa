"""A clock that only moves when told to, so that days of retries pass in milliseconds and always in the same order."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

START_MS = 1_735_689_600_000
"""2025-01-01T00:00:00Z, when every virtual clock starts unless told otherwise."""

Idle = Callable[[], Awaitable[bool]]
"""True at once when nothing is outstanding elsewhere; else False, after waiting for something to come back."""

_NS = 1_000_000_000
_NS_PER_MS = 1_000_000
_MAX_TURNS = 200_000
_MAX_FIRED_AT_ONE_INSTANT = 200_000


class VirtualTimer:
    """A callback on the heap of a VirtualClock."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """Implements `core.ports.Clock`; time passes only in `advance`, `run_for`, `run_until` and `run_while`.

    Timers fire in order of their moment, those of one moment in the order they were set, each called directly, so that
    what it raises reaches the test. Before time moves, the loop runs until it has nothing left to do and every `Idle`
    (see `wait_for`) agrees that nothing is outstanding outside of it.
    """

    def __init__(self, *, now_ms: int = START_MS, monotonic: float = 1000.0) -> None:
        self._monotonic_ns = round(monotonic * _NS)
        self._wall_offset_ns = now_ms * _NS_PER_MS - self._monotonic_ns
        self._timers: list[tuple[int, int, VirtualTimer]] = []
        self._order = itertools.count()
        self._idles: list[Idle] = []

    def now_ms(self) -> int:
        return (self._monotonic_ns + self._wall_offset_ns) // _NS_PER_MS

    def monotonic(self) -> float:
        return self._monotonic_ns / _NS

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> VirtualTimer:
        timer = VirtualTimer(callback)
        at_ns = self._monotonic_ns + max(0, round(delay_seconds * _NS))
        heapq.heappush(self._timers, (at_ns, next(self._order), timer))
        return timer

    async def sleep(self, delay_seconds: float) -> None:
        if delay_seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_later(delay_seconds, wake)
        try:
            await woken
        finally:
            timer.cancel()

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does; timers do not notice."""
        self._wall_offset_ns += round(seconds * _NS)

    def wait_for(self, idle: Idle) -> None:
        """Let no time pass while `idle` says that something is outstanding, from now on."""
        self._idles.append(idle)

    @property
    def pending_timers(self) -> int:
        """How many timers are set and not cancelled."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Let time pass at once: timers fire at their moments, but tasks they wake run when the loop next turns."""
        target_ns = self._monotonic_ns + round(seconds * _NS)
        while self._fire_next(target_ns):
            pass
        self._monotonic_ns = target_ns

    async def run_for(self, seconds: float, *, idle: Idle | None = None) -> None:
        """Let `seconds` of monotonic time pass, and everything happen that happens in them."""
        await self._run(self._monotonic_ns + round(seconds * _NS), idle, None)

    async def run_until(self, at_ms: int, *, idle: Idle | None = None) -> None:
        """Let time pass up to the wall-clock moment `at_ms`, by the wall clock as it stands now."""
        await self._run(at_ms * _NS_PER_MS - self._wall_offset_ns, idle, None)

    async def run_while(
        self, condition: Callable[[], bool], *, within_seconds: float, idle: Idle | None = None
    ) -> None:
        """Let time pass until `condition` no longer holds; TimeoutError if it still does `within_seconds` later."""
        await self._run(self._monotonic_ns + round(within_seconds * _NS), idle, condition)
        if condition():
            raise TimeoutError(f"still so after {within_seconds} virtual seconds")

    async def settle(self, *, idle: Idle | None = None) -> None:
        """Let everything happen that can happen without time passing."""
        idles = [*self._idles, idle] if idle else self._idles
        # The only way to know that the loop has run dry; there is no public one, and guessing a number of turns is
        # how a test becomes flaky.
        ready = cast("Any", asyncio.get_running_loop())._ready  # noqa: SLF001
        for _ in range(_MAX_TURNS):
            # The first turn also polls the selector.
            await asyncio.sleep(0)
            if ready:
                continue
            if all([await is_idle() for is_idle in idles]) and not ready:
                return
        raise RuntimeError(f"the loop is still busy after {_MAX_TURNS} turns without time passing")

    async def _run(self, target_ns: int, idle: Idle | None, condition: Callable[[], bool] | None) -> None:
        fired_now, instant_ns = 0, -1
        await self.settle(idle=idle)
        while (condition is None or condition()) and self._fire_next(target_ns):
            if self._monotonic_ns != instant_ns:
                fired_now, instant_ns = 0, self._monotonic_ns
            fired_now += 1
            if fired_now > _MAX_FIRED_AT_ONE_INSTANT:
                raise RuntimeError(f"more than {_MAX_FIRED_AT_ONE_INSTANT} timers fired without time passing")
            await self.settle(idle=idle)
        if condition is None:
            self._monotonic_ns = max(self._monotonic_ns, target_ns)
            await self.settle(idle=idle)
        elif condition():
            self._monotonic_ns = max(self._monotonic_ns, target_ns)

    def _fire_next(self, target_ns: int) -> bool:
        while self._timers and self._timers[0][0] <= target_ns:
            at_ns, _, timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is None:
                continue
            self._monotonic_ns = max(self._monotonic_ns, at_ns)
            callback()
            return True
        return False


class Outstanding:
    """Counts the awaitables that a watched object has handed out and that are not done; is itself an `Idle`."""

    def __init__(self, *, patience_seconds: float = 10.0) -> None:
        self._by_name: Counter[str] = Counter()
        self._back = asyncio.Event()
        self._patience_seconds = patience_seconds

    @property
    def count(self) -> int:
        return self._by_name.total()

    async def __call__(self) -> bool:
        if not self.count:
            return True
        self._back.clear()
        try:
            await asyncio.wait_for(self._back.wait(), self._patience_seconds)
        except TimeoutError:
            waiting = ", ".join(f"{count} of {name}" for name, count in sorted((+self._by_name).items()))
            raise TimeoutError(f"outstanding for {self._patience_seconds} real seconds: {waiting}") from None
        return False

    def entered(self, name: str) -> None:
        self._by_name[name] += 1

    def left(self, name: str) -> None:
        self._by_name[name] -= 1
        self._back.set()


def watched(target: T, *, patience_seconds: float = 10.0) -> tuple[T, Outstanding]:
    """Return a stand-in for `target`, and the count of its calls that have not come back.

    A future or task that a method returns is the very same object; any other awaitable counts while it is awaited. Do
    not watch what itself sleeps on the virtual clock: time would wait for it and it for time.
    """
    outstanding = Outstanding(patience_seconds=patience_seconds)
    return cast("T", _Watched(target, outstanding)), outstanding


class _Watched:
    def __init__(self, target: object, outstanding: Outstanding) -> None:
        self._target = target
        self._outstanding = outstanding

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if asyncio.isfuture(result):
                if not result.done():
                    self._outstanding.entered(name)
                    result.add_done_callback(lambda _: self._outstanding.left(name))
                return result
            return self._counted(name, result) if inspect.isawaitable(result) else result

        return call

    async def _counted(self, name: str, result: Awaitable[Any]) -> Any:
        self._outstanding.entered(name)
        try:
            return await result
        finally:
            self._outstanding.left(name)
