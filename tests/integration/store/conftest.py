"""The stores that the conformance suite runs over, and the one file behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from webhookd.core.ids import IdGenerator
from webhookd.core.settings import DAY, Storage
from webhookd.store.sqlite import SqliteStore, open_store

Opener = Callable[..., Awaitable[SqliteStore]]


@pytest.fixture(autouse=True)
def fresh_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the builders start anew: ids carry the time that retention goes by, and a generator never goes back."""
    monkeypatch.setattr(builders, "_ids", IdGenerator(node=1))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(path=tmp_path / "state" / "webhookd.db", min_free_bytes=0)


@pytest.fixture
async def opener(storage: Storage) -> AsyncIterator[Opener]:
    """Open stores, by default on `storage`, and close those that are left open."""
    opened: list[SqliteStore] = []
    ids = IdGenerator(node=2)

    async def open_one(at: Storage = storage, **more: object) -> SqliteStore:
        settings = {
            "idempotency_window_seconds": DAY,
            "clock": VirtualClock(),
            "mint": lambda: ids.mint(START_MS),
            "filesystem": lambda _: "ext4",
        }
        opened.append(await open_store(at, **(settings | more)))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, opener: Opener) -> SqliteStore:
    """Give an empty store of every kind there is."""
    return await {"sqlite": opener}[request.param]()
