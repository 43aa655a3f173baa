"""Other programs on the database: one that holds its lock, one that never stops reading, and a replica's."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.producers import Producers, require_nothing_lost
from tests.kit.receiver import Receiver, Reply

MIB = 1024 * 1024

# Each says a line when it has begun, and goes on until its standard input ends.
LOCK = """
db.execute("BEGIN IMMEDIATE"); print("begun", flush=True); sys.stdin.read(); db.execute("ROLLBACK")
"""
READ = """
db.execute("BEGIN"); db.execute("SELECT count(*) FROM events").fetchall()
print("begun", flush=True); sys.stdin.read(); db.execute("ROLLBACK")
"""
CHECKPOINT = """
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
"""
TABLES = """
db.execute("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
db.execute("CREATE TABLE _litestream_lock (id INTEGER)")
db.execute("INSERT INTO _litestream_seq (id, seq) VALUES (1, 1)")
print("begun", flush=True)
"""


@contextlib.asynccontextmanager
async def another_process(database: Path, script: str) -> AsyncIterator[None]:
    """Have a process of its own do `script` with a connection to the database inside."""
    whole = (
        f"import select, sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\n{script}"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", whole, str(database)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"begun\n"
        yield
        async with asyncio.timeout(20):
            # Without input it would not be told of the end.
            await process.communicate(b"\n")
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def to(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    rules = {"signatures": [], "jitter": 0, "retry": ["1s"] * 20, **keys}
    return {"store": {"min_free": "0B"}, "endpoints": {"orders": {"url": receiver.url, **rules}}}


async def gauge(daemon: Daemon, name: str) -> float:
    text = (await daemon.get("/metrics")).body.decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def slowest_health(daemon: Daemon, seconds: float) -> float:
    """Ask again and again how the daemon is, for so long, and return what the slowest answer took."""
    slowest, end = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        assert (await daemon.get("/healthz")).status == 200
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.05)
    return slowest


async def test_a_lock_held_for_a_second_delays_and_refuses_nothing(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon)
        async with producers.working(8, pause_seconds=0.01):
            await receiver.wait_for(50)
            async with another_process(daemon.database, LOCK):
                assert await slowest_health(daemon, 1.0) < 1
        assert set(producers.statuses()) == {202}
        assert max(one.ended - one.began for one in producers.handed) > 0.8
        await require_nothing_lost(producers, receiver)
        assert set(receiver.by_event().values()) == {1}
        assert not daemon.log_entries("recording.suspended")


@pytest.mark.long
async def test_a_lock_held_for_long_refuses_events_and_keeps_every_outcome(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(delay_seconds=0.1))
        producers, pid = Producers(daemon), daemon.pid
        async with producers.working(8, pause_seconds=0.01):
            await receiver.wait_for(50)
            async with another_process(daemon.database, LOCK):
                assert await slowest_health(daemon, 20.0) < 1
                assert (await daemon.get("/v1/status")).json()["state"] == "refusing"
            released = time.monotonic()

            async def goes_on() -> bool:
                return any(one.began > released for one in producers.answered(202))

            await eventually(goes_on, timeout_seconds=10)
        assert daemon.pid == pid
        assert set(producers.statuses()) == {202, 503}
        for one in producers.answered(503):
            # One commit that waited for the lock in vain, and at most one more before it in the queue.
            assert one.ended - one.began < 14
            assert one.response is not None
            assert one.response.json()["type"] == "urn:webhookd:problem:store_unavailable"
            assert int(one.response.headers["retry-after"]) >= 1
        await require_nothing_lost(producers, receiver)
        # The outcomes were kept until they could be written: nothing was sent a second time.
        assert set(receiver.by_event().values()) == {1}
        assert len(daemon.log_entries("recording.suspended")) == len(daemon.log_entries("recording.resumed")) == 1
        assert not daemon.log_entries("daemon.stuck")


async def test_a_reader_that_stays_lets_the_log_grow_and_is_told_once(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon, padding="x" * 200_000)
        await producers.hand_in()
        log = daemon.database.with_name("webhookd.db-wal")
        async with producers.working(4):
            async with another_process(daemon.database, READ):

                async def has_grown() -> bool:
                    return log.stat().st_size > 80 * MIB

                await eventually(has_grown, timeout_seconds=60)
                assert await gauge(daemon, "webhookd_wal_bytes") > 64 * MIB
                assert (await daemon.get("/readyz")).status == 200

            async def is_cut() -> bool:
                return log.stat().st_size < 16 * MIB

            # What is committed next leads to the next checkpoint.
            await eventually(is_cut, timeout_seconds=30)
        assert set(producers.statuses()) == {202}
        await require_nothing_lost(producers, receiver)
        (told,) = daemon.log_entries("wal.grown")
        assert told["wal_bytes"] > 64 * MIB
        assert len(daemon.log_entries("wal.cut")) == 1


@pytest.mark.long
async def test_a_replicas_endless_reading_is_no_error(tmp_path: Path) -> None:
    """It holds a read transaction all the time, so that the log can be moved and never be cut."""
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon, padding="x" * 20_000)
        async with producers.working(4):
            await receiver.wait_for(20)
            async with another_process(daemon.database, READ):
                await receiver.wait_for(receiver.count + 800, timeout_seconds=60)
                # Several checkpoints' worth, none of which could be finished.
                assert await gauge(daemon, "webhookd_wal_bytes") > 12 * MIB
        assert set(producers.statuses()) == {202}
        assert not grave(daemon)
        await require_nothing_lost(producers, receiver)


@pytest.mark.long
async def test_a_replicas_checkpoints_lose_nothing(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon, padding="x" * 20_000)
        async with producers.working(4), another_process(daemon.database, CHECKPOINT):
            await receiver.wait_for(800, timeout_seconds=60)
        assert set(producers.statuses()) == {202}
        await daemon.kill9()
        await daemon.start()
        assert not grave(daemon)
        await require_nothing_lost(producers, receiver)


async def test_a_replicas_tables_are_left_alone(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon)
        async with another_process(daemon.database, TABLES):
            await producers.hand_in()
        await daemon.restart()
        await producers.hand_in()
        await require_nothing_lost(producers, receiver)
        assert not grave(daemon)
        with contextlib.closing(sqlite3.connect(daemon.database)) as db:
            assert db.execute("SELECT seq FROM _litestream_seq").fetchall() == [(1,)]


def grave(daemon: Daemon) -> list[dict[str, Any]]:
    return [entry for entry in daemon.log_entries() if entry["level"] in {"error", "critical"}]
