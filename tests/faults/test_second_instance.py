"""Two daemons on one database: one of them lives, whoever comes first, and the files stay whole."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.database_files import snapshot

PAIRS = 6
LONG_PAIRS = 100


def refused(daemon: Daemon, *, after: int) -> dict[str, object]:
    """Return what the daemon said at its end, in the log from `after` on."""
    entries = [json.loads(line) for line in daemon.log[after:].splitlines()]
    (said,) = [entry for entry in entries if entry["level"] == "critical"]
    return said


async def ended(daemon: Daemon) -> int | None:
    """Return the exit code once the process has ended, None while it runs."""
    try:
        return await daemon.wait(timeout_seconds=0)
    except TimeoutError:
        return None


async def is_ready(daemon: Daemon) -> bool:
    try:
        return (await daemon.get("/readyz")).status == 200
    except OSError:
        return False


async def raced(first: Daemon, second: Daemon) -> tuple[Daemon, Daemon]:
    """Start both at once; return the one that lives, and the one that has ended."""
    logs = {id(daemon): len(daemon.log) for daemon in (first, second)}
    await asyncio.gather(first.start(ready=False), second.start(ready=False))

    async def one_has_ended() -> tuple[Daemon, Daemon] | None:
        for living, gone in ((first, second), (second, first)):
            if (code := await ended(gone)) is not None:
                assert code == 75
                assert f"already running, pid {living.pid}" in str(refused(gone, after=logs[id(gone)])["reason"])
                return living, gone
        return None

    found = await eventually(one_has_ended, timeout_seconds=30)
    await found[0].wait_ready()
    return found


async def race(tmp_path: Path, pairs: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shared = {"store": {"path": str(tmp_path / "state" / "webhookd.db")}}
    accepted: list[str] = []
    async with (
        running_daemon(tmp_path / "a", shared, start=False) as first,
        running_daemon(tmp_path / "b", shared, start=False) as second,
    ):
        for number in range(pairs):
            living, _ = await raced(first, second) if number % 2 else await raced(second, first)
            accepted += [(await living.send("order.completed", {"number": number}))["id"] for _ in range(3)]
            # An orderly end and a crash by turns: after either the lock is free at once.
            if number % 4 < 2:
                await living.kill9()
            else:
                assert await living.terminate() == 0
        await first.start()
        shown = await first.get("/v1/events?limit=500")
        assert {event["id"] for event in shown.json()["data"]} == set(accepted)
        await first.terminate()
    with closing(sqlite3.connect(tmp_path / "state" / "webhookd.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_of_two_that_start_at_once_exactly_one_lives(tmp_path: Path) -> None:
    await race(tmp_path, PAIRS)


@pytest.mark.long
async def test_of_two_that_start_at_once_exactly_one_lives_a_hundred_times(tmp_path: Path, scale: int) -> None:
    await race(tmp_path, LONG_PAIRS * scale)


async def test_one_that_is_refused_changes_nothing_of_the_other(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    async with running_daemon(tmp_path, {}) as daemon:
        await daemon.send("order.completed", {})
        state = daemon.database.parent
        before, inode = snapshot(state), (state / "webhookd.lock").stat().st_ino
        async with running_daemon(tmp_path / "b", {"store": {"path": str(daemon.database)}}, start=False) as second:
            await second.start(ready=False)
            assert await second.wait() == 75
            assert refused(second, after=0)["reason"] == f"already running, pid {daemon.pid}: {state}/webhookd.lock"
        assert snapshot(state) == before
        assert (state / "webhookd.lock").read_text() == f"{daemon.pid}\n"
        assert (state / "webhookd.lock").stat().st_ino == inode
        await daemon.send("order.completed", {})
        assert await daemon.terminate() == 0
