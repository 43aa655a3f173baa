"""Statements over many rows at once, each size prepared once and then found in the cache.

One statement with 64 rows takes the interpreter's lock once where 64 statements, or executemany, take it 64 times;
with a busy event loop in the other thread that is the difference between one millisecond and a hundred. For the same
reason what a commit usually has is one statement of exactly that many rows, or two, and not several of a few sizes.
"""

from __future__ import annotations

import sqlite3

_EXACT_ROWS = 32
_LARGER = (256, 128, 64, 32)

SIZES = (*range(1, _EXACT_ROWS), *reversed(_LARGER))
"""How many rows a statement may have; each that was used is kept prepared, which takes some 100 bytes a value."""


class RowStatement:
    """`head`, then rows of placeholders, then `tail`; `row` is one row, such as `(?, ?)`, and has `width` values."""

    def __init__(self, head: str, row: str, tail: str = "") -> None:
        self._head = head
        self._row = row
        self._tail = tail
        self.width = row.count("?")
        self._texts: dict[int, str] = {}

    def text(self, rows: int) -> str:
        """Return the statement for one of SIZES."""
        if (text := self._texts.get(rows)) is None:
            text = self._texts[rows] = self._head + ", ".join([self._row] * rows) + self._tail
        return text

    def run(self, db: sqlite3.Connection, values: list[object]) -> None:
        """Execute for every row, in order; `values` are those of all rows, one after the other."""
        left = len(values) // self.width
        start = 0
        while left:
            rows = left if left < _EXACT_ROWS else next(size for size in _LARGER if size <= left)
            end = start + rows * self.width
            db.execute(self.text(rows), values[start:end])
            left, start = left - rows, end
