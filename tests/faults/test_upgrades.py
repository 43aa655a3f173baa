"""Databases of every release under today's code, and a schema that changes under a crash.

`golden/VERSION.sql` is a database as that release left it, made by `python -m tests.kit.golden`. `golden/next.sql`
stands for the migration that a later release will bring.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.kit import golden
from tests.kit.crashpoints import ADDED_SCHEMA, NEVER, Point
from tests.kit.daemon import Daemon, running_daemon
from tests.kit.receiver import Receiver
from webhookd.core.ids import event_text
from webhookd.store.sqlite import schema

HERE = Path(__file__).with_name("golden")
RELEASES = sorted(HERE.glob("[0-9]*.sql"))
NEXT = {ADDED_SCHEMA: str(HERE / "next.sql")}


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def present(database: Path) -> int:
    ((version,),) = rows(database, "PRAGMA user_version")
    return int(version)


def lay(release: Path, directory: Path) -> Path:
    """Put the release's database where a daemon in `directory` looks for it."""
    database = directory / "state" / "webhookd.db"
    database.parent.mkdir(mode=0o700)
    golden.load(release, database)
    return database


async def all_is_delivered(daemon: Daemon, receiver: Receiver) -> None:
    """Have everything that is owed sent now, and see that it arrives as it was handed in."""
    pending = await daemon.deliveries(state="pending")
    payloads = {
        event_text(event_id): payload for event_id, payload in rows(daemon.database, "SELECT id, payload FROM events")
    }
    moved = await daemon.request("PATCH", "/v1/endpoints/made", {"url": f"{receiver.url}/made"})
    assert moved.status == 200
    for delivery in pending:
        if not delivery["held"]:
            assert (await daemon.post(f"/v1/deliveries/{delivery['id']}/resend")).status == 202
    assert (await daemon.post("/v1/endpoints/held/enable")).status == 200
    states = Counter(one["state"] for one in await daemon.settled())
    assert states["pending"] == 0
    owed = Counter((one["event"], f"/{one['endpoint']}") for one in pending)
    assert Counter((request.event_id, request.path) for request in receiver.requests) == owed
    for request in receiver.requests:
        assert request.body == payloads[request.event_id]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.stem)
async def test_a_database_of_a_release_is_opened_and_delivered_from(tmp_path: Path, release: Path) -> None:
    database = lay(release, tmp_path)
    before = dict(rows(database, "SELECT id, state FROM deliveries"))
    assert set(before.values()) == {"pending", "delivered", "dead", "cancelled"}
    async with Receiver() as receiver, running_daemon(tmp_path, golden.config(receiver.url)) as daemon:
        assert dict(rows(database, "SELECT id, state FROM deliveries")) == before
        status = {one["id"]: one["status"] for one in (await daemon.get("/v1/endpoints")).json()["data"]}
        assert status == {"orders": "enabled", "once": "enabled", "held": "disabled", "made": "enabled"}
        known = await daemon.post(
            "/v1/events",
            {"type": "note.left", "payload": {"fate": "taken"}},
            headers={"Idempotency-Key": "golden"},
        )
        (of_key,) = rows(database, "SELECT event_id, expires_at_ms FROM idempotency")
        assert (known.status, known.json()["id"]) == (200, event_text(of_key[0]))
        await all_is_delivered(daemon, receiver)
        assert await daemon.terminate() == 0
        assert rows(database, "PRAGMA integrity_check") == [("ok",)]
        # What was made by that release is by now what would be made by this one.
        assert present(database) == schema.migrations()[-1].number
        schema.inspect(database)


def test_the_newest_release_on_file_has_the_present_schema() -> None:
    """A migration that was released is never changed; what follows it needs a file of its own, here and there."""
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as as_made,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as on_file,
    ):
        schema.migrate(as_made, schema.migrations())
        on_file.executescript(RELEASES[-1].read_text())
        assert schema.objects(on_file) == schema.objects(as_made)
        assert on_file.execute("PRAGMA user_version").fetchone() == as_made.execute("PRAGMA user_version").fetchone()


# The transaction of the migration that is there already comes first, and changes nothing.
MIGRATING = [
    (Point.MIGRATION_BEGUN, 2, False),
    (Point.MIGRATION_HALF, 1, False),
    (Point.MIGRATION_HALF, 2, False),
    (Point.MIGRATION_BEFORE_COMMIT, 2, False),
    (Point.MIGRATION_AFTER_COMMIT, 2, True),
]


@pytest.mark.parametrize(
    ("point", "passing", "is_migrated"),
    [
        pytest.param(*case, marks=[] if case[:2] == (Point.MIGRATION_HALF, 2) else [pytest.mark.long])
        for case in MIGRATING
    ],
)
async def test_a_crash_in_a_migration_leaves_the_schema_of_before_or_of_after(
    tmp_path: Path, point: Point, passing: int, *, is_migrated: bool
) -> None:
    database = lay(RELEASES[-1], tmp_path)
    old = present(database)
    command = [sys.executable, "-m", "tests.kit.crashpoints"]
    async with Receiver() as receiver:
        config = golden.config(receiver.url)
        crashing = [*command, f"{point}:{passing}"]
        for _ in range(2):
            if present(database) > old:
                # Taken: the second time there is nothing to crash in.
                break
            async with running_daemon(tmp_path, config, start=False, command=crashing, env=NEXT) as daemon:
                await daemon.start(ready=False)
                assert await daemon.wait() == -point.signal, daemon.log
                assert f"crashing at {point}" in daemon.log
        assert present(database) == old + is_migrated
        if not is_migrated:
            # Nor is anything half there that the release of before would stumble over.
            async with running_daemon(tmp_path, config) as daemon:
                assert await daemon.terminate() == 0
        async with running_daemon(tmp_path, config, command=[*command, NEVER], env=NEXT) as daemon:
            await all_is_delivered(daemon, receiver)
            assert await daemon.terminate() == 0
        assert present(database) == old + 1
        assert rows(database, "SELECT count(*) FROM notes") == rows(database, "SELECT count(*) FROM events")
        assert {weight for (weight,) in rows(database, "SELECT weight FROM deliveries")} == {1, 2}
        assert rows(database, "PRAGMA integrity_check") == [("ok",)]


async def test_the_release_of_before_refuses_what_a_later_one_has_migrated(tmp_path: Path) -> None:
    database = lay(RELEASES[-1], tmp_path)
    command = [sys.executable, "-m", "tests.kit.crashpoints", NEVER]
    async with running_daemon(tmp_path, golden.config("http://127.0.0.1:9"), command=command, env=NEXT) as daemon:
        assert await daemon.terminate() == 0
    before = database.read_bytes()
    async with running_daemon(tmp_path, golden.config("http://127.0.0.1:9"), start=False) as daemon:
        await daemon.start(ready=False)
        assert await daemon.wait() == 65
        assert "run the newer webhookd again" in daemon.log_entries("daemon.failed")[-1]["reason"]
    assert database.read_bytes() == before
