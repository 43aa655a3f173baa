"""Writes the database of the present version as SQL, with something in it of every kind that a release may find.

`python -m tests.kit.golden > tests/faults/golden/VERSION.sql`, once for each release; the file is never changed again,
since it stands for the databases that are out there.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver, Reply, Request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PORT = 8499
"""Where the endpoints of the file are; whoever opens it listens there, or gives them another URL."""


def config(url: str) -> dict[str, Any]:
    """Return the configuration that the file was made under, with its endpoints at `url`.

    Nothing is too old for it: the file is to be found as it is, however many years later.
    """
    endpoint = {"secret": SECRET, "jitter": 0}
    return {
        "store": {"keep_delivered": "3650d", "keep_dead": "3650d"},
        "ingest": {"idempotency_window": "30d"},
        "delivery": {"give_up_after": "90d"},
        "endpoints": {
            "orders": {"url": f"{url}/orders", "retry": ["30d"], **endpoint},
            "once": {"url": f"{url}/once", "retry": [], "types": ["order.*"], **endpoint},
            "held": {"url": f"{url}/held", "retry": ["30d"], "types": ["order.*"], **endpoint},
        },
    }


def load(script: Path, database: Path) -> None:
    """Make `database` of the SQL in `script`, in the journal mode that a daemon leaves behind."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.executescript(script.read_text(encoding="utf-8"))
        db.execute("PRAGMA journal_mode = WAL")
    database.chmod(0o600)


def dump(database: Path) -> str:
    """Return `database` as SQL, with the numbers in its header."""
    with closing(sqlite3.connect(database)) as db:
        header = [
            f"PRAGMA {name} = {db.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*header, *db.iterdump(), ""])


async def make(directory: Path) -> str:
    """Run a daemon through everything that leaves a trace in its database, and return that as SQL."""

    def answer(request: Request) -> Reply | int:
        if request.path == "/once":
            return Reply(status=500, body=b"out of order")
        return 200 if b"taken" in request.body else 503

    receiver = Receiver(port=PORT)
    receiver.script(answer)
    async with receiver, running_daemon(directory, config(receiver.url)) as daemon:
        await _fill(daemon)
        if await daemon.terminate() != 0:
            raise RuntimeError(daemon.log)
        return dump(daemon.database)


async def _fill(daemon: Daemon) -> None:
    await daemon.post("/v1/endpoints/held/disable")
    made = {"id": "made", "url": f"http://127.0.0.1:{PORT}/made", "types": ["invoice.*"], "secret": SECRET}
    response = await daemon.post("/v1/endpoints", made)
    if response.status != 201:
        raise RuntimeError(response.body)
    later = datetime.now(UTC) + timedelta(days=40)
    response = await daemon.post("/v1/endpoints/made/rotate-secret", {})
    if response.status != 200:
        raise RuntimeError(response.body)
    await daemon.send("order.completed", {"fate": "taken", "text": "grüße 🎉 it's"})
    await daemon.send("order.completed", {"fate": "refused"})
    await daemon.send("invoice.paid", {"fate": "taken"}, tenant="default")
    await daemon.send("note.left", {"fate": "later"}, deliver_at=later.isoformat())
    keyed = {"type": "note.left", "payload": {"fate": "taken"}}
    await daemon.post("/v1/events", keyed, headers={"Idempotency-Key": "golden"})
    binary = await daemon.request(
        "POST", "/v1/events/blob.left", bytes(range(256)), headers={"Content-Type": "application/octet-stream"}
    )
    if binary.status != 202:
        raise RuntimeError(binary.body)

    async def is_quiet() -> bool:
        states = [(one["state"], one["attempt_count"]) for one in await daemon.deliveries()]
        waiting = [one for one in await daemon.deliveries(state="pending") if not one["attempt_count"]]
        # The one that is put off, and those of the endpoint that is disabled.
        return len(states) > 8 and len(waiting) == 3

    await eventually(is_quiet, timeout_seconds=20)
    cancelled = await daemon.send("note.left", {"fate": "cancelled"})

    async def has_failed() -> Any:
        found = (await daemon.get(f"/v1/events/{cancelled['id']}")).json()["deliveries"]
        return found[0]["id"] if found[0]["attempt_count"] else None

    response = await daemon.post(f"/v1/deliveries/{await eventually(has_failed)}/cancel")
    if response.status != 200:
        raise RuntimeError(response.body)


def main() -> None:
    """Print the SQL."""
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(asyncio.run(make(Path(name))))


if __name__ == "__main__":
    main()
