"""The resolver: shared lookups on bounded threads, and a deadline whatever a name server does."""

import asyncio
import errno
import socket
import threading
from time import monotonic

import pytest

from webhookd.core.attempt import ErrorClass
from webhookd.net import resolver as module
from webhookd.net.failures import AttemptFailedError
from webhookd.net.resolver import IDLE_THREADS, PROMPT_LOOKUPS, Resolver, system_lookup

HERE = [(socket.AF_INET, ("192.0.2.7", 0))]


class NameServer:
    """Answers by a table; a name under `hang.` blocks its thread until the test ends."""

    def __init__(self):
        self.asked = []
        self.answers = {}
        self.release = threading.Event()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def __call__(self, host):
        with self._lock:
            self.asked.append(host)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if host.startswith("hang."):
                self.release.wait(10)
            answer = self.answers.get(host, HERE)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self._lock:
                self._at_once -= 1


@pytest.fixture
async def names():
    server = NameServer()
    yield server
    server.release.set()


@pytest.fixture
async def resolver(names):
    resolver = Resolver(names)
    yield resolver
    resolver.close()


async def failure_of(awaitable):
    with pytest.raises(AttemptFailedError) as caught:
        await awaitable
    return caught.value


async def test_a_name_is_looked_up(resolver):
    assert await resolver.resolve("a.example", timeout_seconds=1) == HERE


async def test_lookups_of_one_name_at_one_time_are_one(resolver, names):
    waiting = [asyncio.ensure_future(resolver.resolve("hang.example", timeout_seconds=5)) for _ in range(20)]
    await asyncio.sleep(0.01)
    names.release.set()
    assert await asyncio.gather(*waiting) == [HERE] * 20
    assert names.asked == ["hang.example"]


async def test_nothing_is_remembered(resolver, names):
    await resolver.resolve("a.example", timeout_seconds=1)
    names.answers["a.example"] = [(socket.AF_INET, ("192.0.2.8", 0))]
    assert await resolver.resolve("a.example", timeout_seconds=1) == names.answers["a.example"]


async def test_a_lookup_has_a_deadline(resolver):
    begun = monotonic()
    failure = await failure_of(resolver.resolve("hang.example", timeout_seconds=0.05))
    assert monotonic() - begun < 1
    assert failure.kind is ErrorClass.TIMEOUT
    assert failure.text == "no answer within 0.05 s (looking up hang.example)"


async def test_a_hung_name_does_not_delay_another(resolver):
    hung = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(PROMPT_LOOKUPS - 1)]
    await asyncio.sleep(0)
    assert await resolver.resolve("a.example", timeout_seconds=1) == HERE
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_only_so_many_lookups_run_at_once(resolver, names):
    waiting = [
        asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(PROMPT_LOOKUPS * 2)
    ]
    await until(lambda: len(names.asked) == PROMPT_LOOKUPS)
    await asyncio.sleep(0.02)
    assert len(names.asked) == PROMPT_LOOKUPS
    names.release.set()
    await asyncio.gather(*waiting)
    assert names.most_at_once <= PROMPT_LOOKUPS


async def test_lookups_that_hang_stop_counting(resolver, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.05)
    hung = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(PROMPT_LOOKUPS)]
    await asyncio.sleep(0)
    assert await resolver.resolve("a.example", timeout_seconds=1) == HERE
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_hung_threads_are_bounded(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.0)
    monkeypatch.setattr(module, "MAX_THREADS", 16)
    waiting = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(40)]
    await until(lambda: len(names.asked) == 14)
    await asyncio.sleep(0.02)
    assert len(names.asked) == 14
    names.release.set()
    await asyncio.gather(*waiting)
    assert len(names.asked) == 40


