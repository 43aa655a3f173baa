"""The statements of the hot path, and those over millions of rows, use the indexes that were made for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EndpointId, EventId
from webhookd.core.queries import DeliveryFilter, EventFilter
from webhookd.store.sqlite import changes, history, intake, listing, outbox, replay, retention, schema, settlement
from webhookd.store.sqlite.rows import SELECT_ATTEMPT
from webhookd.store.sqlite.statements import RowStatement

A = EndpointId("a")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection, schema.migrations())
        yield connection


class Parameters(dict):
    """Stands for any named parameters."""

    def __missing__(self, key: str) -> int:
        return 1


def plan(db: sqlite3.Connection, sql: str) -> str:
    named = ":" in sql
    values = Parameters() if named else [1] * sql.count("?")
    return "\n".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values))


@pytest.mark.parametrize(
    ("sql", "steps"),
    [
        (
            outbox.BY_DUE_MOMENT,
            ["SEARCH d USING INDEX deliveries_due (endpoint_id=? AND replayed=?)", "SEARCH e USING INTEGER PRIMARY"],
        ),
        (
            outbox.REPLAYED,
            ["SEARCH d USING INDEX deliveries_due (endpoint_id=? AND replayed=?)", "SEARCH e USING INTEGER PRIMARY"],
        ),
        (outbox.BY_ACCEPTANCE, ["SEARCH d USING INDEX deliveries_in_order (endpoint_id=?)"]),
        (outbox.HEADS, ["SEARCH d USING INDEX deliveries_due (endpoint_id>?)"]),
        (outbox.HEADS, ["SEARCH d USING INDEX deliveries_due (endpoint_id=? AND replayed=?)"]),
        (intake.FIND_KEYS, ["SEARCH known USING INDEX idempotency_by_key (tenant=? AND key=?)"]),
        (changes.FIND_OWED, ["SEARCH d USING INDEX deliveries_by_event (event_id=?)"]),
        (changes.FIND_OWED_TO, ["SEARCH d USING INDEX deliveries_by_event (event_id=?)"]),
        (changes.CANCEL_SOME, ["SEARCH deliveries USING INTEGER PRIMARY KEY (rowid=?)", "(endpoint_id=?)"]),
        (replay.FIND_ENDED.format(state="dead"), ["deliveries_unacknowledged (state=? AND rowid>? AND rowid<?)"]),
        (
            replay.FIND_LISTED,
            [
                "endpoint_deliveries USING PRIMARY KEY (endpoint_id=? AND delivery_id>? AND delivery_id<?)",
                "SEARCH deliveries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            ],
        ),
        (replay.REPLAY, ["SEARCH deliveries USING INTEGER PRIMARY KEY (rowid=?)"]),
        (history.COUNT_DELIVERIES, ["SCAN deliveries USING COVERING INDEX deliveries_by_event"]),
        (history.COUNT_PENDING, ["SCAN deliveries USING INDEX deliveries_due"]),
        (history.COUNT_UNACKNOWLEDGED, ["USING COVERING INDEX deliveries_unacknowledged"]),
        (history.COUNT_HELD, ["SEARCH d USING INDEX deliveries_due (endpoint_id=?)"]),
        (history.COUNT_PENDING_BY_ENDPOINT, ["SEARCH d USING INDEX deliveries_due (endpoint_id=?)"]),
        (listing.UNLIST, ["SEARCH endpoint_deliveries USING PRIMARY KEY (endpoint_id=? AND delivery_id=?)"]),
        (retention.NEXT_DELIVERIES, ["SEARCH deliveries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (retention.END_HELD, ["SEARCH deliveries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (retention.DELETE_DELIVERIES, ["SEARCH deliveries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (retention.DELETE_ATTEMPTS, ["SEARCH attempts USING PRIMARY KEY (delivery_id=?)"]),
        (
            retention.DELETE_EMPTIED_EVENTS,
            ["SEARCH events USING INTEGER PRIMARY KEY", "COVERING INDEX deliveries_by_ev"],
        ),
        (retention.DELETE_UNOWED_EVENTS, ["SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (retention.DELETE_KEYS, ["SEARCH idempotency USING INTEGER PRIMARY KEY (rowid=?)"]),
        (
            f"{SELECT_ATTEMPT} WHERE delivery_id = ? ORDER BY number",
            ["SEARCH attempts USING PRIMARY KEY (delivery_id=?)"],
        ),
        (settlement.UPDATE_DELIVERED.text(8), ["SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
        (settlement.UPDATE_UNDELIVERED.text(8), ["SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
        (settlement.COUNT_ATTEMPTS.text(8), ["SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
        (settlement.FIND_DELIVERIES, ["SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
        (settlement.UPDATE_HEALTH.text(8), ["SEARCH p USING PRIMARY KEY (id=?)"]),
    ],
)
def test_a_statement_uses_its_index(db: sqlite3.Connection, sql: str, steps: list[str]) -> None:
    found = plan(db, sql)
    for step in steps:
        assert step in found, found
    assert "TEMP B-TREE FOR ORDER BY" not in found


@pytest.mark.parametrize("table", ["deliveries", "events", "attempts", "idempotency", "endpoint_deliveries"])
@pytest.mark.parametrize(
    "sql",
    [
        outbox.BY_DUE_MOMENT,
        outbox.REPLAYED,
        outbox.BY_ACCEPTANCE,
        settlement.UPDATE_DELIVERED.text(64),
        settlement.UPDATE_UNDELIVERED.text(64),
        settlement.COUNT_ATTEMPTS.text(64),
        settlement.FIND_DELIVERIES,
        intake.FIND_KEYS,
    ],
)
def test_the_hot_path_never_walks_a_table(db: sqlite3.Connection, sql: str, table: str) -> None:
    aliases = {"deliveries": "d", "events": "e", "idempotency": "known"}
    steps = plan(db, sql).splitlines()
    assert not [step for step in steps if step.split()[:2] in (["SCAN", table], ["SCAN", aliases.get(table)])]


@pytest.mark.parametrize("rows", [1, 31, 64, 128, 256])
@pytest.mark.parametrize(
    "statement", [settlement.UPDATE_DELIVERED, settlement.UPDATE_UNDELIVERED, settlement.COUNT_ATTEMPTS]
)
@pytest.mark.parametrize("counted", [100, 1000, 5_000_000])
def test_outcomes_never_walk_a_table_that_somebody_had_analysed(
    db: sqlite3.Connection, statement: RowStatement, rows: int, counted: int
) -> None:
    """With figures of how large a table is, SQLite may read all of it to spare itself the looks into it."""
    db.execute("ANALYZE")
    for index, figures in (("by_event", f"{counted} 1"), ("due", "64 64 64 1"), ("in_order", "64 64")):
        db.execute("INSERT INTO sqlite_stat1 VALUES ('deliveries', ?, ?)", (f"deliveries_{index}", figures))
    db.execute("ANALYZE sqlite_schema")
    steps = plan(db, statement.text(rows))
    assert "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)" in steps
    assert "BLOOM" not in steps


@pytest.mark.parametrize("sql", [outbox.HEADS, history.COUNT_PENDING, history.COUNT_HELD])
def test_what_an_index_knows_is_not_read_from_the_table(db: sqlite3.Connection, sql: str) -> None:
    """SQLite before 3.41 does not call these covering, since a partial index lacks the column of its condition."""
    table = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'deliveries'").fetchone()[0]
    program = db.execute(f"EXPLAIN {sql}", Parameters()).fetchall()
    cursors = {row[2] for row in program if row[1] == "OpenRead" and row[3] == table}
    assert not [row for row in program if row[1] == "Column" and row[2] in cursors]


def traced(db: sqlite3.Connection, which: DeliveryFilter | EventFilter) -> str:
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    listed = history.events if isinstance(which, EventFilter) else history.deliveries
    listed(db, which, limit=50, before=None)
    db.set_trace_callback(None)
    return "\n".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statements[0]}"))


@pytest.mark.parametrize(
    ("which", "walk"),
    [
        (EventFilter(tenant="t"), "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (DeliveryFilter(), "SEARCH deliveries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (DeliveryFilter(type="x"), "SEARCH deliveries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (DeliveryFilter(event_id=EventId(1)), "deliveries_by_event (event_id=? AND rowid>? AND rowid<?)"),
        (DeliveryFilter(state=DeliveryState.DEAD), "deliveries_unacknowledged (state=? AND rowid>? AND rowid<?)"),
        (
            DeliveryFilter(endpoint_id=A, state=DeliveryState.PENDING),
            "deliveries_in_order (endpoint_id=? AND rowid>? AND rowid<?)",
        ),
        (
            DeliveryFilter(endpoint_id=A),
            "endpoint_deliveries USING PRIMARY KEY (endpoint_id=? AND delivery_id>? AND delivery_id<?)",
        ),
    ],
    ids=str,
)
def test_a_list_walks_by_what_it_was_asked_for(
    db: sqlite3.Connection, which: DeliveryFilter | EventFilter, walk: str
) -> None:
    found = traced(db, which)
    assert walk in found, found
    assert "SCAN deliveries" not in found
    assert "SCAN events" not in found
