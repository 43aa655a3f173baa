"""Many rows in statements of few sizes."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from webhookd.store.sqlite.statements import SIZES, RowStatement

INSERT = RowStatement("INSERT INTO t (a, b, c) VALUES ", "(?, ?, 3)")


@pytest.mark.parametrize("rows", [0, 1, 7, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 320, 1000])
def test_every_row_arrives_once_and_in_order(rows: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (a, b, c)")
        INSERT.run(db, [value for n in range(rows) for value in (n, -n)])
        assert db.execute("SELECT a, b, c FROM t ORDER BY rowid").fetchall() == [(n, -n, 3) for n in range(rows)]


def test_any_number_of_rows_takes_few_different_statements() -> None:
    texts: set[str] = set()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (a, b, c)")
        db.set_trace_callback(lambda text: texts.add(str(text.count("(") - 1)))
        for rows in range(1, 700, 13):
            INSERT.run(db, [1, 1] * rows)
    assert texts <= {str(size) for size in SIZES}
    assert len(SIZES) < 40
