"""What `Outbox.replay` promises, and what `Outbox.due` makes of replayed deliveries."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.kit.builders import delivered, died, event, record, retried, submission
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from webhookd.core.attempt import Trigger
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.ports import DueBatch, Head, Store
from webhookd.core.queries import ReplayFilter
from webhookd.store.sqlite import replay as sqlite_replay
from webhookd.store.sqlite import transaction

A, B = EndpointId("a"), EndpointId("b")
LATER_MS = START_MS + 60_000
ALL = (DeliveryState.DEAD, DeliveryState.CANCELLED, DeliveryState.DELIVERED)


async def due(store: Store, to: EndpointId = A, **more: object) -> DueBatch:
    asked = {"now_ms": LATER_MS, "limit": 100_000, "max_bytes": 10**9, "ordered": False, "exclude": ()} | more
    return await store.due(to, **({"replay_limit": 100_000, "replay_max_bytes": 10**9} | asked))


async def ended(
    store: Store, state: DeliveryState, count: int = 1, *, to: str = "a", event_type: str = "x", at_ms: int = START_MS
) -> list[DeliveryId]:
    """Accept events and let their deliveries end in this state."""
    batch = [submission(event(type=event_type, accepted_at_ms=at_ms, payload=b"1"), to=(to,)) for _ in range(count)]
    await store.put_endpoints([record("a"), record("b")])
    await accepted(store, batch)
    ids = [one.deliveries[0][0] for one in batch]
    work = [one for one in (await due(store, EndpointId(to))).work if one.id in set(ids)]
    if state is DeliveryState.CANCELLED:
        for one in ids:
            await store.cancel(one, now_ms=at_ms)
    else:
        settlement = delivered if state is DeliveryState.DELIVERED else died
        await store.settle([settlement(one) for one in work], {})
    return ids


async def replay(store: Store, **more: object) -> int:
    return await store.replay(ReplayFilter(**({"endpoint_id": A} | more)), now_ms=LATER_MS)


def ids(batch: DueBatch) -> list[DeliveryId]:
    return [work.id for work in batch.work]


@pytest.mark.parametrize("state", ALL)
async def test_a_replayed_delivery_is_owed_afresh(store: Store, state: DeliveryState) -> None:
    (one,) = await ended(store, state)
    assert await replay(store, states=(state,)) == 1
    (work,) = (await due(store)).work
    assert (work.id, work.replayed, work.trigger, work.retries_used) == (one, True, Trigger.MANUAL, 0)
    assert (work.due_at_ms, work.owed_since_ms) == (LATER_MS, LATER_MS)
    assert work.acknowledged is (state is DeliveryState.DELIVERED)
    shown = await store.delivery(one)
    assert (shown.state, shown.reason, shown.finished_at_ms) == (DeliveryState.PENDING, None, None)


async def test_only_what_is_asked_for_is_replayed(store: Store) -> None:
    (dead,) = await ended(store, DeliveryState.DEAD, event_type="order.paid")
    await ended(store, DeliveryState.DEAD, event_type="user.made")
    await ended(store, DeliveryState.DEAD, to="b", event_type="order.paid")
    await ended(store, DeliveryState.CANCELLED, event_type="order.paid")
    await ended(store, DeliveryState.DELIVERED, event_type="order.paid")
    assert await store.replayable(ReplayFilter(endpoint_id=A, types=("order.*",))) == 1
    assert await replay(store, types=("order.*", "nothing")) == 1
    assert ids(await due(store)) == [dead]
    assert ids(await due(store, B)) == []
    assert await store.replayable(ReplayFilter(endpoint_id=A, states=ALL)) == 3


async def test_times_are_those_of_acceptance_and_the_end_is_exclusive(store: Store) -> None:
    made = [(await ended(store, DeliveryState.DEAD, at_ms=START_MS + at))[0] for at in (0, 10, 20, 30)]
    assert await replay(store, since_ms=START_MS + 10, until_ms=START_MS + 30) == 2
    assert ids(await due(store)) == made[1:3]


async def test_what_is_pending_is_left_alone(store: Store) -> None:
    """A replay asked for twice changes nothing the second time, not even the schedule."""
    await ended(store, DeliveryState.DEAD, 3)
    await replay(store)
    before = (await due(store)).work
    assert await store.replay(ReplayFilter(endpoint_id=A, states=ALL), now_ms=LATER_MS - 5) == 0
    assert (await due(store)).work == before


@pytest.mark.parametrize("state", ALL)
async def test_more_than_fits_into_one_part(
    store: Store, state: DeliveryState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every one is found once, in order of acceptance, also where neighbours' rows lie between."""
    monkeypatch.setattr(sqlite_replay, "WINDOW_ROWS", 7)
    monkeypatch.setattr(sqlite_replay, "BATCH_ROWS", 3)
    monkeypatch.setattr(transaction, "LIST_EVERY_ROWS", 10)
    made: list[DeliveryId] = []
    for _ in range(3):
        made += await ended(store, state, 7)
        await ended(store, state, 5, to="b")
    which = ReplayFilter(endpoint_id=A, states=(state,))
    assert await store.replayable(which) == len(made)
    assert await store.replay(which, now_ms=LATER_MS) == len(made)
    assert ids(await due(store)) == made
    assert ids(await due(store, B)) == []


