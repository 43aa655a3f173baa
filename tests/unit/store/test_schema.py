"""The schema is the sum of its migrations, each of them all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from webhookd.store.sqlite import schema
from webhookd.store.sqlite.schema import Migration

OBJECTS = {
    "table": {
        "attempts",
        "deliveries",
        "endpoint_deliveries",
        "endpoints",
        "events",
        "figures",
        "idempotency",
    },
    "index": {
        "deliveries_by_event",
        "deliveries_due",
        "deliveries_in_order",
        "deliveries_unacknowledged",
        "idempotency_by_key",
    },
}


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    numbers = [migration.number for migration in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_a_new_file_holds_what_all_migrations_make(tmp_path: Path, db: sqlite3.Connection) -> None:
    schema.create(tmp_path / "x.db")
    schema.migrate(db, schema.migrations())
    with closing(sqlite3.connect(tmp_path / "x.db")) as made:
        assert schema.objects(made) == schema.objects(db)
        assert version(made) == version(db) == len(schema.migrations())
    kinds = {kind: {name for name, one in schema.objects(db).items() if one[0] == kind} for kind in OBJECTS}
    assert kinds == OBJECTS


def test_every_table_is_strict(db: sqlite3.Connection) -> None:
    schema.migrate(db, schema.migrations())
    loose = [row[1] for row in db.execute("PRAGMA table_list") if not row[5] and not row[1].startswith("sqlite_")]
    assert loose == []


def test_a_migration_is_taken_once(db: sqlite3.Connection) -> None:
    steps = [Migration(number=1, sql="CREATE TABLE a (x);"), Migration(number=2, sql="CREATE TABLE b (x);")]
    schema.migrate(db, steps[:1])
    schema.migrate(db, steps)
    schema.migrate(db, steps)
    assert set(schema.objects(db)) == {"a", "b"}
    assert version(db) == 2


def test_a_migration_that_fails_leaves_what_was_before(db: sqlite3.Connection) -> None:
    good = Migration(number=1, sql="CREATE TABLE a (x);")
    bad = Migration(number=2, sql="CREATE TABLE b (x);\nINSERT INTO a VALUES (1);\nCREATE TABLE a (x);")
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(db, [good, bad])
    assert set(schema.objects(db)) == {"a"}
    assert version(db) == 1
    assert db.execute("SELECT count(*) FROM a").fetchone() == (0,)
    assert not db.in_transaction


def test_a_new_file_passes_its_own_checks(tmp_path: Path) -> None:
    schema.create(tmp_path / "x.db")
    before = (tmp_path / "x.db").read_bytes()
    schema.inspect(tmp_path / "x.db")
    assert (tmp_path / "x.db").read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["x.db"]
