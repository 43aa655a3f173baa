"""The one writer: what shares a commit, what fails alone, and what ends it."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.store.conftest import Opener
from tests.kit.builders import delivered, event, record, submission
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.intake import accepted
from tests.kit.values import replace
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import Health
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Answer, Store, Submission
from webhookd.core.queries import EventFilter
from webhookd.core.settings import MIB, Storage
from webhookd.errors import StoreError, StoreFullError, StoreIOError, StoreUnavailableError
from webhookd.store.sqlite import SqliteStore, transaction, writer
from webhookd.store.sqlite.checkpoint import TRUNCATE_BYTES
from webhookd.store.sqlite.room import Room

A = EndpointId("a")


async def work_of(store: Store, *, limit: int = 100) -> list[Work]:
    return (await store.due(A, now_ms=START_MS, limit=limit, max_bytes=10 * MIB, ordered=False, exclude=())).work


async def test_what_queues_up_during_a_commit_shares_the_next(opener: Opener) -> None:
    commits: list[int] = []
    store = await opener(on_commit=lambda _, rows: commits.append(rows))
    calls = []
    for _ in range(200):
        calls.append(asyncio.ensure_future(accepted(store, [submission()])))
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    # The first goes alone, since nothing waits yet; all the rest arrive while it, or the one after it, is on its way.
    assert sum(commits) == 400
    assert len(commits) <= 20


async def test_a_transaction_is_bounded(opener: Opener) -> None:
    commits: list[int] = []
    store = await opener(on_commit=lambda _, rows: commits.append(rows))
    await asyncio.gather(*(accepted(store, [submission(to=())]) for _ in range(3000)))
    assert max(commits) <= writer.GROUP_ROWS
    payload = b"x" * MIB
    commits.clear()
    await asyncio.gather(*(accepted(store, [submission(event(payload=payload), to=())]) for _ in range(20)))
    assert max(commits) <= writer.GROUP_BYTES // MIB


async def test_outcomes_go_before_events_that_wait(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and is not yet recorded would be sent again after a crash; nobody was promised the events."""
    monkeypatch.setattr(writer, "GROUP_ROWS", 1)
    commits: list[int] = []
    store = await opener(on_commit=lambda _, rows: commits.append(rows))
    await accepted(store, [submission(to=("a",)), submission(to=("a",))])
    first, second = await work_of(store)
    commits.clear()
    await asyncio.gather(
        store.accept([[submission(to=())]]),
        store.ping(),
        store.accept([[submission(to=())]]),
        store.settle([delivered(first)], {}, []),
        store.settle([delivered(second)], {}, []),
    )
    # Both go with the first event, from whose room they take nothing.
    assert commits == [3, 1]


async def test_outcomes_do_not_hold_up_a_large_call(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GROUP_BYTES", MIB)
    store = await opener()
    await accepted(store, [submission(to=("a",)) for _ in range(50)])
    owed = await work_of(store)
    recorded: list[Work] = []

    async def record_one_by_one() -> None:
        for work in owed:
            await store.settle([delivered(work)], {}, [])
            recorded.append(work)

    recording = asyncio.create_task(record_one_by_one())
    await asyncio.sleep(0)
    await accepted(store, [submission(event(payload=b"x" * (2 * MIB)))])
    assert len(recorded) < 10
    await recording


async def test_health_that_comes_with_outcomes_does_not_go_before_a_change(opener: Opener) -> None:
    """Both write it, and the one that was handed in last knows better."""
    store = await opener()
    await store.put_endpoints([record("a")])
    await accepted(store, [submission(to=("a",))])
    (work,) = await work_of(store)
    healthy = Health(last_success_at_ms=START_MS)
    changed = asyncio.ensure_future(store.put_endpoints([record("a")]))
    await asyncio.gather(changed, asyncio.ensure_future(store.settle([delivered(work)], {A: healthy}, [])))
    (kept,) = await store.endpoints()
    assert kept.health == healthy


async def test_the_queue_is_bounded(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opener()
    monkeypatch.setattr(writer, "QUEUE_ROWS", 10)
    outcomes = await asyncio.gather(*(accepted(store, [submission()]) for _ in range(8)), return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, StoreUnavailableError)]
    assert len(refused) == 3
    assert (await store.counts()).events == 5
    assert len(await accepted(store, [submission()])) == 1


async def test_a_call_that_cannot_be_stored_does_not_fail_its_neighbours(opener: Opener) -> None:
    store = await opener()
    poison = [
        submission(event(id=2**63)),
        submission(event(type="\ud800")),
        replace(submission(), deliveries=((2**63, A),)),
    ]
    calls = [accepted(store, [submission()])]
    for one in poison:
        calls += [accepted(store, [one]), accepted(store, [submission()])]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, StoreError) for one in outcomes] == [False, True, False, True, False, True, False]
    counts = await store.counts()
    assert (counts.events, counts.pending) == (4, 4)


