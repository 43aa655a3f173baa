"""Stops, reloads and freezes under load: an orderly end repeats nothing, and no signal at any moment loses anything."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.ledger import Book, keeping_book
from tests.kit.ledger_check import Report
from tests.kit.receiver import Receiver, Reply, Request
from webhookd.engine.monitor import STUCK_AFTER_SECONDS

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PARTS, DAEMONS = 2, 2
CLEAN = {0, -signal.SIGTERM}
"""How a process ends that was told to: in order, or at once where it had not begun to listen to signals."""


async def restarted(directory: Path, restarts: int, *, seed: int) -> Report:
    """Stop the daemon again and again in the orderly way, under load; return what there was."""
    draw = random.Random(seed)
    directory.mkdir()
    async with keeping_book(directory, seed=seed) as book:
        await book.produce()
        for _ in range(restarts):
            await book.start()
            await asyncio.sleep(draw.uniform(0.005, 0.5))
            assert await book.terminate() == 0
        await book.start()
        report = await book.close()
        assert (report.kills, report.stops) == (0, restarts + 1)
        assert report.acknowledged > 5 * restarts
        return report


async def test_a_few_restarts_lose_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    report = await restarted(tmp_path / "0", 3, seed=seed)
    assert report.duplicates == 0


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
async def test_restarts_lose_and_repeat_nothing(tmp_path: Path, seed: int, scale: int, part: int) -> None:
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(
                restarted(tmp_path / str(number), 25 * scale, seed=(seed * PARTS + part) * DAEMONS + number)
            )
            for number in range(DAEMONS)
        ]
    assert [task.result().duplicates for task in running] == [0] * DAEMONS


async def test_a_stop_without_time_repeats_no_more_than_it_says_it_broke_off(tmp_path: Path, seed: int) -> None:
    """Every life counts what it interrupts, and `close` holds the repeats of that life to this number."""
    network = {"drain_timeout": "1ms"}
    async with keeping_book(tmp_path, seed=seed, config={"network": network}) as book:
        await book.produce(workers=3)
        for _ in range(3):
            await book.start()
            await asyncio.sleep(0.2)
            assert await book.terminate() == 0
        await book.start()
        await book.close()
        assert sum(life.interrupted for life in book.lives) > 0


async def test_sigterm_at_any_moment_and_however_often_is_a_clean_end(tmp_path: Path, seed: int) -> None:
    """From before the interpreter is up to the last commit; the second one does not wait for what is in flight."""
    draw = random.Random(seed)
    async with keeping_book(tmp_path, seed=seed) as book:
        await book.produce(workers=3)
        for turn in range(5):
            is_early, stopped = turn % 2 == 0, len(book.daemon.log_entries("daemon.stopped"))
            await book.start(ready=not is_early)
            await asyncio.sleep(draw.uniform(0, 0.6) if is_early else draw.uniform(0, 0.2))
            for _ in range(draw.randint(2, 5)):
                book.daemon.send_signal(signal.SIGTERM)
                await asyncio.sleep(draw.uniform(0, 0.02))
            # Between two instructions at the very end nobody listens any more; to systemd that is a clean end as well.
            assert await book.ended() in CLEAN
            assert is_early or len(book.daemon.log_entries("daemon.stopped")) == stopped + 1
        await book.start()
        await book.close()


async def test_reloads_of_good_and_broken_files_under_load_disturb_nothing(tmp_path: Path, seed: int) -> None:
    """A broken file says where it is broken, in the log and to the service manager, and the life goes on as it was."""
    where = "line 3, column 4: Unclosed array"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        env = _listens(manager, tmp_path / "notify.sock")
        async with keeping_book(tmp_path, seed=seed, env=env) as book:
            await book.produce(workers=3, pause_seconds=0.02)
            await book.start()
            sound = book.daemon.config_path.read_text()
            for turn in range(10):
                is_broken = turn % 2 == 0
                book.daemon.config_path.write_text("[delivery]\nretry = [\n  5s]\n" if is_broken else sound)
                book.daemon.send_signal(signal.SIGHUP)
                message = f'"{"reload.refused" if is_broken else "reload.applied"}"'
                await eventually(lambda words=message, times=turn // 2 + 1: _said(book, words, times))
                if turn == 0:
                    await eventually(lambda: _heard(manager, where))
            assert all(where in entry["reason"] for entry in book.daemon.log_entries("reload.refused"))
            report = await book.close(allowed_log=frozenset({"reload.refused"}))
            assert report.duplicates == 0


async def test_what_runs_out_while_it_is_frozen_has_failed_once_and_is_tried_once_more(tmp_path: Path) -> None:
    """The answers come while nobody can read them; whether they still count or not, nothing is sent more than twice."""
    known: set[str] = set()

    def answer(request: Request) -> Reply:
        is_first = request.event_id not in known
        known.add(request.event_id)
        return Reply(delay_seconds=0.5 if is_first else 0)

    rules = {"timeout": "1s", "connect_timeout": "1s", "retry": ["100ms"] * 3, "jitter": 0}
    async with Receiver() as receiver:
        receiver.script(answer)
        config = {"delivery": rules, "endpoints": {"orders": {"url": receiver.url, "secret": SECRET}}}
        async with running_daemon(tmp_path, config) as daemon:
            for number in range(4):
                await daemon.send("order.paid", number)
            await receiver.wait_for(4)
            await _freeze(daemon, 1.5)
            deliveries = await daemon.settled()
            shown = [(await daemon.get(f"/v1/deliveries/{delivery['id']}")).json() for delivery in deliveries]
            attempts = [attempt for delivery in shown for attempt in delivery["attempts"]]
            assert {delivery["state"] for delivery in deliveries} == {"delivered"}
            assert all(attempt["error"] is None or attempt["error"]["class"] == "timeout" for attempt in attempts)
            assert max(delivery["attempt_count"] for delivery in deliveries) <= 2
            assert len(receiver.requests) == len(attempts)


@pytest.mark.long
async def test_a_daemon_that_is_frozen_under_load_loses_nothing_and_goes_on(tmp_path: Path, seed: int) -> None:
    """An acknowledgement that came meanwhile may be found too late; that repeats no more than what was in flight."""
    in_flight, freezes = 64, 2
    config = {"network": {"max_in_flight": in_flight}, "delivery": {"timeout": "1s", "connect_timeout": "1s"}}
    async with keeping_book(tmp_path, seed=seed, config=config) as book:
        await book.produce(workers=3)
        await book.start()
        for _ in range(freezes):
            await asyncio.sleep(0.4)
            await _freeze(book.daemon, 1.5)
        report = await book.close(most_unheard=freezes * in_flight)
        assert report.duplicates == 0


@pytest.mark.long
async def test_a_long_freeze_in_a_commit_does_not_make_the_watchdog_despair(tmp_path: Path, seed: int) -> None:
    """Frozen for longer than a commit may take: right after it, it vouches for itself again, and takes events."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        env = _listens(manager, tmp_path / "notify.sock")
        config = {"delivery": {"timeout": "5s"}}
        async with keeping_book(tmp_path, seed=seed, config=config, env=env) as book:
            await book.produce(workers=3)
            await book.start()
            await asyncio.sleep(1)
            # While somebody else holds the lock, a commit is under way for certain.
            with contextlib.closing(sqlite3.connect(book.daemon.database, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(0.5)
                book.daemon.send_signal(signal.SIGSTOP)
                other.execute("ROLLBACK")
            await _freeze(book.daemon, STUCK_AFTER_SECONDS + 2)
            while await _heard(manager, ""):
                pass
            acknowledged = book.producer_log.read_text().count('"status": 202')
            await eventually(lambda: _heard(manager, "WATCHDOG=1"))

            async def goes_on() -> bool:
                return book.producer_log.read_text().count('"status": 202') > acknowledged + 10

            await eventually(goes_on)
            # The check finds any line of level error, such as one that calls the writer stuck.
            await book.close(most_unheard=1000)
            assert len(book.daemon.log_entries("process.resumed")) == 1


async def _freeze(daemon: Daemon, seconds: float) -> None:
    daemon.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    daemon.send_signal(signal.SIGCONT)


async def _said(book: Book, words: str, times: int) -> bool:
    return book.daemon.log.count(words) == times


def _listens(manager: socket.socket, path: Path) -> dict[str, str]:
    """Bind the service manager's socket, and return what a daemon is told of it."""
    manager.bind(str(path))
    manager.setblocking(False)
    return {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"}


async def _heard(manager: socket.socket, words: str) -> bool:
    while True:
        try:
            if words in manager.recv(4096).decode():
                return True
        except BlockingIOError:
            return False
