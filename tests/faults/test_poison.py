"""A delivery that breaks our own code, and a daemon that crashes again and again."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.kit.daemon import running_daemon
from tests.kit.receiver import Receiver, Reply
from webhookd.store.sqlite.lives import NAME, Lives

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_MS = 1_800_000_000_000


def to(receiver: Receiver, **keys: object) -> dict[str, object]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET, "jitter": 0, **keys}}}


async def test_a_delivery_that_breaks_an_attempt_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    """Its attempts fail as our own fault, with a traceback in the log, until its schedule is at an end."""
    command = [sys.executable, "-m", "tests.kit.faulty", "poison", "-"]
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, to(receiver, retry=["0.2s", "0.2s"]), command=command) as daemon,
    ):
        for number in range(20):
            await daemon.send("order.completed", "poison" if number == 7 else number)
        deliveries = await daemon.settled()
        assert Counter(delivery["state"] for delivery in deliveries) == {"delivered": 19, "dead": 1}
        (dead,) = [delivery for delivery in deliveries if delivery["state"] == "dead"]
        shown = (await daemon.get(f"/v1/deliveries/{dead['id']}")).json()
        assert [attempt["error"]["class"] for attempt in shown["attempts"]] == ["internal"] * 3
        crashes = daemon.log_entries("attempt.crashed")
        assert len(crashes) == 3
        assert all("RecursionError" in str(entry) and "poisoned" in str(entry) for entry in crashes)
        assert (await daemon.get("/readyz")).status == 200


async def test_after_three_crashes_within_a_minute_every_endpoint_begins_with_one_request(tmp_path: Path) -> None:
    hasty = {"network": {"drain_timeout": "0.2s", "allow": ["127.0.0.0/8"]}}
    async with Receiver() as receiver, running_daemon(tmp_path, {**to(receiver), **hasty}, start=False) as daemon:
        for _ in range(3):
            await daemon.start()
            assert daemon.log_entries("crashes.noted") == []
            await daemon.kill9()
        await daemon.start()
        assert [entry["crashes"] for entry in daemon.log_entries("crashes.noted")] == [3]
        receiver.script(Reply(hang=True))
        for number in range(10):
            await daemon.send("order.completed", number)
        await receiver.wait_for(1)
        assert (await daemon.get("/v1/status")).json()["in_flight"] == {"fast": 1, "slow": 0}
        # After an orderly end the next life begins as any other.
        assert await daemon.terminate() == 0
        assert not (daemon.database.parent / NAME).exists()
        await daemon.start()
        await receiver.wait_for(1 + 4)


async def test_starts_that_something_else_prevents_are_no_crashes(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = {"address": f"tcp:127.0.0.1:{other.getsockname()[1]}", "role": "operate"}
        async with running_daemon(tmp_path, {"listen": [taken]}, start=False) as daemon:
            for _ in range(3):
                await daemon.start(ready=False)
                assert await daemon.wait() == 75
            assert daemon.database.exists()
            other.close()
            await daemon.start()
            assert daemon.log_entries("crashes.noted") == []


def test_only_three_crashes_within_a_minute_count(tmp_path: Path) -> None:
    assert [Lives(tmp_path).begin(NOW_MS + second * 1000) for second in (0, 10, 20, 30, 40)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert not Lives(tmp_path).begin(NOW_MS + 200_000)


def test_an_orderly_end_forgets_them(tmp_path: Path) -> None:
    for _ in range(3):
        Lives(tmp_path).begin(NOW_MS)
    Lives(tmp_path).end()
    assert [Lives(tmp_path).begin(NOW_MS + 1) for _ in range(3)] == [False, False, False]


def test_a_clock_that_went_back_forgets_them_too(tmp_path: Path) -> None:
    for _ in range(3):
        Lives(tmp_path).begin(NOW_MS)
    assert not Lives(tmp_path).begin(NOW_MS - 86_400_000)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage", b"9" * 5000, "٣".encode()])
def test_a_spoilt_file_does_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert not Lives(tmp_path).begin(NOW_MS)


def test_a_directory_that_takes_no_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert not Lives(tmp_path).begin(NOW_MS)
    Lives(tmp_path).end()