async def test_others_commit_between_the_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part is larger than its bound, and what is handed in meanwhile does not wait for the whole."""
    monkeypatch.setattr(sqlite_replay, "BATCH_ROWS", 10)
    await ended(store, DeliveryState.DEAD, 200)
    seen: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    owe_again = sqlite_replay.owe_again

    def watched(*args: object, **more: object) -> int:
        seen.append(len(more["ids"]))
        begun.set()
        assert go_on.wait(5)
        return owe_again(*args, **more)

    monkeypatch.setattr(sqlite_replay, "owe_again", watched)
    task = asyncio.ensure_future(store.replay(ReplayFilter(endpoint_id=A), now_ms=LATER_MS))
    assert await asyncio.to_thread(begun.wait, 5)
    parts_before: list[int] = []
    accepting = asyncio.ensure_future(accepted(store, [submission(to=("b",))]))
    accepting.add_done_callback(lambda _: parts_before.append(len(seen)))
    go_on.set()
    await accepting
    assert parts_before[0] <= 3
    assert await task == 200
    assert seen == [10] * 20


async def test_nothing_is_owed_to_an_endpoint_that_is_gone(store: Store) -> None:
    await ended(store, DeliveryState.DEAD, 3)
    await store.remove_endpoint(A, now_ms=LATER_MS)
    assert await replay(store) == 0


async def test_what_ends_after_the_beginning_is_not_part_of_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_replay, "WINDOW_ROWS", 1)
    await ended(store, DeliveryState.DEAD, 2)
    find, begun, go_on = sqlite_replay.find, threading.Event(), threading.Event()

    def finding(*args: object, **more: object) -> object:
        begun.set()
        assert go_on.wait(5)
        return find(*args, **more)

    monkeypatch.setattr(sqlite_replay, "find", finding)
    counting = asyncio.ensure_future(store.replayable(ReplayFilter(endpoint_id=A)))
    assert await asyncio.to_thread(begun.wait, 5)
    await ended(store, DeliveryState.DEAD)
    go_on.set()
    assert await counting == 2


async def test_due_puts_replayed_work_last_and_bounds_it_by_itself(store: Store) -> None:
    replayed = await ended(store, DeliveryState.DEAD, 5)
    await replay(store)
    batch = [submission(event(accepted_at_ms=LATER_MS), to=("a",)) for _ in range(3)]
    await accepted(store, batch)
    fresh = [one.deliveries[0][0] for one in batch]
    found = await due(store, limit=2, replay_limit=2)
    assert ids(found) == fresh[:2] + replayed[:2]
    assert (found.next_due_ms, found.next_replay_ms) == (LATER_MS, LATER_MS)
    found = await due(store, replay_limit=0)
    assert (ids(found), found.next_due_ms, found.next_replay_ms) == (fresh, None, LATER_MS)
    assert ids(await due(store, replay_max_bytes=2)) == fresh + replayed[:2]
    assert ids(await due(store, exclude={fresh[0], replayed[0]})) == fresh[1:] + replayed[1:]


async def test_in_order_a_replayed_delivery_stands_where_it_was_accepted(store: Store) -> None:
    (first,) = await ended(store, DeliveryState.DEAD)
    await accepted(store, [later := submission(event(accepted_at_ms=LATER_MS), to=("a",))])
    await replay(store)
    found = await due(store, ordered=True)
    assert ids(found) == [first, later.deliveries[0][0]]
    assert found.next_replay_ms is None


async def test_heads_tell_replayed_work_apart(store: Store) -> None:
    await ended(store, DeliveryState.DEAD)
    await ended(store, DeliveryState.DEAD, to="b")
    await replay(store)
    await accepted(store, [submission(event(accepted_at_ms=START_MS + 7), to=("b",))])
    heads = sorted(await store.heads(), key=lambda head: head.endpoint_id)
    assert heads == [
        Head(endpoint_id=A, due_at_ms=None, replay_due_ms=LATER_MS, last_due_ms=LATER_MS),
        Head(endpoint_id=B, due_at_ms=START_MS + 7, replay_due_ms=None, last_due_ms=START_MS + 7),
    ]


async def replayed_work(store: Store) -> Work:
    await ended(store, DeliveryState.DEAD)
    await replay(store)
    (work,) = (await due(store)).work
    return work


async def test_after_its_attempt_it_is_a_delivery_like_any_other(store: Store) -> None:
    work = await replayed_work(store)
    await store.settle([retried(work, due_at_ms=LATER_MS, at_ms=LATER_MS)], {})
    (again,) = (await due(store)).work
    assert (again.replayed, again.trigger) == (False, Trigger.SCHEDULED)


async def test_a_resend_takes_it_out_of_the_replay(store: Store) -> None:
    work = await replayed_work(store)
    await store.resend(work.id, now_ms=LATER_MS)
    (again,) = (await due(store)).work
    assert (again.replayed, again.trigger) == (False, Trigger.MANUAL)


async def test_a_replayed_delivery_can_be_cancelled(store: Store) -> None:
    work = await replayed_work(store)
    assert (await store.cancel(work.id, now_ms=LATER_MS)).state is DeliveryState.CANCELLED
    assert await store.heads() == []
