"""Loss of power at any moment: nothing that was acknowledged is missing from what a disk may hold then."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.builders import ORDERS, delivered, delivery_id, died, event, record, retried, submission, work
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.daemon import running_daemon
from tests.kit.powerloss import Acknowledged, Crash, Deleted, Entry, Loss, Renamed, Truncated, crashes
from tests.kit.promised import Contents, Kept
from tests.kit.recorded_sqlite import Recorder
from webhookd.core.delivery import Work
from webhookd.core.endpoint import Health
from webhookd.core.ids import IdGenerator
from webhookd.core.ports import Settlement, Submission
from webhookd.core.settings import DAY, Storage
from webhookd.errors import WebhookdError
from webhookd.store.sqlite import SqliteStore, open_store, schema, session

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")

QUICK_CRASHES = 1000
PRAGMAS = (
    *("journal_mode", "synchronous", "wal_autocheckpoint", "fullfsync", "checkpoint_fullfsync", "mmap_size"),
    *("journal_size_limit", "secure_delete", "temp_store", "cache_size", "page_size", "auto_vacuum", "locking_mode"),
    *("busy_timeout", "foreign_keys", "recursive_triggers", "cell_size_check", "encoding"),
)


@dataclass(slots=True)
class History:
    """All that was asked of a store, and all that was done to its files meanwhile."""

    entries: Sequence[Entry] = ()
    calls: list[Kept] = field(default_factory=list)


class Told(asyncio.Future[object]):
    """An answer of the store that goes into the recording at the very moment at which it is given."""

    recorder: Recorder
    kept: Kept | None = None

    def set_result(self, result: object) -> None:
        if self.kept is not None:
            self.recorder.acknowledge(self.kept)
        super().set_result(result)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a short history do by itself what a long one does: checkpoint, and list deliveries by the dozen."""
    monkeypatch.setattr("webhookd.store.sqlite.checkpoint._CHECKPOINT_FRAMES", 60)
    monkeypatch.setattr("webhookd.store.sqlite.transaction.LIST_EVERY_ROWS", 30)
    monkeypatch.setattr(builders, "_ids", IdGenerator(node=1))


async def opened(path: Path) -> SqliteStore:
    return await open_store(
        Storage(path=path, min_free_bytes=0),
        idempotency_window_seconds=DAY,
        clock=VirtualClock(),
        mint=delivery_id,
        filesystem=lambda _: "ext4",
    )


async def lived(
    directory: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rounds: int,
    endpoints: Sequence[str] = ("orders", "stock"),
) -> History:
    """Let a store live through `rounds` of random work and two starts, over the recording SQLite."""
    directory.mkdir(exist_ok=True)
    recorder, chance, history = Recorder(directory), random.Random(seed), History()
    Told.recorder = recorder
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", recorder.connect)
        patched.setattr("webhookd.store.sqlite.store.new_answer", Told)
        store = await opened(directory / "webhookd.db")
        if endpoints:
            await store.put_endpoints([record(name) for name in endpoints])
        owed: list[Work] = []
        for number in range(rounds):
            if number == rounds // 2:
                await store.close()
                store = await opened(directory / "webhookd.db")
                # Up to here the log was written again from its start, from here on it is cut as well.
                patched.setattr("webhookd.store.sqlite.checkpoint.TRUNCATE_BYTES", 100_000)
            await asyncio.gather(*one_round(store, history, owed, chance))
            if chance.random() < 0.05:
                await store.checkpoint()
        await store.close()
    recorder.close()
    history.entries = recorder.entries
    return history


def one_round(
    store: SqliteStore, history: History, owed: list[Work], chance: random.Random
) -> Iterator[asyncio.Future[object]]:
    """Hand in events and outcomes at one moment, so that they are committed together."""

    def promised(answer: object, kept: Kept) -> asyncio.Future[object]:
        assert isinstance(answer, Told)
        answer.kept = kept
        history.calls.append(kept)
        return answer

    settlements = tuple(settled(owed, chance) for _ in range(min(len(owed), chance.randrange(5))))
    if settlements:
        health = {ORDERS: Health(failed_attempts=len(history.calls))} if chance.random() < 0.5 else {}
        news = tuple(handed_in(chance, "webhookd.delivery.dead") for _ in range(chance.randrange(2)))
        answer = store.settle(settlements, health, news)
        yield promised(answer, Kept(submissions=news, settlements=settlements))
    for _ in range(chance.randrange(4)):
        batch = tuple(handed_in(chance, "order.completed") for _ in range(chance.choice((1, 1, 1, 4))))
        owed += [work(owed_id, endpoint_id=name, of=one.event) for one in batch for owed_id, name in one.deliveries]
        yield promised(store.accept([batch]), Kept(submissions=batch))


