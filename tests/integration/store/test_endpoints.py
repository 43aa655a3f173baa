"""What `Endpoints` promises."""

from __future__ import annotations

import pytest

from tests.kit.builders import delivered, record, submission
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Store
from webhookd.store.sqlite.changes import REMOVAL_ROWS

A = EndpointId("a")
LATER_MS = START_MS + 1000


async def due_ids(store: Store, limit: int = 10) -> list[int]:
    batch = await store.due(A, now_ms=LATER_MS, limit=limit, max_bytes=10_000, ordered=False, exclude=())
    return [work.id for work in batch.work]


async def test_records_come_back_as_they_were_put(store: Store) -> None:
    records = [
        record("a", given={"url": "https://x.example/ü", "types": ["a*"]}, secret="s", sample=b"\x00", health=Health()),
        record("b", declared=True, health=Health(disabled_reason=DisabledReason.REMOVED, disabled_at_ms=START_MS)),
    ]
    await store.put_endpoints(records)
    assert sorted(await store.endpoints(), key=lambda one: one.id) == records


async def test_putting_again_replaces(store: Store) -> None:
    await store.put_endpoints([record("a", secret="old"), record("b")])
    await store.put_endpoints([record("a", secret="new")])
    assert {one.id: one.secret for one in await store.endpoints()} == {"a": "new", "b": None}


async def test_removing_cancels_what_is_pending_and_nothing_else(store: Store) -> None:
    await store.put_endpoints([record("a"), record("b")])
    batch = [submission(to=("a", "b")) for _ in range(3)]
    await accepted(store, batch)
    done, *pending = [one.deliveries[0][0] for one in batch]
    (work, *_) = (await store.due(A, now_ms=START_MS, limit=1, max_bytes=1, ordered=True, exclude=())).work
    await store.settle([delivered(work)], {})
    assert await store.remove_endpoint(A, now_ms=LATER_MS) == 2
    assert [one.id for one in await store.endpoints()] == ["b"]
    assert (await store.delivery(done)).state is DeliveryState.DELIVERED
    for delivery_id in pending:
        shown = await store.delivery(delivery_id)
        assert (shown.state, shown.reason, shown.finished_at_ms) == ("cancelled", "endpoint_deleted", LATER_MS)
    assert (await store.counts()).pending == 3


async def test_removing_leaves_a_resent_one_delivered(store: Store) -> None:
    await store.put_endpoints([record("a")])
    await accepted(store, [submission(to=("a",))])
    (work,) = (await store.due(A, now_ms=START_MS, limit=1, max_bytes=1, ordered=True, exclude=())).work
    await store.settle([delivered(work)], {})
    await store.resend(work.id, now_ms=LATER_MS)
    assert await store.remove_endpoint(A, now_ms=LATER_MS) == 0
    shown = await store.delivery(work.id)
    assert (shown.state, shown.finished_at_ms) == (DeliveryState.DELIVERED, START_MS)


@pytest.mark.parametrize("pending", [REMOVAL_ROWS, REMOVAL_ROWS + 1])
async def test_removing_takes_all_however_many(store: Store, pending: int) -> None:
    await store.put_endpoints([record("a")])
    await accepted(store, [submission(to=("a",)) for _ in range(pending)])
    removal = store.remove_endpoint(A, now_ms=LATER_MS)
    # Handed in later, and so part of what is removed only by being pending when its turn comes.
    later = accepted(store, [submission(to=("b",))])
    assert await removal == pending
    await later
    assert await due_ids(store) == []
    assert await store.endpoints() == []


async def test_removing_what_is_not_there(store: Store) -> None:
    assert await store.remove_endpoint(A, now_ms=LATER_MS) == 0