async def test_a_name_that_was_answered_at_once_finds_room_when_others_hold_all_that_is_theirs(
    resolver, names, monkeypatch
):
    monkeypatch.setattr(module, "MAX_THREADS", 16)
    await resolver.resolve("a.example", timeout_seconds=1)
    hung = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(40)]
    await until(lambda: len(names.asked) == 15)
    await asyncio.sleep(0.02)
    assert len(names.asked) == 15
    assert await resolver.resolve("a.example", timeout_seconds=1) == HERE
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_names_that_hung_leave_threads_to_those_that_did_not(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.02)
    monkeypatch.setattr(module, "MAX_THREADS", 8)
    slow = [f"hang.{n}" for n in range(7)]
    for name in slow:
        names.release.clear()
        await failure_of(resolver.resolve(name, timeout_seconds=0.05))
        names.release.set()
        await resolver.resolve("a.example", timeout_seconds=1)
    names.release.clear()
    names.asked.clear()
    hung = [asyncio.ensure_future(resolver.resolve(name, timeout_seconds=5)) for name in slow]
    await until(lambda: names.asked == slow[:6])
    await asyncio.sleep(0.05)
    hung.append(asyncio.ensure_future(resolver.resolve("hang.new", timeout_seconds=5)))
    await until(lambda: names.asked == [*slow[:6], "hang.new"])
    names.release.set()
    await asyncio.gather(*hung)


async def test_names_that_hang_are_through_in_doubling_rounds(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_LOOKUPS", 2)
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.05)
    begun = monotonic()
    waiting = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(128)]
    await until(lambda: len(names.asked) == 128)
    # Two at a time would take more than three seconds.
    assert monotonic() - begun < 1.5
    names.release.set()
    await asyncio.gather(*waiting)


async def test_what_is_remembered_of_names_is_bounded(resolver, monkeypatch):
    monkeypatch.setattr(module, "NAMES", 3)
    for n in range(10):
        await resolver.resolve(f"{n}.example", timeout_seconds=1)
    assert list(resolver._was_prompt) == ["7.example", "8.example", "9.example"]  # noqa: SLF001


async def test_a_lookup_that_has_not_started_is_not_overdue(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.03)
    monkeypatch.setattr(module, "MAX_THREADS", 2)
    hung = asyncio.ensure_future(resolver.resolve("hang.example", timeout_seconds=5))
    await until(lambda: names.asked)
    for _ in range(3):
        await failure_of(resolver.resolve("late.example", timeout_seconds=5))
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 5.0)
    names.release.set()
    assert await resolver.resolve("late.example", timeout_seconds=5) == HERE
    assert names.asked == ["hang.example", "late.example"]
    await asyncio.gather(hung, return_exceptions=True)


async def test_a_name_whose_lookup_is_overdue_gets_a_second_one_and_no_third(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.03)
    for _ in range(4):
        await failure_of(resolver.resolve("hang.example", timeout_seconds=5))
    assert len(names.asked) == 2


async def test_a_queued_lookup_that_nobody_waits_for_is_not_made(resolver, names):
    hung = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(PROMPT_LOOKUPS)]
    await asyncio.sleep(0)
    await failure_of(resolver.resolve("late.example", timeout_seconds=0.01))
    names.release.set()
    await asyncio.gather(*hung)
    await resolver.resolve("a.example", timeout_seconds=1)
    assert "late.example" not in names.asked


async def test_threads_left_over_by_a_storm_end(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_LOOKUPS", 100)
    before = set(threading.enumerate())
    waiting = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(60)]
    await until(lambda: len(names.asked) == 60)
    names.release.set()
    await asyncio.gather(*waiting)
    await until(lambda: len(set(threading.enumerate()) - before) <= IDLE_THREADS)


async def test_closing_ends_the_threads():
    before = set(threading.enumerate())
    resolver = Resolver(NameServer())
    await resolver.resolve("a.example", timeout_seconds=1)
    assert set(threading.enumerate()) - before
    resolver.close()
    await until(lambda: not set(threading.enumerate()) - before)


async def until(condition):
    begun = monotonic()
    while not condition():
        assert monotonic() < begun + 2
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ErrorClass.DNS, "name or service not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ErrorClass.DNS, "temporary failure"),
        (socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"), ErrorClass.LOCAL, "memory"),
        (OSError(errno.EMFILE, "Too many open files"), ErrorClass.LOCAL, "too many open files"),
        (UnicodeError("label too long"), ErrorClass.DNS, "label too long"),
        ([], ErrorClass.DNS, "no addresses"),
    ],
)
async def test_a_failed_lookup_has_a_class_and_a_reason(resolver, names, answer, kind, text):
    names.answers["a.example"] = answer
    failure = await failure_of(resolver.resolve("a.example", timeout_seconds=1))
    assert failure.kind is kind
    assert text in failure.text
    assert "a.example" in failure.text


def test_the_system_knows_localhost():
    assert (socket.AF_INET, ("127.0.0.1", 0)) in system_lookup("localhost")
