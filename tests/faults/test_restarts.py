"""Stops, reloads and freezes under load: an orderly end repeats nothing, and no signal at any moment loses anything."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from pathlib import Path

import pytest

from tests.kit.daemon import eventually
from tests.kit.ledger import Book, keeping_book
from tests.kit.ledger_check import Report

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
    report = await restarted(tmp_path / "0", 4, seed=seed)
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
        await book.produce()
        for _ in range(3):
            await book.start()
            await asyncio.sleep(0.3)
            assert await book.terminate() == 0
        await book.start()
        await book.close()
        assert sum(life.interrupted for life in book.lives) > 0


async def test_sigterm_at_any_moment_and_however_often_is_a_clean_end(tmp_path: Path, seed: int) -> None:
    """From before the interpreter is up to the last commit; the second one does not wait for what is in flight."""
    draw = random.Random(seed)
    async with keeping_book(tmp_path, seed=seed) as book:
        await book.produce()
        for _ in range(4):
            await book.start(ready=False)
            await asyncio.sleep(draw.uniform(0, 1))
            for _ in range(draw.randint(1, 4)):
                book.daemon.send_signal(signal.SIGTERM)
                await asyncio.sleep(draw.uniform(0, 0.02))
            assert await book.ended() in CLEAN
        await book.start()
        await book.close()


async def test_reloads_of_good_and_broken_files_under_load_disturb_nothing(tmp_path: Path, seed: int) -> None:
    """A broken file names where it is broken; the life goes on with what it had, and the service manager is told."""
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"}
        async with keeping_book(tmp_path, seed=seed, env=env) as book:
            await book.produce()
            await book.start()
            sound = book.daemon.config_path.read_text()
            for turn in range(1, 11):
                is_broken = turn % 2 == 1
                book.daemon.config_path.write_text("[delivery]\nretry = [\n  5s]\n" if is_broken else sound)
                book.daemon.send_signal(signal.SIGHUP)
                message = "reload.refused" if is_broken else "reload.applied"
                await eventually(lambda message=message, turn=turn: _said(book, message, (turn + 1) // 2))
                if turn == 1:
                    await eventually(lambda: _heard(manager, "line 3, column 3"))
            assert {("line 3, column 3" in entry["reason"]) for entry in book.daemon.log_entries("reload.refused")} == {
                True
            }
            report = await book.close(allowed_log=frozenset({"reload.refused"}))
            assert report.duplicates == 0


async def test_a_frozen_daemon_records_what_ran_out_once_and_goes_on(tmp_path: Path, seed: int) -> None:
    """Frozen three times for longer than any attempt may take: what was under way fails once each time, and no more.

    An acknowledgement that came in the meantime may have come too late, so what is repeated is what was in flight.
    """
    in_flight = 64
    config = {
        "network": {"max_in_flight": in_flight},
        "delivery": {"timeout": "500ms", "connect_timeout": "500ms"},
    }
    async with keeping_book(tmp_path, seed=seed, config=config) as book:
        await book.produce()
        await book.start()
        for _ in range(3):
            await asyncio.sleep(0.4)
            book.daemon.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.2)
            book.daemon.send_signal(signal.SIGCONT)
        report = await book.close(most_unheard=3 * in_flight)
        assert report.duplicates == 0


async def _said(book: Book, message: str, times: int) -> bool:
    return len(book.daemon.log_entries(message)) == times


async def _heard(manager: socket.socket, words: str) -> bool:
    while True:
        try:
            if words in manager.recv(4096).decode():
                return True
        except BlockingIOError:
            return False
