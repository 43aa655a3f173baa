"""The bare pipeline: the same way from request to acknowledged delivery with nothing on it that could be left out.

It is the yardstick of the daemon, so it keeps what makes the daemon's promise true and drops all else. Kept: the
envelope is decoded and its JSON checked, 202 only after a commit with synchronous=FULL, one commit for all that queued
up while the last one ran, an index to find what is owed after a crash, a signature per delivery, kept connections,
every attempt on record. Dropped: endpoints and matching, retries, deadlines, limits, roles, problems, windows, lanes,
metrics, logs, and every answer to trouble: what goes wrong here shows as a delivery that never comes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import signal
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path
from time import monotonic, time
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import aiosqlite
import httptools
import msgspec
import uvloop

CONCURRENCY = 64
GROUP_EVENTS = 256

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (id INTEGER PRIMARY KEY, type TEXT, tenant TEXT, accepted_at_ms INTEGER, payload BLOB) STRICT;
CREATE TABLE deliveries (id INTEGER PRIMARY KEY, event_id INTEGER, state TEXT, attempt_count INTEGER,
                         due_at_ms INTEGER, finished_at_ms INTEGER) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_at_ms) WHERE state = 'pending';
CREATE TABLE attempts (delivery_id INTEGER, number INTEGER, started_at_ms INTEGER, duration_ms REAL, status INTEGER,
                       PRIMARY KEY (delivery_id, number)) STRICT, WITHOUT ROWID;
"""
SETTLE = """
UPDATE deliveries SET state = 'delivered', attempt_count = 1, due_at_ms = NULL, finished_at_ms = ?1
WHERE id IN (SELECT value FROM json_each(?2))
"""


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """What a producer sends; the payload stays as it stood in the request."""

    type: str
    payload: msgspec.Raw
    tenant: str = "default"


DECODER = msgspec.json.Decoder(Envelope)


class Owed(NamedTuple):
    """An event, which is also its one delivery, and the connection that waits for its acceptance."""

    id: int
    type: str
    tenant: str
    accepted_at_ms: int
    payload: bytes
    intake: Intake


class Settled(NamedTuple):
    """An acknowledged delivery and its attempt."""

    id: int
    started_at_ms: int
    duration_ms: float
    status: int


class Session(aiosqlite.Connection):
    """A connection that runs a whole transaction as one step in its thread."""

    async def run(self, work: Callable[..., None], *given: object) -> None:
        """Run `work` on the connection."""
        await self._execute(work, self._conn, *given)


