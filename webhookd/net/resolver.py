"""Looks names up on threads of its own, so that a hung name server holds nothing but the attempts that need it."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from webhookd.core.attempt import ErrorClass
from webhookd.net.failures import AttemptFailedError, lookup_failure

SockAddr = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""An address family, and what `socket.connect` takes for it; the host is always a literal."""

Lookup = Callable[[str], list[SockAddr]]

LOOKUP_SECONDS = 5.0
"""Longest an attempt waits for a lookup, in the queue and on its thread together."""
PROMPT_LOOKUPS = 64
"""Lookups that run at once, not counting those older than `PROMPT_SECONDS`: these hang, and must not block the rest."""
RESERVED_LOOKUPS = 8
"""How many of `PROMPT_LOOKUPS` each standing has to itself; the rest is for whoever comes first."""
PROMPT_SECONDS = 0.25
MAX_THREADS = 256
RESERVED_THREADS = 16
"""How many of `MAX_THREADS` each standing has to itself, against lookups that hang for long."""
NAMES = 16_384
"""Names of which it is remembered how long their last lookup took; the one asked for longest ago goes first."""
IDLE_THREADS = 16
LOOKUPS_PER_NAME = 2
"""An endpoint has one name, so this bounds its lookups too; the second starts only when the first is overdue."""


class _Standing(Enum):
    """What is known of a name. None waits for another, or a name that was slow once could stay so for good."""

    PROMPT = auto()
    UNKNOWN = auto()
    SLOW = auto()


@dataclass(slots=True, eq=False)
class _Job:
    host: str
    standing: _Standing
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
    """Shares lookups by name; of an answer nothing is remembered but whether it came at once.

    Prompt, slow and unknown names queue apart, in the order they are asked for, and each kind has lookups and threads
    that the others cannot take. Belongs to one loop. Jobs that wait are bounded by the attempts in flight: one without
    a waiter is dropped.
    """

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._loop: asyncio.AbstractEventLoop | None = None
        self._by_name: dict[str, list[_Job]] = {}
        self._waiting: dict[_Standing, deque[_Job]] = {standing: deque() for standing in _Standing}
        self._was_prompt: OrderedDict[str, bool] = OrderedDict()
        self._running: dict[_Job, None] = {}
        self._handoff: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._recheck: asyncio.TimerHandle | None = None
        self._closed = False

    async def resolve(self, host: str, *, timeout_seconds: float) -> list[SockAddr]:
        """Return every address of `host` with port 0, in the system's order; never an empty list.

        Waits no longer than `timeout_seconds` or `LOOKUP_SECONDS`. Raises AttemptFailedError: dns, timeout, local; a
        lookup that waited in our own queue for longer than it was given to answer is local.
        """
        loop = self._loop = asyncio.get_running_loop()
        asked_at = loop.time()
        limit = min(timeout_seconds, LOOKUP_SECONDS)
        job = self._join(host)
        waiter: asyncio.Future[list[SockAddr]] = loop.create_future()
        job.waiters.add(waiter)
        self._start_jobs()
        try:
            async with asyncio.timeout(limit):
                found = await waiter
        except TimeoutError:
            raise self._too_late(job, asked_at, limit) from None
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

    def _too_late(self, job: _Job, asked_at: float, limit: float) -> AttemptFailedError:
        now = asyncio.get_running_loop().time()
        if job.started_at is not None and now - job.started_at >= PROMPT_SECONDS:
            self._remember(job.host, prompt=False)
        # Where this one is the second, the name has not answered the first: that is the name's doing, not the queue's.
        first = self._by_name.get(job.host, [job])[0]
        if first.started_at is None or first.started_at - asked_at > now - first.started_at:
            text = f"too many lookups under way, none was left for this one within {limit:g} s (looking up {job.host})"
            return AttemptFailedError(ErrorClass.LOCAL, text, no_way=False)
        text = f"no answer within {limit:g} s (looking up {job.host})"
        return AttemptFailedError(ErrorClass.TIMEOUT, text, no_way=True)

    def _join(self, host: str) -> _Job:
        jobs = self._by_name.setdefault(host, [])
        overdue = False
        if jobs and self._loop is not None and (started_at := jobs[-1].started_at) is not None:
            overdue = self._loop.time() - started_at >= LOOKUP_SECONDS
        if not jobs or (overdue and len(jobs) < LOOKUPS_PER_NAME):
            job = _Job(host, self._standing(host))
            jobs.append(job)
            self._waiting[job.standing].append(job)
            return job
        return jobs[-1]

    def _standing(self, host: str) -> _Standing:
        match self._was_prompt.get(host):
            case None:
                return _Standing.UNKNOWN
            case True:
                return _Standing.PROMPT
            case False:
                return _Standing.SLOW

    def _remember(self, host: str, *, prompt: bool) -> None:
        self._was_prompt[host] = prompt
        self._was_prompt.move_to_end(host)
        if len(self._was_prompt) > NAMES:
            self._was_prompt.popitem(last=False)

    def _forget(self, job: _Job) -> None:
        jobs = self._by_name[job.host]
        jobs.remove(job)
        if not jobs:
            del self._by_name[job.host]

    def _start_jobs(self) -> None:
        loop = self._loop
        if loop is None or self._closed or not any(self._waiting.values()):
            return
        now = loop.time()
        prompt = [job for job in self._running if job.started_at is None or now - job.started_at < PROMPT_SECONDS]
        lookups = Counter(job.standing for job in prompt)
        threads = Counter(job.standing for job in self._running)
        for standing, waiting in self._waiting.items():
            while (
                waiting
                and lookups[standing] < _room(standing, lookups, PROMPT_LOOKUPS, RESERVED_LOOKUPS)
                and threads[standing] < _room(standing, threads, MAX_THREADS, RESERVED_THREADS)
            ):
                job = waiting.popleft()
                if not job.waiters:
                    self._forget(job)
                    continue
                job.started_at = now
                lookups[standing] += 1
                threads[standing] += 1
                prompt.append(job)
                self._running[job] = None
                self._hand_over(job)
        if any(self._waiting.values()) and prompt and self._recheck is None:
            self._recheck = loop.call_at((prompt[0].started_at or now) + PROMPT_SECONDS, self._recheck_now)

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
        self._running.pop(job, None)
        if self._loop is not None and job.started_at is not None:
            self._remember(job.host, prompt=self._loop.time() - job.started_at < PROMPT_SECONDS)
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


def _room(standing: _Standing, under_way: Counter[_Standing], most: int, reserved: int) -> int:
    """Return how many of one standing may be under way: what the others neither use nor have to themselves."""
    return most - sum(max(under_way[other], reserved) for other in _Standing if other is not standing)
