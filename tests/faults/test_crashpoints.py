"""A crash at every named point of an event's way, of a start, of a reload, of a stop and of a backup."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.crashpoints import Point
from tests.kit.daemon import Daemon, DaemonExitedError, eventually, running_daemon
from tests.kit.receiver import ReceiverProcess, receiver_process
from webhookd.core.ids import event_text

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def crashing(point: Point, passing: int = 1) -> list[str]:
    """Return the command of a daemon that ends at the point."""
    return [sys.executable, "-m", "tests.kit.crashpoints", f"{point}:{passing}"]


def to(receiver: ReceiverProcess, **more: Any) -> dict[str, Any]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET, "jitter": 0}}, **more}


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[ReceiverProcess]:
    """Run a receiver that outlives the daemon and writes down what it was sent."""
    async with receiver_process(tmp_path / "received.log") as process:
        yield process


def received(receiver: ReceiverProcess) -> Counter[str]:
    return Counter(event_id for event_id, _ in receiver.entries())


async def hand_in(daemon: Daemon, number: int, *, padding: int = 0) -> dict[str, Any] | None:
    """Hand in event `number` under its own key; None where no answer came because the daemon is gone."""
    envelope = {"type": "order.completed", "payload": {"number": number, "padding": "x" * padding}}
    headers = {"Idempotency-Key": f"order-{number}"}
    try:
        answer = await daemon.request("POST", "/v1/events", envelope, headers=headers, unix=daemon.ingest_socket)
    except (aiohttp.ClientError, OSError, DaemonExitedError):
        return None
    assert answer.status in {200, 202}, answer.body
    found: dict[str, Any] = answer.json()
    return found


async def has_crashed_at(daemon: Daemon, point: Point) -> None:
    code = await daemon.wait() if daemon.exit_code is None else daemon.exit_code
    assert code == -point.signal, daemon.log
    assert daemon.log.count("crashing at") == 1
    assert f"crashing at {point}" in daemon.log
    # An attempt that our own wrapping spoiled would pass for one that the crash cut short.
    assert daemon.log_entries("attempt.crashed") == []


async def is_sound_after(daemon: Daemon) -> None:
    """End the daemon in the orderly way and look at what it leaves."""
    assert await daemon.terminate() == 0, daemon.log
    assert integrity(daemon.database) == ["ok"]
    assert not Path(f"{daemon.database}-wal").exists()


def integrity(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("PRAGMA integrity_check")]


def recorded(database: Path, scratch: Path) -> set[str]:
    """Return the events whose delivery is on disk, as delivered, in a database that nobody has open.

    Looked up in a copy: whoever opens the file itself and closes it moves the log, which is left to the next start.
    """
    scratch.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        if Path(f"{database}{suffix}").exists():
            shutil.copy(f"{database}{suffix}", scratch / f"copy{suffix}")
    with closing(sqlite3.connect(scratch / "copy")) as db:
        rows = db.execute("SELECT event_id FROM deliveries WHERE state = 'delivered'").fetchall()
    return {event_text(event_id) for (event_id,) in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What a crash at `point` must come to for the event on its way; None where the answer races with the crash."""

    point: Point
    passing: int = 2
    answered: bool | None
    is_stored: bool
    requests: int
    quick: bool = False


# A second request comes of a crash after the first was sent and before its outcome was committed, and of no other.
WAYS = [
    Way(point=Point.REQUEST_READ, answered=False, is_stored=False, requests=1),
    Way(point=Point.INTAKE_BEFORE_BEGIN, answered=False, is_stored=False, requests=1),
    Way(point=Point.EVENTS_INSERTED, answered=False, is_stored=False, requests=1),
    Way(point=Point.DELIVERIES_INSERTED, answered=False, is_stored=False, requests=1),
    Way(point=Point.INTAKE_BEFORE_COMMIT, answered=False, is_stored=False, requests=1, quick=True),
    Way(point=Point.INTAKE_AFTER_COMMIT, answered=False, is_stored=True, requests=1, quick=True),
    Way(point=Point.BEFORE_ANSWER, passing=1, answered=False, is_stored=True, requests=1),
    Way(point=Point.AFTER_ANSWER, passing=1, answered=True, is_stored=True, requests=1, quick=True),
    Way(point=Point.BEFORE_CONNECT, passing=1, answered=None, is_stored=True, requests=1),
    Way(point=Point.CONNECTED, passing=1, answered=True, is_stored=True, requests=1),
    Way(point=Point.REQUEST_SENT, answered=None, is_stored=True, requests=2, quick=True),
    Way(point=Point.HEAD_READ, answered=True, is_stored=True, requests=2),
    Way(point=Point.SETTLEMENT_BEFORE_BEGIN, answered=True, is_stored=True, requests=2),
    Way(point=Point.ATTEMPTS_INSERTED, answered=True, is_stored=True, requests=2),
    Way(point=Point.SETTLEMENT_BEFORE_COMMIT, answered=True, is_stored=True, requests=2),
    Way(point=Point.SETTLEMENT_AFTER_COMMIT, answered=True, is_stored=True, requests=1, quick=True),
]


