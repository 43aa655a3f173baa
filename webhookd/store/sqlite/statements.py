"""Statements over many rows in a few fixed sizes, so that each size is prepared once and then found in the cache.

One statement with 64 rows takes the interpreter's lock once where 64 statements, or executemany, take it 64 times;
with a busy event loop in the other thread that is the difference between one millisecond and a hundred.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain

_SIZES = (256, 64, 8, 1)


class RowStatement:
    """`head`, then rows of placeholders, then `tail`.

    `row` is the template of one row, `{0}` standing for the first value of it; a value may be named more than once.
    `text` has the statement for each size.
    """

    def __init__(self, head: str, row: str, tail: str = "", *, width: int) -> None:
        self.text = {
            size: "".join(
                (
                    head,
                    ", ".join(
                        row.format(*(f"?{first + column}" for column in range(1, width + 1)))
                        for first in range(0, size * width, width)
                    ),
                    tail,
                )
            )
            for size in _SIZES
        }

    def run(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Execute for every row, in order."""
        start = 0
        for size in _SIZES:
            while len(rows) - start >= size:
                db.execute(self.text[size], list(chain.from_iterable(rows[start : start + size])))
                start += size
