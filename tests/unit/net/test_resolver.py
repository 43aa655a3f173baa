"""The resolver: shared lookups on bounded threads, and a deadline whatever a name server does."""

import asyncio
import errno
import socket
import threading
from time import monotonic, sleep

import pytest

from webhookd.core.attempt import ErrorClass
from webhookd.net import resolver as module
from webhookd.net.failures import AttemptFailedError
from webhookd.net.resolver import IDLE_THREADS, PROMPT_LOOKUPS, RESERVED_LOOKUPS, Resolver, system_lookup

HERE = [(socket.AF_INET, ("192.0.2.7", 0))]


class NameServer:
    """Answers by a table, after the seconds in `takes`; a name under `hang.` blocks its thread until the test ends."""

    def __init__(self):
        self.asked = []
        self.answers = {}
        self.takes = {}
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
            sleep(self.takes.get(host, 0))
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


def let(monkeypatch, *, threads, reserved=1):
    monkeypatch.setattr(module, "MAX_THREADS", threads)
    monkeypatch.setattr(module, "RESERVED_THREADS", reserved)


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


async def test_only_so_many_lookups_run_at_once(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 60.0)
    most = PROMPT_LOOKUPS - 2 * RESERVED_LOOKUPS
    waiting = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(2 * most)]
    await until(lambda: len(names.asked) == most)
    await asyncio.sleep(0.02)
    assert len(names.asked) == most
    names.release.set()
    await asyncio.gather(*waiting)
    assert names.most_at_once <= most


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
    let(monkeypatch, threads=16)
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
    let(monkeypatch, threads=16)
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
    let(monkeypatch, threads=8)
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


async def test_two_hundred_names_that_hang_are_all_asked_for_in_time(resolver, names):
    waiting = [asyncio.ensure_future(resolver.resolve(f"hang.{n}", timeout_seconds=5)) for n in range(200)]
    # Sixteen at a time would take more than three seconds.
    await until(lambda: len(names.asked) == 200, seconds=2.8)
    names.release.set()
    await asyncio.gather(*waiting)


@pytest.fixture
async def prompt_load(resolver, names, monkeypatch):
    """Keep more lookups of prompt names under way and waiting than may run at once, for as long as the test takes."""
    monkeypatch.setattr(module, "PROMPT_LOOKUPS", 16)
    monkeypatch.setattr(module, "RESERVED_LOOKUPS", 2)
    load = [f"load{n}.example" for n in range(32)]
    await asyncio.gather(*(resolver.resolve(name, timeout_seconds=5) for name in load))
    names.takes.update(dict.fromkeys(load, 0.1))

    async def ask_again_and_again(name):
        while True:
            await resolver.resolve(name, timeout_seconds=5)

    async def begin():
        tasks.extend(asyncio.ensure_future(ask_again_and_again(name)) for name in load)
        await asyncio.sleep(0.3)

    tasks = []
    yield begin
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_name_that_was_slow_once_is_not_starved_by_those_that_are_prompt(
    resolver, names, prompt_load, monkeypatch
):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.5)
    names.takes["once.example"] = 0.6
    await resolver.resolve("once.example", timeout_seconds=5)
    names.takes["once.example"] = 0.0
    await prompt_load()
    assert await resolver.resolve("once.example", timeout_seconds=2) == HERE


async def test_a_new_name_is_not_starved_by_those_that_are_prompt(resolver, prompt_load, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.5)
    await prompt_load()
    assert await resolver.resolve("new.example", timeout_seconds=2) == HERE


async def test_names_of_one_standing_start_in_the_order_they_are_asked_for(resolver, names, monkeypatch):
    let(monkeypatch, threads=3)
    asked = ["hang.example", *(f"{n}.example" for n in range(20))]
    waiting = [asyncio.ensure_future(resolver.resolve(name, timeout_seconds=5)) for name in asked]
    await until(lambda: names.asked)
    names.release.set()
    await asyncio.gather(*waiting)
    assert names.asked == asked


async def test_a_lookup_that_only_waited_in_our_queue_is_our_own_failure(resolver, names, monkeypatch):
    let(monkeypatch, threads=3)
    hung = asyncio.ensure_future(resolver.resolve("hang.example", timeout_seconds=5))
    await until(lambda: names.asked)
    failure = await failure_of(resolver.resolve("late.example", timeout_seconds=0.05))
    assert (failure.kind, failure.no_way) == (ErrorClass.LOCAL, False)
    assert failure.text == (
        "too many lookups under way, none was left for this one within 0.05 s (looking up late.example)"
    )
    names.release.set()
    await hung


async def test_a_lookup_that_started_right_before_the_deadline_is_our_own_failure(resolver, names, monkeypatch):
    let(monkeypatch, threads=3)
    names.takes["long.example"] = 0.7
    first = asyncio.ensure_future(resolver.resolve("long.example", timeout_seconds=5))
    await until(lambda: names.asked)
    failure = await failure_of(resolver.resolve("hang.late", timeout_seconds=1.0))
    assert names.asked == ["long.example", "hang.late"]
    assert failure.kind is ErrorClass.LOCAL
    await first


async def test_a_second_lookup_in_the_queue_is_the_failure_of_the_name_that_did_not_answer_the_first(
    resolver, names, monkeypatch
):
    let(monkeypatch, threads=3, reserved=1)
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.03)
    monkeypatch.setattr(module, "PROMPT_SECONDS", 60.0)
    for _ in range(2):
        failure = await failure_of(resolver.resolve("hang.example", timeout_seconds=5))
        assert (failure.kind, failure.no_way) == (ErrorClass.TIMEOUT, True)
    assert names.asked == ["hang.example"]


async def test_what_is_remembered_of_names_is_bounded(resolver, monkeypatch):
    monkeypatch.setattr(module, "NAMES", 3)
    for n in range(10):
        await resolver.resolve(f"{n}.example", timeout_seconds=1)
    assert list(resolver._was_prompt) == ["7.example", "8.example", "9.example"]  # noqa: SLF001


async def test_a_lookup_that_has_not_started_is_not_overdue(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.03)
    let(monkeypatch, threads=3)
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


async def test_a_queued_lookup_that_nobody_waits_for_is_not_made(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", 60.0)
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


async def until(condition, *, seconds=2.0):
    begun = monotonic()
    while not condition():
        assert monotonic() < begun + seconds
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