@pytest.mark.parametrize(
    "way", [pytest.param(way, id=way.point, marks=[] if way.quick else [pytest.mark.long]) for way in WAYS]
)
async def test_on_the_way_of_an_event_what_was_acknowledged_is_delivered_once_or_known_to_be_sent_again(
    tmp_path: Path, receiver: ReceiverProcess, way: Way
) -> None:
    answers: list[dict[str, Any] | None] = []
    async with running_daemon(tmp_path, to(receiver), command=crashing(way.point, way.passing)) as daemon:
        for number in range(way.passing):
            answers.append(await hand_in(daemon, number))
            if number < way.passing - 1:
                await daemon.settled()
        await has_crashed_at(daemon, way.point)
    crashed = answers[-1]
    if way.answered is not None:
        assert (crashed is not None) == way.answered
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        # The producer asks again, under the same key, for whatever it has no answer to; here for all.
        again = [await hand_in(daemon, number) for number in range(way.passing + 2)]
        deliveries = await daemon.settled()
        assert [answer and answer["duplicate"] for answer in again] == [
            *[True] * (way.passing - 1),
            way.is_stored,
            False,
            False,
        ]
        ids = [answer["id"] for answer in again if answer is not None]
        for before, after in zip(answers, ids, strict=False):
            assert before is None or before["id"] == after
        expected = dict.fromkeys(ids, 1) | {ids[way.passing - 1]: way.requests}
        assert received(receiver) == expected
        assert {one["event"]: one["state"] for one in deliveries} == dict.fromkeys(ids, "delivered")
        assert {one["attempt_count"] for one in deliveries} == {1}
        await is_sound_after(daemon)


@pytest.mark.long
@pytest.mark.parametrize("way", [pytest.param(way, id=way.point) for way in WAYS if way.passing > 1])
async def test_under_load_nothing_is_lost_and_nothing_that_was_recorded_is_sent_again(
    tmp_path: Path, receiver: ReceiverProcess, way: Way, seed: int
) -> None:
    chance = random.Random(f"{seed} {way.point}")
    acknowledged: dict[int, str] = {}

    async def produce(daemon: Daemon, first: int) -> None:
        number = first
        while (answer := await hand_in(daemon, number)) is not None:
            acknowledged[number] = answer["id"]
            number += 8

    passing = chance.randrange(5, 30)
    async with running_daemon(tmp_path, to(receiver), command=crashing(way.point, passing)) as daemon:
        await asyncio.gather(*(produce(daemon, first) for first in range(8)))
        await has_crashed_at(daemon, way.point)
        was_recorded = recorded(daemon.database, tmp_path / "scratch")
    # What the daemon had sent when it died may still be on its way through the receiver.
    await asyncio.sleep(0.2)
    sent = len(receiver.entries())
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        deliveries = await daemon.settled()
        assert set(acknowledged.values()) <= {one["event"] for one in deliveries if one["state"] == "delivered"}
        assert not was_recorded & {event_id for event_id, _ in receiver.entries()[sent:]}
        assert received(receiver).keys() == {one["event"] for one in deliveries}
        assert max(received(receiver).values()) <= 2
        await is_sound_after(daemon)