class Rows:
    """One multi-row INSERT in a few sizes, so that each is prepared once."""

    def __init__(self, table: str, columns: str) -> None:
        row = "(" + ", ".join("?" * len(columns.split(","))) + ")"
        self._sql = {
            size: f"INSERT INTO {table} ({columns}) VALUES " + ", ".join([row] * size)  # noqa: S608
            for size in (64, 8, 1)
        }

    def insert(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert all rows."""
        start = 0
        for size, sql in self._sql.items():
            while len(rows) - start >= size:
                db.execute(sql, list(chain.from_iterable(rows[start : start + size])))
                start += size


EVENTS = Rows("events", "id, type, tenant, accepted_at_ms, payload")
DELIVERIES = Rows("deliveries", "id, event_id, state, attempt_count, due_at_ms")
ATTEMPTS = Rows("attempts", "delivery_id, number, started_at_ms, duration_ms, status")


def opened(database: Path) -> sqlite3.Connection:
    """Return a connection to a new database."""
    db = sqlite3.connect(database, isolation_level=None)
    db.executescript(SCHEMA)
    for pragma in ("PRAGMA synchronous = FULL", "PRAGMA temp_store = MEMORY", "PRAGMA cache_size = -32768"):
        db.execute(pragma)
    return db


def commit(db: sqlite3.Connection, accepted: list[Owed], settled: list[Settled]) -> None:
    """Write one group."""
    db.execute("BEGIN IMMEDIATE")
    EVENTS.insert(db, [owed[:5] for owed in accepted])
    DELIVERIES.insert(db, [(owed.id, owed.id, "pending", 0, owed.accepted_at_ms) for owed in accepted])
    if settled:
        ATTEMPTS.insert(db, [(one.id, 1, one.started_at_ms, one.duration_ms, one.status) for one in settled])
        db.execute(SETTLE, (int(time() * 1000), "[" + ",".join([str(one.id) for one in settled]) + "]"))
    db.execute("COMMIT")


class Pipeline:
    """The queue to the writer, the queue to the receiver, and the connections that wait for work."""

    def __init__(self, session: Session, target: str, key: bytes) -> None:
        parts = urlsplit(target)
        self._session = session
        self._key = key
        self._head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode() + (
            b"Content-Type: application/json\r\nUser-Agent: bare\r\nwebhook-id: evt_%d\r\nwebhook-timestamp: %d\r\n"
            b"webhook-signature: v1,%b\r\nContent-Length: %d\r\n\r\n"
        )
        self._ids = count(int(time() * 1000) << 22)
        self._decode = DECODER.decode
        self._accepted: deque[Owed] = deque()
        self._settled: list[Settled] = []
        self._outbox: deque[Owed] = deque()
        self._wake = asyncio.Event()
        self.idle: list[Outlet] = []

    def accept(self, body: bytes, intake: Intake) -> None:
        """Queue the event in `body`; `intake` is answered once it is committed."""
        envelope = self._decode(body)
        now_ms = int(time() * 1000)
        payload = bytes(envelope.payload)
        self._accepted.append(Owed(next(self._ids), envelope.type, envelope.tenant, now_ms, payload, intake))
        self._wake.set()

    def settle(self, settled: Settled, outlet: Outlet) -> None:
        """Queue an outcome and give the connection more work."""
        self._settled.append(settled)
        self._wake.set()
        if self._outbox:
            outlet.send(self._outbox.popleft())
        else:
            self.idle.append(outlet)

    def sign(self, owed: Owed) -> bytes:
        """Return the request that delivers `owed`."""
        now = int(time())
        mac = hmac.digest(self._key, b"evt_%d.%d." % (owed.id, now) + owed.payload, hashlib.sha256)
        return self._head % (owed.id, now, base64.b64encode(mac), len(owed.payload)) + owed.payload

    async def write(self) -> None:
        """Commit whatever has queued up, answer, deliver; for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._accepted or self._settled:
                accepted = [self._accepted.popleft() for _ in range(min(len(self._accepted), GROUP_EVENTS))]
                settled, self._settled = self._settled, []
                await self._session.run(commit, accepted, settled)
                for owed in accepted:
                    owed.intake.answer(owed.id)
                    if self.idle:
                        self.idle.pop().send(owed)
                    else:
                        self._outbox.append(owed)


class Intake(asyncio.Protocol):
    """A producer's connection: one request at a time, answered when it is on disk."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Collect the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """Hand the event on; a request without a body only asks whether anybody listens."""
        body, self._body = self._body, b""
        if body:
            self._pipeline.accept(body, self)
        else:
            cast("asyncio.Transport", self._transport).write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def answer(self, event_id: int) -> None:
        """Say that the event is on disk."""
        body = b'{"id":"evt_%d","duplicate":false,"deliveries":1}' % event_id
        cast("asyncio.Transport", self._transport).write(
            b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )


class Outlet(asyncio.Protocol):
    """A kept-alive connection to the receiver."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._owed: Owed | None = None
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be of use."""
        self._transport = cast("asyncio.Transport", transport)
        self._pipeline.idle.append(self)

    def send(self, owed: Owed) -> None:
        """Deliver one."""
        self._owed = owed
        self._sent_at = monotonic()
        cast("asyncio.Transport", self._transport).write(self._pipeline.sign(owed))

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Record the attempt; whatever does not acknowledge ends the measurement at its check for lost deliveries."""
        status = self._parser.get_status_code()
        took_ms = (monotonic() - self._sent_at) * 1000
        if status == 200 and self._owed is not None:
            started_at_ms = int(time() * 1000 - took_ms)
            self._pipeline.settle(Settled(self._owed.id, started_at_ms, took_ms, status), self)


async def serve(address: str, database: Path, target: str, key: bytes) -> None:
    """Accept and deliver until SIGTERM; the database must not exist yet."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    session = Session(lambda: opened(database), iter_chunk_size=64)
    async with session:
        pipeline = Pipeline(session, target, key)
        parts = urlsplit(target)
        for _ in range(CONCURRENCY):
            await loop.create_connection(lambda: Outlet(pipeline), parts.hostname, parts.port)
        kind, _, place = address.partition(":")
        if kind == "unix":
            await loop.create_unix_server(lambda: Intake(pipeline), place, backlog=1024)
        else:
            host, _, port = place.rpartition(":")
            await loop.create_server(lambda: Intake(pipeline), host, int(port), backlog=1024)
        writer = asyncio.create_task(pipeline.write())
        stop = asyncio.create_task(stopped.wait())
        await asyncio.wait([writer, stop], return_when=asyncio.FIRST_COMPLETED)
        if writer.done():
            writer.result()
        writer.cancel()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, metavar="ADDRESS", help="tcp:HOST:PORT or unix:PATH")
    parser.add_argument("--database", type=Path, required=True, metavar="FILE")
    parser.add_argument("--target", required=True, metavar="URL")
    parser.add_argument("--secret", required=True, metavar="whsec_…")
    given = parser.parse_args()
    sys.setswitchinterval(0.0002)
    uvloop.install()
    key = base64.b64decode(given.secret.removeprefix("whsec_"))
    asyncio.run(serve(given.listen, given.database, given.target, key))


if __name__ == "__main__":
    main()