async def test_a_call_that_cannot_be_stored_fails_alone_among_those_handed_in_with_it(opener: Opener) -> None:
    store = await opener()
    good = [[submission()] for _ in range(3)]
    poison = [submission(), submission(event(type="\ud800"))]
    answers = await store.accept([good[0], poison, *good[1:]])
    assert [isinstance(one, StoreError) for one in answers] == [False, True, False, False]
    assert [one[0].event_id for one in answers if isinstance(one, list)] == [call[0].event.id for call in good]
    assert (await store.counts()).events == 3


async def test_a_disk_that_fails_between_calls_handed_in_together_leaves_what_is_on_disk_answered(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call cannot be stored, so each is tried alone, and at the third the disk fails."""
    store = await opener()
    calls = [[submission()], [submission(event(type="\ud800"))], [submission()], [submission()]]
    accept_rows = transaction.accept

    def failing(db: sqlite3.Connection, asked: Sequence[list[Submission]], **more: Any) -> list[Answer]:
        if asked == [calls[2]]:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error
        return accept_rows(db, asked, **more)

    monkeypatch.setattr(transaction, "accept", failing)
    answers = await store.accept(calls)
    assert [type(one) for one in answers] == [list, StoreError, StoreIOError, StoreIOError]
    assert isinstance(await asyncio.wait_for(store.failure(), 1), StoreIOError)
    with pytest.raises(StoreIOError):
        await accepted(store, [submission()])
    assert (await store.counts()).events == 1


async def test_the_limit_is_found_by_the_first_commit_after_it_was_reached(opener: Opener, storage: Storage) -> None:
    """Though pages are not counted while what was written cannot have brought them near it."""
    store = await opener(replace(storage, max_size_bytes=24 * MIB))
    payload = b"x" * 5000
    while True:
        used_bytes = (await store.space()).used_bytes
        try:
            await accepted(store, [submission(event(payload=payload)) for _ in range(50)])
        except StoreFullError:
            break
        assert used_bytes < 24 * MIB
    assert used_bytes >= 24 * MIB


async def test_a_settlement_that_breaks_the_schema_fails_alone(opener: Opener) -> None:
    store = await opener()
    await accepted(store, [submission(to=("a",)) for _ in range(3)])
    first, second, third = await work_of(store)
    broken = replace(delivered(second), state=DeliveryState.PENDING)
    outcomes = await asyncio.gather(
        store.settle([delivered(first)], {}),
        store.settle([broken], {}),
        store.settle([delivered(third)], {}),
        accepted(store, [submission(to=("b",))]),
        return_exceptions=True,
    )
    assert [isinstance(one, StoreError) for one in outcomes] == [False, True, False, False]
    assert (await store.counts()).delivered == 2
    assert await store.attempts(second.id) == []


async def test_a_failed_change_leaves_nothing_of_itself(opener: Opener) -> None:
    store = await opener()
    broken = record("b", given={}, secret="\ud800")
    with pytest.raises(StoreError):
        await store.put_endpoints([record("a"), broken])
    assert await store.endpoints() == []


async def test_an_abandoned_call_is_committed_all_the_same(opener: Opener) -> None:
    """A producer that hangs up must not take its neighbours' commit with it."""
    store = await opener()
    abandoned = asyncio.ensure_future(accepted(store, [submission()]))
    kept = accepted(store, [submission()])
    await asyncio.sleep(0)
    abandoned.cancel()
    assert len(await kept) == 1
    assert (await store.counts()).events == 2


async def test_events_are_refused_by_pages_in_use_while_all_else_goes_on(opener: Opener, storage: Storage) -> None:
    store = await opener(replace(storage, max_size_bytes=MIB))
    payload = b"x" * 100_000
    outcomes = []
    for _ in range(20):
        outcomes += await asyncio.gather(
            accepted(store, [submission(event(payload=payload), to=("a",))]), return_exceptions=True
        )
    refused = [one for one in outcomes if isinstance(one, StoreFullError)]
    kept = len(outcomes) - len(refused)
    assert 5 <= kept <= 11
    assert "store.max_size" in str(refused[0])
    await store.put_endpoints([record("a")])
    await store.settle([delivered(work) for work in await work_of(store)], {})
    assert (await store.counts()).delivered == kept
    while await store.prune(now_ms=START_MS + 30 * 86_400_000):
        pass
    assert len(await accepted(store, [submission(event(payload=payload))])) == 1


async def test_events_are_refused_while_the_file_system_is_nearly_full(opener: Opener, storage: Storage) -> None:
    free = [10 * MIB]
    clock = VirtualClock()
    store = await opener(replace(storage, min_free_bytes=5 * MIB), free_bytes=lambda _: free[0], clock=clock)
    await accepted(store, [submission()])
    free[0] = 5 * MIB - 1
    clock.advance(0.3)
    with pytest.raises(StoreFullError, match="min_free"):
        await accepted(store, [submission()])
    await store.put_endpoints([record("a")])
    free[0] = 5 * MIB
    clock.advance(0.3)
    assert len(await accepted(store, [submission()])) == 1


async def test_outcomes_are_recorded_in_the_group_in_which_events_find_no_room(
    opener: Opener, storage: Storage
) -> None:
    store = await opener(replace(storage, max_size_bytes=2 * MIB))
    await accepted(store, [submission(to=("a",))])
    (work,) = await work_of(store)
    # One call larger than the backstop, so that it fails inside of SQLite and not at the door.
    huge = accepted(store, [submission(event(payload=b"x" * 100_000)) for _ in range(40)])
    settling = store.settle([delivered(work)], {})
    with pytest.raises(StoreFullError, match="SQLITE_FULL"):
        await huge
    await settling
    counts = await store.counts()
    assert (counts.delivered, counts.events) == (1, 1)
    assert len(await accepted(store, [submission()])) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB, where that is permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


async def test_a_disk_that_is_full_refuses_writes_until_there_is_space(small_disk: Path, opener: Opener) -> None:
    store = await opener(Storage(path=small_disk / "webhookd.db", min_free_bytes=0))
    filler = small_disk / "filler"
    await accepted(store, [submission(to=("a",))])
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StoreFullError):
        await accepted(store, [submission(event(payload=b"x" * 200_000))])
    assert (await store.counts()).events == 1
    filler.unlink()
    assert len(await accepted(store, [submission(event(payload=b"x" * 200_000))])) == 1
    assert (await store.counts()).events == 2


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    """Let every write beyond 4 KiB fail with EFBIG, which SQLite calls an I/O error without saying which."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_files_that_may_not_grow_are_a_full_disk_and_no_broken_one(opener: Opener) -> None:
    store = await opener()
    await accepted(store, [submission(to=("a",))])
    (work,) = await work_of(store)
    with no_file_may_grow():
        outcomes = await asyncio.gather(
            accepted(store, [submission()]), store.settle([delivered(work)], {}), return_exceptions=True
        )
        assert [type(one) for one in outcomes] == [StoreFullError] * 2
        with pytest.raises(StoreFullError):
            await store.checkpoint()
        # Found out by trying, since nobody writes: the file system has space, and the database is below its limit.
        await store.ping()
        assert "SQLITE_IOERR_WRITE" in (store.refusal or "")
        assert (await store.counts()).events == 1
    await store.ping()
    assert store.refusal is None
    assert len(await accepted(store, [submission()])) == 1
    await store.settle([delivered(work)], {})
    await store.checkpoint()
    assert (await store.counts()).delivered == 1


@pytest.fixture
async def broken(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """Give a store whose disk has failed under it: one write went wrong, and not for want of space."""
    store = await opener()
    monkeypatch.setattr(Room, "lacks_space", lambda _: False)
    with no_file_may_grow():
        outcomes = await asyncio.gather(*(accepted(store, [submission()]) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in outcomes] == [StoreIOError] * 3
    return store


async def test_after_an_io_error_nothing_is_written_any_more(broken: SqliteStore) -> None:
    for call in (
        accepted(broken, [submission()]),
        broken.settle([], {}),
        broken.ping(),
        broken.checkpoint(),
        broken.prune(now_ms=START_MS),
    ):
        with pytest.raises(StoreIOError):
            await call


async def test_an_io_error_is_told_to_whoever_watches_the_writer(broken: SqliteStore) -> None:
    assert isinstance(await asyncio.wait_for(broken.failure(), 1), StoreIOError)


async def test_a_writer_that_failed_can_be_closed_and_opened_again(broken: SqliteStore, opener: Opener) -> None:
    await broken.close()
    store = await opener()
    assert len(await accepted(store, [submission()])) == 1


async def test_a_fault_of_our_own_ends_the_writer(opener: Opener) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError

    store = await opener(on_commit=fault)
    calls = [accepted(store, [submission()]), store.ping()]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, StoreUnavailableError) for one in outcomes] == [True, True]
    assert isinstance(await asyncio.wait_for(store.failure(), 1), ZeroDivisionError)


async def test_nobody_is_told_of_a_failure_when_the_store_is_closed(opener: Opener) -> None:
    store = await opener()
    watching = asyncio.ensure_future(store.failure())
    await store.close()
    assert not watching.done()
    watching.cancel()


async def test_the_log_stays_short_under_load(opener: Opener) -> None:
    store = await opener()
    for _ in range(40):
        await asyncio.gather(*(accepted(store, [submission(event(payload=b"x" * 10_000))]) for _ in range(64)))
    # 25 MiB went through it.
    assert (await store.space()).wal_bytes < 12 * MIB


async def test_a_log_that_a_reader_let_grow_is_cut_once_the_reader_is_gone(opener: Opener, storage: Storage) -> None:
    store = await opener()
    await accepted(store, [submission()])
    reader = store._history._sessions[0]  # noqa: SLF001 -- a reader that stays is what no call of ours would do
    await reader.execute("BEGIN")
    await reader.execute_fetchall("SELECT count(*) FROM events")
    payload = b"x" * MIB
    for _ in range(9):
        await asyncio.gather(*(accepted(store, [submission(event(payload=payload), to=())]) for _ in range(8)))
    # Blocked by the reader, and no error.
    await store.checkpoint()
    log = storage.path.with_name("webhookd.db-wal")
    assert log.stat().st_size > TRUNCATE_BYTES
    await reader.execute("ROLLBACK")
    await store.checkpoint()
    assert log.stat().st_size == 0


async def test_a_read_that_takes_too_long_is_ended(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opener()
    monkeypatch.setattr("webhookd.store.sqlite.session.READ_LIMIT_SECONDS", 0.03)
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreUnavailableError, match="longer than"):
        await store._history.read(lambda db: db.execute(endless).fetchone())  # noqa: SLF001 -- no query of ours is endless
    assert (await store.counts()).events == 0


async def test_a_slow_list_does_not_hold_back_what_is_due(opener: Opener) -> None:
    store = await opener()
    await accepted(store, [submission(to=("a",))])
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    slow = [
        asyncio.ensure_future(store._history.read(lambda db: db.execute(endless).fetchone()))  # noqa: SLF001
        for _ in range(5)
    ]
    await asyncio.sleep(0.01)
    assert len(await asyncio.wait_for(work_of(store), 1)) == 1
    for one in slow:
        one.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert len((await asyncio.wait_for(store.events(EventFilter(), limit=1, before=None), 1)).items) == 1


PRODUCER = """
import asyncio, itertools, sys
from pathlib import Path
from tests.kit.builders import submission
from tests.kit.clock import VirtualClock
from tests.kit.intake import accepted
from webhookd.core.settings import Storage
from webhookd.store.sqlite import open_store

async def main():
    store = await open_store(
        Storage(path=Path(sys.argv[1]), min_free_bytes=0), idempotency_window_seconds=60, clock=VirtualClock(),
        mint=lambda: 0,
    )
    async def produce():
        while True:
            one = submission(to=("a",))
            await accepted(store, [one])
            print(one.event.id, flush=True)
    await asyncio.gather(*(produce() for _ in range(8)))

asyncio.run(main())
"""


async def test_a_kill_loses_nothing_that_was_acknowledged(opener: Opener, storage: Storage) -> None:
    for wait in (40, 200, 500):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PRODUCER, str(storage.path), stdout=asyncio.subprocess.PIPE
        )
        acknowledged = [int(await child.stdout.readline()) for _ in range(wait)]
        child.kill()
        rest, _ = await child.communicate()
        # The last line may be cut short, or missing, as the process died while it wrote.
        acknowledged += [int(line) for line in rest.split(b"\n")[:-1]]
        store = await opener()
        for event_id in acknowledged:
            assert (await store.event(event_id)).id == event_id
        await store.close()
        for name in storage.path.parent.iterdir():
            name.unlink()