async def fill(daemon: Daemon, count: int, *, padding: int = 0) -> list[str]:
    """Hand in events to an endpoint that gets nothing for now, until `count` or the end of the daemon."""
    assert (await daemon.post("/v1/endpoints/orders/disable")).status == 200
    answers = []
    while len(answers) < count and (answer := await hand_in(daemon, len(answers), padding=padding)) is not None:
        answers.append(answer["id"])
    return answers


async def all_arrive_once(daemon: Daemon, receiver: ReceiverProcess, owed: list[str]) -> None:
    """Let go of what was held back, and end the daemon once all is delivered."""
    assert (await daemon.post("/v1/endpoints/orders/enable")).status == 200
    await daemon.settled()
    assert received(receiver) == dict.fromkeys(owed, 1)
    await is_sound_after(daemon)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.CHECKPOINT_BEFORE, marks=pytest.mark.long),
        Point.CHECKPOINT_TORN,
        pytest.param(Point.CHECKPOINT_AFTER, marks=pytest.mark.long),
    ],
)
async def test_in_a_checkpoint(tmp_path: Path, receiver: ReceiverProcess, point: Point) -> None:
    # The first passing is the checkpoint of the start.
    async with running_daemon(tmp_path, to(receiver), command=crashing(point, 2)) as daemon:
        acknowledged = await fill(daemon, 100, padding=250_000)
        assert 10 < len(acknowledged) < 100
        await has_crashed_at(daemon, point)
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        unanswered = await hand_in(daemon, len(acknowledged), padding=250_000)
        assert unanswered is not None
        await all_arrive_once(daemon, receiver, [*acknowledged, unanswered["id"]])


START = [
    Point.LOCK_TAKEN,
    Point.CHECKED,
    Point.MIGRATION_BEGUN,
    Point.MIGRATION_AFTER_COMMIT,
    Point.CHECKPOINT_BEFORE,
    Point.CHECKPOINT_TORN,
    Point.CHECKPOINT_AFTER,
    Point.LISTENERS_BOUND,
    Point.READY,
]


@pytest.mark.long
@pytest.mark.parametrize("point", START)
async def test_in_a_start_over_what_a_crash_has_left(tmp_path: Path, receiver: ReceiverProcess, point: Point) -> None:
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        acknowledged = await fill(daemon, 6, padding=100_000)
        await daemon.kill9()
    async with running_daemon(tmp_path, to(receiver), start=False, command=crashing(point)) as daemon:
        await daemon.start(ready=False)
        await has_crashed_at(daemon, point)
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        await all_arrive_once(daemon, receiver, acknowledged)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.LOCK_TAKEN, marks=pytest.mark.long),
        Point.CREATION_HALF,
        pytest.param(Point.CREATION_BEFORE_COMMIT, marks=pytest.mark.long),
        pytest.param(Point.CREATION_AFTER_COMMIT, marks=pytest.mark.long),
        pytest.param(Point.CREATION_RENAMED, marks=pytest.mark.long),
    ],
)
async def test_in_the_making_of_a_new_file(tmp_path: Path, receiver: ReceiverProcess, point: Point) -> None:
    async with running_daemon(tmp_path, to(receiver), start=False, command=crashing(point)) as daemon:
        await daemon.start(ready=False)
        await has_crashed_at(daemon, point)
        assert daemon.database.exists() == (point is Point.CREATION_RENAMED)
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        sent = await hand_in(daemon, 1)
        assert sent is not None
        await daemon.settled()
        assert received(receiver) == {sent["id"]: 1}
        await is_sound_after(daemon)
        assert sorted(path.name for path in daemon.database.parent.iterdir()) == ["webhookd.db", "webhookd.lock"]


@pytest.mark.long
@pytest.mark.parametrize("point", [Point.RELOAD_BEGUN, Point.RELOAD_STORED])
async def test_in_a_reload(tmp_path: Path, receiver: ReceiverProcess, point: Point) -> None:
    async with running_daemon(tmp_path, to(receiver), command=crashing(point)) as daemon:
        acknowledged = await fill(daemon, 3)
        changed = to(receiver)
        changed["endpoints"]["more"] = {"url": f"{receiver.url}/more", "secret": SECRET}
        daemon.configure(changed)
        daemon.send_signal(signal.SIGHUP)
        await has_crashed_at(daemon, point)
    async with running_daemon(tmp_path, changed) as daemon:
        more = await hand_in(daemon, 3)
        assert more is not None
        assert more["deliveries"] == 2
        assert (await daemon.post("/v1/endpoints/orders/enable")).status == 200
        await daemon.settled()
        assert received(receiver) == dict.fromkeys(acknowledged, 1) | {more["id"]: 2}
        await is_sound_after(daemon)


