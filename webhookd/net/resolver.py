"""Looks names up on threads of its own, so that a hung name server holds nothing but the attempts that need it."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from webhookd.core.attempt import ErrorClass
from webhookd.net.failures import AttemptFailedError, lookup_failure

SockAddr = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""An address family, and what `socket.connect` takes for it; the host is always a literal."""

Lookup = Callable[[str], list[SockAddr]]

LOOKUP_SECONDS = 5.0
"""Longest an attempt waits for a lookup, in the queue and on its thread together."""
PROMPT_LOOKUPS = 16
"""Lookups that run at once, not counting those older than `PROMPT_SECONDS`: these hang, and must not block the rest."""
PROMPT_SECONDS = 1.0
MAX_THREADS = 256
IDLE_THREADS = PROMPT_LOOKUPS
LOOKUPS_PER_NAME = 2
"""An endpoint has one name, so this bounds its lookups too; the second starts only when the first is overdue."""


@dataclass(slots=True, eq=False)
class _Job:
    host: str
    queued_at: float
    started_at: float | None = None
    waiters: set[asyncio.Future[list[SockAddr]]] = field(default_factory=set)


def system_lookup(host: str) -> list[SockAddr]:
    """Ask the system's resolver for every stream address of `host`, port 0. Blocks; raises OSError, UnicodeError."""
    found: list[SockAddr] = []
    for family, _, _, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        if family == socket.AF_INET:
            found.append((family, (str(address[0]), 0)))
        elif len(address) == 4:
            found.append((family, (str(address[0]), 0, int(address[2]), int(address[3]))))
    return found


class Resolver:
    """Shares lookups by name; nothing is remembered once one is answered.

    Belongs to one loop. Jobs that wait are bounded by the attempts in flight: one without a waiter is dropped.
    """

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._loop: asyncio.AbstractEventLoop | None = None
        self._by_name: dict[str, list[_Job]] = {}
        self._waiting: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._handoff: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._recheck: asyncio.TimerHandle | None = None
        self._closed = False

    async def resolve(self, host: str, *, timeout_seconds: float) -> list[SockAddr]:
        """Return every address of `host` with port 0, in the system's order; never an empty list.

        Waits no longer than `timeout_seconds` or `LOOKUP_SECONDS`. Raises AttemptFailedError (dns, timeout, local).
        """
        loop = self._loop = asyncio.get_running_loop()
        limit = min(timeout_seconds, LOOKUP_SECONDS)
        job = self._join(host, loop.time())
        waiter: asyncio.Future[list[SockAddr]] = loop.create_future()
        job.waiters.add(waiter)
        self._start_jobs()
        try:
            async with asyncio.timeout(limit):
                found = await waiter
        except TimeoutError:
            raise AttemptFailedError(ErrorClass.TIMEOUT, f"no answer within {limit:g} s (looking up {host})") from None
        finally:
            job.waiters.discard(waiter)
        if not found:
            raise AttemptFailedError(ErrorClass.DNS, f"looking up {host}: no addresses")
        return found

    def close(self) -> None:
        """Let idle threads end; threads inside a lookup are daemons and end with the process."""
        self._closed = True
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        for _ in range(self._threads):
            self._handoff.put(None)

    def _join(self, host: str, now: float) -> _Job:
        jobs = self._by_name.setdefault(host, [])
        overdue = bool(jobs) and now - jobs[-1].queued_at >= LOOKUP_SECONDS
        if not jobs or (overdue and len(jobs) < LOOKUPS_PER_NAME):
            job = _Job(host, now)
            jobs.append(job)
            self._waiting.append(job)
            return job
        return jobs[-1]

    def _forget(self, job: _Job) -> None:
        jobs = self._by_name[job.host]
        jobs.remove(job)
        if not jobs:
            del self._by_name[job.host]

    def _start_jobs(self) -> None:
        loop = self._loop
        if loop is None or self._closed:
            return
        now = loop.time()
        prompt = sorted(
            job.started_at
            for job in self._running
            if job.started_at is not None and now - job.started_at < PROMPT_SECONDS
        )
        room = min(PROMPT_LOOKUPS - len(prompt), MAX_THREADS - len(self._running))
        while self._waiting and room > 0:
            job = self._waiting.popleft()
            if not job.waiters:
                self._forget(job)
                continue
            job.started_at = now
            self._running.add(job)
            room -= 1
            self._hand_over(job)
        if self._waiting and prompt and self._recheck is None:
            self._recheck = loop.call_at(prompt[0] + PROMPT_SECONDS, self._recheck_now)

    def _recheck_now(self) -> None:
        self._recheck = None
        self._start_jobs()

    def _hand_over(self, job: _Job) -> None:
        if self._threads < len(self._running):
            try:
                threading.Thread(target=self._work, name="webhookd-resolver", daemon=True).start()
            except RuntimeError as error:
                refusal = AttemptFailedError(ErrorClass.LOCAL, f"looking up {job.host}: {error}")
                asyncio.get_running_loop().call_soon(self._finished, job, refusal)
                return
            self._threads += 1
        self._handoff.put(job)

    def _finished(self, job: _Job, result: list[SockAddr] | Exception) -> None:
        self._running.discard(job)
        self._forget(job)
        for waiter in job.waiters:
            if waiter.done():
                continue
            if isinstance(result, AttemptFailedError):
                waiter.set_exception(result)
            elif isinstance(result, Exception):
                waiter.set_exception(lookup_failure(result, job.host))
            else:
                waiter.set_result(result)
        self._start_jobs()
        if self._threads - len(self._running) > IDLE_THREADS:
            self._threads -= 1
            self._handoff.put(None)

    def _work(self) -> None:
        while (job := self._handoff.get()) is not None:
            try:
                result: list[SockAddr] | Exception = self._lookup(job.host)
            except Exception as error:  # noqa: BLE001 - belongs to whoever waits for it, not to this thread
                result = error
            if not self._tell(job, result):
                return

    def _tell(self, job: _Job, result: list[SockAddr] | Exception) -> bool:
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._finished, job, result)
        except RuntimeError:
            return False
        return True