def handed_in(chance: random.Random, type_: str) -> Submission:
    payload = chance.randbytes(chance.choice((20, 300, 300, 2000, 9000)))
    of = event(type=type_, payload=payload, accepted_at_ms=START_MS)
    key = f"key-{of.id}" if chance.random() < 0.7 else None
    return submission(of, to=chance.choice(((), ("orders",), ("orders", "stock"))), idempotency_key=key)


def settled(owed: list[Work], chance: random.Random) -> Settlement:
    taken = owed.pop(chance.randrange(len(owed)))
    match chance.randrange(3):
        case 0:
            return retried(taken, due_at_ms=START_MS + 60_000)
        case 1:
            return died(taken)
        case _:
            return delivered(taken)


@dataclass(slots=True)
class Findings:
    """What was wrong after how many crashes."""

    crashes: int = 0
    not_yet_made: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    halved: list[str] = field(default_factory=list)

    def look_at(self, crash: Crash, history: History, directory: Path, *, already: Sequence[object] = ()) -> None:
        """Open what is left as the next start would, and hold it against what was promised."""
        crash.put(directory)
        self.crashes += 1
        path = directory / "webhookd.db"
        where = f"after entry {crash.at}, with {crash.loss} of the unsynced lost"
        if not path.exists():
            self.not_yet_made += 1
            if crash.acknowledged or already:
                self.lost.append(f"{where}: the file")
            return
        try:
            schema.inspect(path)
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                # Nobody loses power here, and a thousand syncs at each close are a minute.
                db.execute("PRAGMA synchronous = OFF")
                (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
                if verdict != "ok":
                    self.damaged.append(f"{where}: {verdict}")
                    return
                there = Contents(db)
        except (WebhookdError, sqlite3.Error) as error:
            self.damaged.append(f"{where}: {error}")
            return
        self.lost += [f"{where}: {what}" for kept in (*already, *crash.acknowledged) for what in there.missing(kept)]
        for kept in history.calls:
            missing = there.missing(kept)
            if missing and there.has_any(kept):
                self.halved.append(f"{where}: {missing} and not the rest of its call")
        if there.counted != len(there.events):
            self.halved.append(f"{where}: {there.counted} events counted, {len(there.events)} there")


def survey(
    history: History, directory: Path, *, seed: int, at_most: int | None = None, already: Sequence[object] = ()
) -> Findings:
    """Look at a crash at every entry in every kind of loss, or at about `at_most` of these, chosen by the seed.

    `already` had been acknowledged before the recording began.
    """
    directory.mkdir()
    share = 1.0 if at_most is None else at_most / (len(Loss) * len(history.entries))
    findings = Findings()
    for crash in crashes(history.entries, seed=seed, share=share):
        findings.look_at(crash, history, directory, already=already)
    return findings


def weakened(monkeypatch: pytest.MonkeyPatch, synchronous: str) -> None:
    """Have the writer ask SQLite for less than it promises."""
    weaker = session._WRITER.replace("synchronous = FULL", f"synchronous = {synchronous}")  # noqa: SLF001
    assert weaker != session._WRITER  # noqa: SLF001
    monkeypatch.setattr(session, "_WRITER", weaker)


async def test_nothing_acknowledged_is_lost_with_the_power(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = await lived(tmp_path / "live", seed, monkeypatch, rounds=40)
    # It has been through all that there is: a new file, the log's way into it, a cut log, an orderly end.
    names = {Renamed("webhookd.db.new", "webhookd.db"), Truncated("webhookd.db-wal", 0), Deleted("webhookd.db-wal")}
    assert names <= {entry for entry in history.entries if isinstance(entry, Renamed | Truncated | Deleted)}
    assert sum(isinstance(entry, Acknowledged) for entry in history.entries) == len(history.calls) > 50
    findings = survey(history, tmp_path / "found", seed=seed, at_most=QUICK_CRASHES)
    assert findings.crashes > 0.9 * QUICK_CRASHES
    assert (findings.damaged, findings.lost, findings.halved) == ([], [], [])


@pytest.mark.long
async def test_nothing_acknowledged_is_lost_at_any_moment_at_all(
    tmp_path: Path, seed: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every entry of the recording, in every kind of loss."""
    for life in range(scale):
        history = await lived(tmp_path / f"live {life}", 1000 * seed + life, monkeypatch, rounds=40)
        findings = survey(history, tmp_path / f"found {life}", seed=seed)
        assert findings.crashes == len(Loss) * len(history.entries)
        assert (findings.damaged, findings.lost, findings.halved) == ([], [], [])


@pytest.mark.long
async def test_a_second_loss_of_power_in_the_start_after_the_first_loses_nothing_either(
    tmp_path: Path, seed: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await lived(tmp_path / "live", seed, monkeypatch, rounds=40)
    firsts = list(crashes(before.entries, seed=seed, share=25 * scale / len(Loss) / len(before.entries)))
    assert len(firsts) > 12 * scale
    for number, first in enumerate(firsts):
        live = tmp_path / f"live {number}"
        live.mkdir()
        first.put(live)
        history = await lived(live, seed + number, monkeypatch, rounds=2, endpoints=())
        history.calls += before.calls
        findings = survey(history, tmp_path / f"found {number}", seed=seed, at_most=60, already=first.acknowledged)
        assert (findings.damaged, findings.lost, findings.halved) == ([], [], [])


async def test_with_a_weaker_sync_the_same_search_finds_lost_acknowledgements(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What proves the search: `NORMAL` keeps the file whole and forgets the last commits.

    So would a disk that reports what it has not done. Where its log shows that, the file is refused.
    """
    weakened(monkeypatch, "NORMAL")
    history = await lived(tmp_path / "live", seed, monkeypatch, rounds=15)
    findings = survey(history, tmp_path / "found", seed=seed, at_most=200)
    assert len(findings.lost) > 20
    assert [found for found in findings.damaged if "of its log is not valid" not in found] == findings.halved == []


async def test_without_syncs_the_same_search_finds_damage(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weakened(monkeypatch, "OFF")
    history = await lived(tmp_path / "live", seed, monkeypatch, rounds=15)
    findings = survey(history, tmp_path / "found", seed=seed, at_most=200)
    assert len(findings.damaged) > 20
    assert len(findings.lost) > 20


async def test_the_recorded_sqlite_is_set_like_the_one_of_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the search would say nothing of what runs in production."""

    async def pragmas(directory: Path) -> dict[str, object]:
        store = await opened(directory / "webhookd.db")
        found = {}
        for name in PRAGMAS:
            found[name] = await store._writer._session.run(  # noqa: SLF001 -- durability is set on this very connection
                lambda db, name=name: db.execute(f"PRAGMA {name}").fetchone()
            )
        await store.close()
        return found

    (tmp_path / "recorded").mkdir()
    recorder = Recorder(tmp_path / "recorded")
    of_the_product = await pragmas(tmp_path / "plain")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", recorder.connect)
        of_the_recorded = await pragmas(tmp_path / "recorded")
    recorder.close()
    assert len(recorder.entries) > 20
    assert of_the_recorded == of_the_product
    assert of_the_product["synchronous"] == (2,)


@needs_strace
async def test_names_of_new_files_are_on_disk_before_anything_is_acknowledged(tmp_path: Path) -> None:
    """The recording sees files and no directories: these are watched at the border of the kernel."""
    trace = tmp_path / "trace"
    calls = "openat,rename,fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg"
    command = ("strace", "-D", "-f", "-y", "-s", "80", "-e", f"trace={calls}", "-o", str(trace))
    async with running_daemon(tmp_path, {}, command=(*command, sys.executable, "-m", "webhookd")) as daemon:
        await daemon.send("order.completed", {})
        await daemon.terminate()
        state = re.escape(str(daemon.database.parent))
    done = completed(trace.read_text(errors="replace").splitlines())

    def first(pattern: str, *, after: int = -1) -> int:
        return next(at for at, line in enumerate(done) if at > after and re.search(pattern, line))

    named = first(rf'^rename\("{state}/webhookd\.db\.new", "{state}/webhookd\.db"\) += 0')
    name_synced = first(rf"^fsync\(\d+<{state}>\) += 0", after=named)
    log_made = first(rf'^openat\(.*"{state}/webhookd\.db-wal".*O_CREAT')
    log_name_synced = first(rf"^f(data)?sync\(\d+<{state}>\) += 0", after=log_made)
    accepted = first(r"HTTP/1\.1 202")
    assert named < name_synced < log_made < log_name_synced < accepted
    draft = [line.partition("(")[0] for line in done[:named] if f"<{daemon.database}.new>" in line]
    assert "pwrite64" in draft
    assert draft[-1] in {"fsync", "fdatasync"}


def completed(lines: Sequence[str]) -> list[str]:
    """Return the calls in the order in which they ended, those whole again that another thread's calls cut in two."""
    begun: dict[str, str] = {}
    whole = []
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
        elif call.startswith("<... "):
            whole.append(begun.pop(thread, "") + call.partition("resumed>")[2])
        else:
            whole.append(call)
    return whole
