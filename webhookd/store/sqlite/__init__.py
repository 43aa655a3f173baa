"""The store in one SQLite file: one writer that commits in groups, and readers that never wait for it."""

from __future__ import annotations

from webhookd.store.sqlite.opening import open_store
from webhookd.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "open_store"]
