"""A crash with a million deliveries owed: the next start does not read its way through them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon, eventually, free_port, running_daemon
from webhookd.core.ids import lowest_id_at

ROWS = 1_000_000
ENDPOINTS = 1_000
READY_SECONDS = 2.0
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def fill(database: Path) -> None:
    """Owe `ROWS` deliveries that are due, one of each event, half of them to one endpoint, in a database of today."""
    now_ms = time.time_ns() // 1_000_000
    base = lowest_id_at(now_ms - 60_000)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        # Only the filling goes without: the daemon opens the file by its own rules.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        db.execute(
            """
            CREATE TEMP TABLE numbers AS
            WITH RECURSIVE counted (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < ?)
            SELECT n FROM counted
            """,
            (ROWS,),
        )
        db.execute(
            "INSERT INTO events (id, type, tenant, content_type, accepted_at_ms, payload) "
            "SELECT ?1 + 2 * n, 'order.paid', 'default', 'application/json', ?2, CAST('{\"n\":' || n || '}' AS BLOB) "
            "FROM numbers",
            (base, now_ms),
        )
        db.execute(
            "INSERT INTO deliveries (id, event_id, endpoint_id, owed_since_ms, created_at_ms, due_at_ms) "
            "SELECT ?1 + 2 * n + 1, ?1 + 2 * n, 'e' || (n % 2 * (1 + n % (?3 - 1))), ?2, ?2, ?2 FROM numbers",
            (base, now_ms, ENDPOINTS),
        )
        db.execute("UPDATE figures SET value = value + ? WHERE name = 'events'", (ROWS,))
        db.execute("COMMIT")


def processor_seconds(daemon: Daemon) -> float:
    """Return what the process has used so far, itself and the kernel for it."""
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.long
async def test_after_a_kill_with_a_million_owed_it_is_ready_at_once(tmp_path: Path) -> None:
    nobody = free_port()
    endpoints = {
        f"e{number}": {"url": f"http://127.0.0.1:{nobody}/{number}", "secret": SECRET} for number in range(ENDPOINTS)
    }
    async with running_daemon(tmp_path, {"endpoints": endpoints}) as daemon:
        assert await daemon.terminate() == 0
        fill(daemon.database)
        await daemon.start()

        async def has_tried() -> bool:
            return len(daemon.log_entries("attempt.failed")) > ENDPOINTS

        await eventually(has_tried, timeout_seconds=60, every_seconds=0.2)
        await daemon.kill9()
        begun = time.monotonic()
        await daemon.start()
        # Not by the clock on the wall: how busy the machine is with other tests is not what is measured.
        used, passed = processor_seconds(daemon), time.monotonic() - begun
        sys.stdout.write(f"ready {passed:.2f} s after a kill, of which {used:.2f} s at work\n")
        assert used < READY_SECONDS
        assert (await daemon.get("/v1/status")).json()["deliveries"]["pending"] == ROWS
