"""Database files with something in them, as an orderly end and as a crash leaves them, and ways of damaging them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.kit.builders import event, submission
from tests.kit.clock import VirtualClock
from tests.kit.intake import accepted
from webhookd.core.settings import DAY, Storage
from webhookd.store.sqlite import open_store

PAGE_BYTES = 4096
FRAME_BYTES = PAGE_BYTES + 24
EVENTS = 40

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Two databases with events in them: one closed in order, one as a crash left it, with its log."""

    closed: Path
    crashed: Path


def make_samples(directory: Path) -> Samples:
    """Make both in `directory`; each has EVENTS events, every one with a key and owed to the endpoint `orders`."""
    made = Samples(closed=directory / "closed", crashed=directory / "crashed")
    for path in (made.closed, made.crashed):
        script = f"from tests.kit.database_files import fill; fill({str(path / 'webhookd.db')!r})"
        subprocess.run([sys.executable, "-c", script], cwd=_ROOT, check=True)
    with closing(sqlite3.connect(made.closed / "webhookd.db")) as db:
        db.execute("SELECT count(*) FROM events").fetchone()
    assert not (made.closed / "webhookd.db-wal").exists()
    assert (made.crashed / "webhookd.db-wal").stat().st_size > 20 * FRAME_BYTES
    return made


def fill(path: str) -> None:
    """Commit EVENTS times, with a checkpoint between, and end the process without closing anything."""

    async def work() -> None:
        store = await open_store(
            Storage(path=Path(path), min_free_bytes=0),
            idempotency_window_seconds=DAY,
            clock=VirtualClock(),
            mint=lambda: 0,
        )
        for number in range(EVENTS):
            if number == 10:
                await store.checkpoint()
            key = f"key-{number}"
            await accepted(store, [submission(event(payload=key.encode() * 300), idempotency_key=key)])
        os._exit(0)

    asyncio.run(work())


def put(sample: Path, database: Path) -> None:
    """Copy a sample, with its log, to be the database of a daemon."""
    for path in sample.iterdir():
        if not path.name.endswith(".lock"):
            shutil.copy(path, database.parent / path.name)


def snapshot(directory: Path) -> dict[str, str]:
    """Return what every file holds, but the index that SQLite makes of a log and the lock with our process id."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in sorted(directory.iterdir())
        if not path.name.endswith(("-shm", ".lock"))
    }


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write `data` into a file, past whoever uses it."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    with path.open("rb") as file:
        file.seek(offset)
        (byte,) = file.read(1)
    overwrite(path, offset, bytes([byte ^ 0x41]))


def root_page(database: Path, name: str) -> int:
    """Return the number of the page that a table or index begins at."""
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as db:
        return int(db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0])