@pytest.mark.parametrize(
    ("point", "requests"),
    [
        pytest.param(Point.STOP_ASKED, 2, marks=pytest.mark.long),
        pytest.param(Point.DRAIN_BEGUN, 2, marks=pytest.mark.long),
        pytest.param(Point.LAST_SETTLEMENT_BEFORE_COMMIT, 2, marks=pytest.mark.long),
        (Point.LAST_SETTLEMENT_AFTER_COMMIT, 1),
        pytest.param(Point.BEFORE_FINAL_CHECKPOINT, 1, marks=pytest.mark.long),
        pytest.param(Point.FINAL_CHECKPOINT_TORN, 1, marks=pytest.mark.long),
        pytest.param(Point.CLOSED, 1, marks=pytest.mark.long),
    ],
)
async def test_in_a_stop_with_a_request_in_flight(tmp_path: Path, point: Point, requests: int) -> None:
    async with (
        receiver_process(tmp_path / "received.log", "--delay", "0.7") as receiver,
        running_daemon(tmp_path, to(receiver), command=crashing(point)) as daemon,
    ):
        sent = await hand_in(daemon, 0, padding=100_000)
        assert sent is not None

        async def is_in_flight() -> bool:
            return bool(receiver.entries())

        await eventually(is_in_flight)
        daemon.send_signal(signal.SIGTERM)
        await has_crashed_at(daemon, point)
        async with running_daemon(tmp_path, to(receiver)) as after:
            (delivery,) = await after.settled()
            assert (delivery["state"], delivery["attempt_count"]) == ("delivered", 1)
            assert received(receiver) == {sent["id"]: requests}
            await is_sound_after(after)


@pytest.mark.parametrize("is_replaced", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.BACKUP_FILE_MADE, marks=pytest.mark.long),
        Point.BACKUP_TORN,
        pytest.param(Point.BACKUP_COPIED, marks=pytest.mark.long),
        pytest.param(Point.BACKUP_FSYNCED, marks=pytest.mark.long),
        pytest.param(Point.BACKUP_RENAMED, marks=pytest.mark.long),
    ],
)
async def test_in_a_backup_its_target_is_whole_or_as_it_was(
    tmp_path: Path, receiver: ReceiverProcess, point: Point, *, is_replaced: bool
) -> None:
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    order = {"path": str(target), "overwrite": is_replaced}
    if is_replaced:
        async with running_daemon(tmp_path, to(receiver)) as daemon:
            assert (await daemon.post("/v1/backup", order)).status == 200
            await daemon.terminate()
    before = target.read_bytes() if is_replaced else None
    async with running_daemon(tmp_path, to(receiver), command=crashing(point)) as daemon:
        acknowledged = await fill(daemon, 4, padding=100_000)
        with pytest.raises((aiohttp.ClientError, DaemonExitedError)):
            await daemon.post("/v1/backup", order)
        await has_crashed_at(daemon, point)
    if point is Point.BACKUP_RENAMED:
        assert integrity(target) == ["ok"]
        assert events_in(target) == 4
    else:
        assert (target.read_bytes() if target.exists() else None) == before
    async with running_daemon(tmp_path, to(receiver)) as daemon:
        assert (await daemon.post("/v1/backup", order | {"overwrite": True})).status == 200
        assert [path.name for path in target.parent.iterdir()] == ["copy.db"]
        assert integrity(target) == ["ok"]
        assert events_in(target) == 4
        await all_arrive_once(daemon, receiver, acknowledged)


def events_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (count,) = db.execute("SELECT count(*) FROM events").fetchone()
        return int(count)


def test_every_point_has_a_test() -> None:
    """A point that nobody asks for would look like one that was survived."""
    text = Path(__file__).read_text() + Path(__file__).with_name("test_upgrades.py").read_text()
    assert [point.name for point in Point if f"Point.{point.name}" not in text] == []
