"""Operating the real daemon: a backup that is put in place, a replay, and following both ways of leaving."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def to(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET, "jitter": 0, **keys}}}


async def command(daemon: Daemon, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webhookd", "--server", daemon.url, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def said(daemon: Daemon, *arguments: str) -> tuple[int | None, str, str]:
    process = await command(daemon, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, out.decode(), err.decode()


async def test_a_backup_put_in_place_delivers_what_was_pending(tmp_path: Path) -> None:
    """The drill of the manual: copy while it runs, lose the disk, put the copy in place, start."""
    copy = tmp_path / "copy.db"
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=["1s"] * 30)) as daemon:
        receiver.script(500)
        pending = [await daemon.send("order.completed", {"number": number}) for number in range(5)]
        await receiver.wait_for(5)
        code, out, err = await said(daemon, "backup", str(copy), "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) | {"duration_ms": 0} == {
            "path": str(copy),
            "size": copy.stat().st_size,
            "events": 5,
            "deliveries": 5,
            "duration_ms": 0,
        }
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert (await said(daemon, "backup", str(copy)))[0] == 1
        late = await daemon.send("order.completed", {"after": "the copy"})
        await daemon.kill9()
        shutil.rmtree(daemon.database.parent)
        daemon.database.parent.mkdir(mode=0o700)
        shutil.copy(copy, daemon.database)
        receiver.script(200)
        before = receiver.by_event()
        await daemon.start()
        deliveries = await daemon.settled()
        assert [delivery["state"] for delivery in deliveries] == ["delivered"] * 5
        assert {delivery["event"] for delivery in deliveries} == {one["id"] for one in pending}
        after = receiver.by_event()
        assert all(after[one["id"]] > before[one["id"]] for one in pending)
        assert after.get(late["id"]) == before.get(late["id"])


async def test_a_backup_to_a_place_the_daemon_may_not_use(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        code, _, err = await said(daemon, "backup", "/proc/copy.db")
        assert code == 1
        assert f"uid {os.getuid()}" in err
        assert (await daemon.get("/readyz")).status == 200


async def test_what_died_is_replayed_after_a_repair(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=[])) as daemon:
        receiver.script(500)
        sent = [await daemon.send("order.paid", {}) for _ in range(3)]
        other = await daemon.send("user.made", {})
        await daemon.settled()
        receiver.script(200)
        assert (await said(daemon, "replay", "orders", "--type", "order.*", "--dry-run"))[1] == (
            "would be owed again: 3 deliveries\n"
        )
        assert (await said(daemon, "replay", "orders", "--type", "order.*", "--yes"))[1] == "owed again: 3 deliveries\n"
        states = {delivery["event"]: delivery["state"] for delivery in await daemon.settled()}
        assert states == {one["id"]: "delivered" for one in sent} | {other["id"]: "dead"}
        assert (await said(daemon, "replay", "nobody", "--yes"))[0] == 4


async def test_attempts_are_followed_until_the_daemon_stops(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, types=["order.*"])) as daemon:
        following = await command(daemon, "tail", "--type", "order.*", "--json")
        assert following.stdout is not None
        try:

            async def told() -> bytes:
                # It may take a moment until somebody listens; until then nothing is told.
                await daemon.send("order.paid", {})
                try:
                    return await asyncio.wait_for(following.stdout.readline(), 0.5)
                except TimeoutError:
                    return b""

            attempt = json.loads(await eventually(told))
            assert (attempt["type"], attempt["endpoint"], attempt["status"]) == ("order.paid", "orders", 200)
            assert attempt["state"] == "delivered"
            assert attempt["delivery"] in {delivery["id"] for delivery in await daemon.deliveries()}
            assert await daemon.terminate() == 0
            assert await asyncio.wait_for(following.wait(), 10) == 69
        finally:
            if following.returncode is None:
                following.kill()
            await following.communicate()
