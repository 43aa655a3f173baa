"""Keeps a ledger outside the daemon while that is killed, stopped and frozen: producer and receiver write their own.

Three processes take part, and each outlives what happens to the others: `ledger_producer` hands events in,
`ledger_receiver` takes them, both write a line to a file of theirs before they act on anything, and the daemon in the
middle is what is tried. `Book.close` compares the files with the database; see `ledger_check` for what must hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit.daemon import Daemon, Table, eventually, running_daemon
from tests.kit.ledger_check import Life, Report, examine
from tests.kit.ledger_receiver import BEHAVIOURS

RETRIES = 60
"""How often each endpoint is tried again; only `doomed` gives up sooner."""

_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 15.0
_RETRY = {"first": "40ms", "factor": 1.2, "retries": RETRIES, "max": "300ms"}
_TYPES: dict[str, list[str]] = {
    "steady": [],
    "flaky": ["order.*"],
    "slow": ["order.paid"],
    "cutting": ["order.sent"],
    "doomed": ["order.*"],
    "ordered": ["note"],
}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(slots=True, kw_only=True)
class Book:
    """One daemon over its lives, with all that is known of them from outside.

    Use `start`, then one of `kill9`, `terminate` or, for a daemon that ends by itself, `ended`; and again. `close` lets
    a last life work everything off, and returns what there was.
    """

    daemon: Daemon
    directory: Path
    seed: int
    config: Table
    url: str
    lives: list[Life] = field(default_factory=list)
    _producer: asyncio.subprocess.Process | None = None

    @property
    def producer_log(self) -> Path:
        return self.directory / "producer.log"

    @property
    def receiver_log(self) -> Path:
        return self.directory / "receiver.log"

    @property
    def life(self) -> Life:
        """The present life, or the last one."""
        return self.lives[-1]

    async def produce(self, *, workers: int = 4, pause_seconds: float = 0.01, path: Path | None = None) -> None:
        """Start handing events in, over the daemon's ingest socket or `path`, until `stop_producing`."""
        assert self._producer is None, "already producing"
        self._producer = await _spawn(
            "tests.kit.ledger_producer",
            *("--socket", str(path or self.daemon.ingest_socket), "--log", str(self.producer_log)),
            *("--workers", str(workers), "--pause", str(pause_seconds), "--seed", str(self.seed)),
        )
        await _first_line(self._producer)

    async def stop_producing(self) -> None:
        """Have the producer find out what it can of what is in doubt, and end; needs a daemon that takes events."""
        assert self._producer is not None, "not producing"
        self._producer.send_signal(signal.SIGTERM)
        await self._producer.communicate()
        assert self._producer.returncode == 0, "the producer failed"
        self._producer = None

    async def start(self, *, ready: bool = True) -> None:
        """Begin a life; its number travels in a header of every request, so that each request is known by it."""
        self.configure()
        self.lives.append(Life(number=len(self.lives) + 1, started=time.monotonic()))
        await self.daemon.start(ready=ready)

    def configure(self, **more: Any) -> None:
        """Write the configuration of the life that comes next, with further tables."""
        headers = {"X-Life": str(len(self.lives) + 1), "X-Attempt": "{attempt}"}
        endpoints: dict[str, dict[str, Any]] = {
            name: {"url": f"{self.url}/{name}", "types": _TYPES[name], "secret": _SECRET} for name in BEHAVIOURS
        }
        endpoints["doomed"] |= {"retry": ["40ms", "40ms"]}
        endpoints["ordered"] |= {"ordered": True}
        config = {**self.config, **more}
        delivery = {"retry": _RETRY, "jitter": 0, "headers": headers, **config.get("delivery", {})}
        self.daemon.configure({**config, "delivery": delivery, "endpoints": endpoints})

    async def kill9(self) -> None:
        """End the life as a crash does."""
        self.daemon.send_signal(signal.SIGKILL)
        await self.ended()

    async def terminate(self, timeout_seconds: float = 40.0) -> int:
        """End the life as the service manager does, and return the exit code."""
        self.daemon.send_signal(signal.SIGTERM)
        return await self.ended(timeout_seconds)

    async def ended(self, timeout_seconds: float = 40.0) -> int:
        """Wait for the end of the life, note what is on record at that moment, and return the exit code."""
        # That it was alive is known up to here, and that it is gone only a poll later: the earlier of the two is the
        # stricter for how long before its end an answer may have gone unrecorded.
        self.life.ended = time.monotonic()
        code = await self.daemon.wait(timeout_seconds)
        self.life.code = code
        if code == 0:
            self.life.ended = time.monotonic()
            stopped = self.daemon.log_entries("daemon.stopped")
            self.life.interrupted = int(stopped[-1]["interrupted"]) if stopped else 0
        self.life.delivered = _delivered_in(self.daemon.database)
        return code

    async def work_off(self, timeout_seconds: float = 60.0) -> None:
        """Return once nothing is pending any more."""

        async def is_empty() -> bool:
            return not (await self.daemon.get("/v1/deliveries?state=pending&limit=1")).json()["data"]

        await eventually(is_empty, timeout_seconds=timeout_seconds, every_seconds=0.05)

    async def close(self, *, timeout_seconds: float = 60.0, **bounds: Any) -> Report:
        """Stop producing, let the present life work everything off, end it, and check; see `examine` for `bounds`."""
        if self._producer is not None:
            await self.stop_producing()
        await self.work_off(timeout_seconds)
        assert await self.terminate() == 0
        return self.check(**bounds)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database itself, between two lives."""
        with contextlib.closing(sqlite3.connect(f"file:{self.daemon.database}?mode=ro", uri=True)) as db:
            return db.execute(statement).fetchall()

    def check(self, **bounds: Any) -> Report:
        """Compare the ledgers with the database, between two lives; AssertionError names what does not fit."""
        report = examine(
            producer_log=self.producer_log,
            receiver_log=self.receiver_log,
            database=self.daemon.database,
            daemon_log=self.daemon.log,
            lives=self.lives,
            subscribed={name: tuple(types) for name, types in _TYPES.items()},
            retries={name: 2 if name == "doomed" else RETRIES for name in _TYPES},
            **bounds,
        )
        # Shown by `pytest -rP`, and beside a failure of the test that comes after.
        sys.stdout.write(f"{report}\n")
        return report

    async def abandon(self) -> None:
        """End the producer, whatever it is doing."""
        if self._producer is not None:
            await _end(self._producer)


@contextlib.asynccontextmanager
async def keeping_book(directory: Path, *, seed: int, config: Table | None = None, **more: Any) -> AsyncIterator[Book]:
    """Lend a book whose receiver serves; the daemon is not started. `more` goes to `running_daemon`."""
    receiver = await _spawn(
        "tests.kit.ledger_receiver", "--log", str(directory / "receiver.log"), "--seed", str(seed)
    )  # fmt: skip
    try:
        url = await _first_line(receiver)
        async with running_daemon(directory, config, start=False, **more) as daemon:
            book = Book(daemon=daemon, directory=directory, seed=seed, config=config or {}, url=url)
            try:
                yield book
            finally:
                await book.abandon()
    finally:
        await _end(receiver)


def _delivered_in(database: Path) -> frozenset[int]:
    """Return what is on record as delivered, by looking at a copy: the next life must find all as the last left it."""
    if not database.exists():
        return frozenset()
    with tempfile.TemporaryDirectory(prefix="webhookd-") as name:
        copy = Path(name) / database.name
        for suffix in ("", "-wal"):
            source = database.with_name(database.name + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        with contextlib.closing(sqlite3.connect(copy)) as db:
            try:
                rows = db.execute("SELECT id FROM deliveries WHERE state = 'delivered'").fetchall()
            except sqlite3.OperationalError:
                # Ended before there was a schema.
                if db.execute("PRAGMA user_version").fetchone() != (0,):
                    raise
                rows = []
    return frozenset(number for (number,) in rows)


async def _spawn(module: str, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *options), cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(_READY_SECONDS):
        line = (await process.stdout.readline()).decode().strip()
    if not line:
        raise RuntimeError(f"a process of the ledger ended with {await process.wait()}")
    return line


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # To the end of its output, or the transport of the pipe is left to the garbage collector.
    await process.communicate()
