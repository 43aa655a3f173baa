"""What `Upkeep` promises."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from tests.integration.store.conftest import Opener
from tests.kit.builders import delivered, died, event, record, submission
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.ports import Store
from webhookd.core.queries import DeliveryFilter
from webhookd.core.settings import DAY, Storage
from webhookd.errors import ConflictError, NotFoundError, StoreUnavailableError
from webhookd.store.sqlite import retention

DAY_MS = int(DAY * 1000)
A = EndpointId("a")


async def owe(store: Store, *, at_ms: int = START_MS, to: tuple[str, ...] = ("a",)) -> tuple[int, list[DeliveryId]]:
    one = submission(event(accepted_at_ms=at_ms), to=to)
    await accepted(store, [one])
    return one.event.id, [delivery for delivery, _ in one.deliveries]


async def end(store: Store, state: DeliveryState, *, at_ms: int, to: str = "a") -> None:
    batch = await store.due(EndpointId(to), now_ms=at_ms, limit=10, max_bytes=10_000, ordered=False, exclude=())
    for work in batch.work:
        if state is DeliveryState.CANCELLED:
            await store.cancel(work.id, now_ms=at_ms)
        else:
            await store.settle([(delivered if state is DeliveryState.DELIVERED else died)(work, at_ms=at_ms)], {})


async def prune_round(store: Store, *, now_ms: int) -> int:
    looked_at = 0
    for _ in range(1000):
        rows = await store.prune(now_ms=now_ms)
        looked_at += rows
        if rows == 0:
            return looked_at
    pytest.fail("the round does not end")


@pytest.mark.parametrize(
    ("state", "days"), [(DeliveryState.DELIVERED, 7), (DeliveryState.DEAD, 30), (DeliveryState.CANCELLED, 30)]
)
async def test_what_ended_is_kept_for_its_days_from_its_end(store: Store, state: DeliveryState, days: int) -> None:
    event_id, (delivery,) = await owe(store)
    ended_ms = START_MS + DAY_MS
    await end(store, state, at_ms=ended_ms)
    await prune_round(store, now_ms=ended_ms + days * DAY_MS)
    assert (await store.delivery(delivery)).state is state
    await prune_round(store, now_ms=ended_ms + days * DAY_MS + 1)
    with pytest.raises(NotFoundError):
        await store.delivery(delivery)
    with pytest.raises(NotFoundError):
        await store.event(event_id)
    assert await store.attempts(delivery) == []
    page = await store.deliveries(DeliveryFilter(endpoint_id=A), limit=10, before=None)
    assert page.items == []
    assert (await store.counts()).events == 0


async def test_what_is_owed_is_kept_however_old(store: Store) -> None:
    await store.put_endpoints([record("a")])
    _, (delivery,) = await owe(store)
    await prune_round(store, now_ms=START_MS + 400 * DAY_MS)
    assert (await store.delivery(delivery)).state is DeliveryState.PENDING


async def test_an_event_goes_with_its_last_delivery(store: Store) -> None:
    await store.put_endpoints([record("a"), record("b")])
    event_id, _ = await owe(store, to=("a", "b"))
    await end(store, DeliveryState.DELIVERED, at_ms=START_MS)
    await prune_round(store, now_ms=START_MS + 8 * DAY_MS)
    assert (await store.event(event_id)).id == event_id
    assert (await store.counts()).delivered == 0
    await end(store, DeliveryState.DELIVERED, at_ms=START_MS, to="b")
    await prune_round(store, now_ms=START_MS + 8 * DAY_MS)
    with pytest.raises(NotFoundError):
        await store.event(event_id)


async def test_an_event_that_was_never_owed_is_kept_as_if_delivered(store: Store) -> None:
    event_id, _ = await owe(store, to=())
    await prune_round(store, now_ms=START_MS + 7 * DAY_MS)
    assert (await store.event(event_id)).id == event_id
    await prune_round(store, now_ms=START_MS + 7 * DAY_MS + 1)
    with pytest.raises(NotFoundError):
        await store.event(event_id)
    assert (await store.counts()).events == 0


@pytest.mark.parametrize("disabled", [False, True])
async def test_held_ones_die_when_held_for_too_long(store: Store, disabled: bool) -> None:
    health = Health(disabled_reason=DisabledReason.OPERATOR) if disabled else Health()
    await store.put_endpoints([record("a", health=health)])
    _, (delivery,) = await owe(store)
    now_ms = START_MS + 30 * DAY_MS + 1
    await prune_round(store, now_ms=now_ms - 1)
    assert (await store.delivery(delivery)).state is DeliveryState.PENDING
    await prune_round(store, now_ms=now_ms)
    shown = await store.delivery(delivery)
    wanted = (DeliveryState.DEAD, "held_too_long", now_ms) if disabled else (DeliveryState.PENDING, None, None)
    assert (shown.state, shown.reason, shown.finished_at_ms) == wanted


async def test_a_resend_starts_the_time_of_being_held_again(store: Store) -> None:
    await store.put_endpoints([record("a", health=Health(disabled_reason=DisabledReason.OPERATOR))])
    _, (delivery,) = await owe(store)
    await store.resend(delivery, now_ms=START_MS + DAY_MS)
    await prune_round(store, now_ms=START_MS + 30 * DAY_MS + 1)
    assert (await store.delivery(delivery)).state is DeliveryState.PENDING


async def test_what_is_owed_to_an_endpoint_that_vanished_is_cancelled(store: Store) -> None:
    """An event may be matched while its endpoint is being removed, and committed after that."""
    await store.put_endpoints([record("a")])
    await owe(store)
    _, (orphan,) = await owe(store, to=("vanished",))
    await prune_round(store, now_ms=START_MS)
    shown = await store.delivery(orphan)
    assert (shown.state, shown.reason) == (DeliveryState.CANCELLED, "endpoint_deleted")
    assert (await store.counts()).pending == 1


async def test_expired_keys_go(store: Store) -> None:
    old = submission(idempotency_key="old")
    young = submission(event(accepted_at_ms=START_MS + DAY_MS), idempotency_key="young")
    await accepted(store, [old, young])
    await prune_round(store, now_ms=START_MS + DAY_MS)
    # Asked as of before its end, so that only its absence lets it pass.
    again = [submission(idempotency_key=key, fingerprint=b"other") for key in ("old", "young")]
    assert [a.duplicate for a in await accepted(store, again[:1])] == [False]
    with pytest.raises(ConflictError):
        await accepted(store, again[1:])


async def test_a_round_goes_in_bounded_batches_and_reaches_everything(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    await store.put_endpoints([record("a")])
    await accepted(store, [submission(to=("a",)) for _ in range(40)] + [submission(to=()) for _ in range(30)])
    for _ in range(4):
        await end(store, DeliveryState.DELIVERED, at_ms=START_MS)
    now_ms = START_MS + 8 * DAY_MS
    batches = [await store.prune(now_ms=now_ms) for _ in range(30)]
    assert max(batches) == 7
    assert batches[-1] == 0
    counts = await store.counts()
    assert (counts.events, counts.delivered, counts.pending) == (0, 0, 0)


async def test_nothing_is_left_of_what_was_deleted(opener: Opener, storage: Storage) -> None:
    store = await opener()
    await accepted(store, [submission(to=("a", "b"), idempotency_key=str(n)) for n in range(20)])
    await end(store, DeliveryState.DELIVERED, at_ms=START_MS)
    await end(store, DeliveryState.DEAD, at_ms=START_MS, to="b")
    # What ends by tens is deleted by tens, so the rest is cancelled as owed to endpoints that do not exist.
    await prune_round(store, now_ms=START_MS)
    await prune_round(store, now_ms=START_MS + 40 * DAY_MS)
    with closing(sqlite3.connect(f"file:{storage.path}?mode=ro", uri=True)) as db:
        left = db.execute("""
            SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM deliveries), (SELECT count(*) FROM attempts),
                   (SELECT count(*) FROM endpoint_deliveries), (SELECT count(*) FROM idempotency)
        """).fetchone()
    assert left == (0, 0, 0, 0, 0)


async def test_space_grows_with_what_is_kept_and_is_free_again(store: Store) -> None:
    empty = await store.space()
    await accepted(store, [submission(event(payload=b"x" * 100_000), to=()) for _ in range(10)])
    full = await store.space()
    assert full.used_bytes >= empty.used_bytes + 1_000_000
    assert full.wal_bytes > 0
    assert full.free_bytes > 0
    await prune_round(store, now_ms=START_MS + 8 * DAY_MS)
    assert (await store.space()).used_bytes <= empty.used_bytes + 100_000


async def test_ping_comes_after_what_was_queued_before_it(store: Store) -> None:
    accepting = accepted(store, [submission()])
    await store.ping()
    assert accepting.done()


async def test_checkpoint_moves_the_log_even_while_somebody_reads(store: Store) -> None:
    await accepted(store, [submission()])
    await asyncio.gather(store.checkpoint(), store.counts())


async def test_close_finishes_what_is_queued_and_refuses_the_rest(opener: Opener, storage: Storage) -> None:
    first = await opener()
    queued = [accepted(first, [submission()]) for _ in range(50)]
    await first.close()
    assert all([not (await one)[0].duplicate for one in queued])
    with pytest.raises(StoreUnavailableError):
        await accepted(first, [submission()])
    with pytest.raises(StoreUnavailableError):
        await first.ping()
    second = await opener()
    assert (await second.counts()).pending == 50
