"""What `Outbox` promises."""

from __future__ import annotations

import pytest

from tests.kit.builders import (
    attempt,
    delivered,
    delivery_id,
    died,
    event,
    event_id,
    failure,
    outcome,
    record,
    retried,
    submission,
)
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from tests.kit.values import replace
from webhookd.core.attempt import ErrorClass, Phases, Trigger
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.ports import DueBatch, Head, Store, Submission
from webhookd.errors import ConflictError, NotFoundError

LATER_MS = START_MS + 60_000
MUCH_LATER_MS = START_MS + 3_600_000


async def owe(store: Store, *accepted_at_ms: int, to: str = "a", payload: bytes = b"x") -> list[Submission]:
    batch = [submission(event(payload=payload, accepted_at_ms=at), to=(to,)) for at in accepted_at_ms]
    await accepted(store, batch)
    return batch


async def due(store: Store, to: str = "a", **more: object) -> DueBatch:
    asked = {"now_ms": START_MS, "limit": 100, "max_bytes": 1_000_000, "ordered": False, "exclude": ()} | more
    return await store.due(EndpointId(to), **asked)


async def only_work(store: Store, to: str = "a", **more: object) -> Work:
    (work,) = (await due(store, to, **more)).work
    return work


def ids(batch: DueBatch) -> list[DeliveryId]:
    return [work.id for work in batch.work]


def owed(batch: list[Submission]) -> list[DeliveryId]:
    return [one.deliveries[0][0] for one in batch]


async def test_due_work_carries_all_that_an_attempt_needs(store: Store) -> None:
    (one,) = await owe(store, START_MS)
    assert await only_work(store) == Work(
        id=one.deliveries[0][0],
        endpoint_id=EndpointId("a"),
        event=one.event,
        due_at_ms=START_MS,
        owed_since_ms=START_MS,
    )


async def test_due_is_by_due_moment_and_up_to_now(store: Store) -> None:
    batch = await owe(store, START_MS, START_MS - 5, START_MS + 1)
    found = await due(store)
    assert ids(found) == [owed(batch)[1], owed(batch)[0]]
    assert found.next_due_ms == START_MS + 1


async def test_due_of_nothing(store: Store) -> None:
    assert await due(store) == DueBatch([], next_due_ms=None)


async def test_due_keeps_to_its_endpoint(store: Store) -> None:
    await owe(store, START_MS, to="a")
    (other,) = await owe(store, START_MS, to="b")
    assert ids(await due(store, "b")) == owed([other])


async def test_due_stops_at_the_limit_and_names_the_first_left_behind(store: Store) -> None:
    batch = await owe(store, START_MS - 3, START_MS - 2, START_MS - 1)
    found = await due(store, limit=2)
    assert ids(found) == owed(batch)[:2]
    assert found.next_due_ms == START_MS - 1


async def test_due_stops_before_too_many_bytes_but_gives_the_first(store: Store) -> None:
    batch = await owe(store, START_MS - 3, START_MS - 2, START_MS - 1, payload=b"x" * 100)
    found = await due(store, max_bytes=200)
    assert ids(found) == owed(batch)[:2]
    assert found.next_due_ms == START_MS - 1
    assert ids(await due(store, max_bytes=1)) == owed(batch)[:1]


@pytest.mark.parametrize("ordered", [False, True])
async def test_due_leaves_out_what_is_excluded(store: Store, ordered: bool) -> None:
    batch = await owe(store, START_MS - 3, START_MS - 2, START_MS - 1)
    found = await due(store, exclude={owed(batch)[0], owed(batch)[2]}, ordered=ordered)
    assert ids(found) == [owed(batch)[1]]
    assert found.next_due_ms is None


async def test_ordered_gives_work_in_order_of_acceptance(store: Store) -> None:
    batch = await owe(store, START_MS, START_MS - 5, START_MS - 3)
    assert ids(await due(store, ordered=True)) == owed(batch)


@pytest.mark.parametrize("excluded", [False, True])
async def test_ordered_gives_nothing_behind_what_is_not_due(store: Store, excluded: bool) -> None:
    batch = await owe(store, START_MS, START_MS, START_MS)
    first = (await due(store)).work[0]
    await store.settle([retried(first, due_at_ms=LATER_MS)], {})
    exclude = {first.id} if excluded else ()
    assert await due(store, ordered=True, exclude=exclude) == DueBatch([], next_due_ms=LATER_MS)
    assert ids(await due(store, ordered=True, now_ms=LATER_MS)) == owed(batch)


async def test_heads_are_the_earliest_due_moments(store: Store) -> None:
    await owe(store, START_MS + 2, START_MS + 1, to="a")
    await owe(store, START_MS, to="b")
    await owe(store, START_MS, to="done")
    await store.settle([delivered(await only_work(store, "done"))], {})
    await store.put_endpoints([record("b", health=Health(disabled_reason=DisabledReason.GONE))])
    assert sorted(await store.heads(), key=lambda head: head.endpoint_id) == [
        Head(endpoint_id=EndpointId("a"), due_at_ms=START_MS + 1, last_due_ms=START_MS + 2),
        Head(endpoint_id=EndpointId("b"), due_at_ms=START_MS, last_due_ms=START_MS),
    ]


async def test_heads_of_an_empty_store(store: Store) -> None:
    assert await store.heads() == []


async def test_a_delivered_one_is_no_longer_due(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    await store.settle([delivered(work, at_ms=LATER_MS)], {})
    shown = await store.delivery(work.id)
    assert (shown.state, shown.reason, shown.due_at_ms, shown.finished_at_ms, shown.attempt_count) == (
        DeliveryState.DELIVERED,
        None,
        None,
        LATER_MS,
        1,
    )
    assert (await due(store)).work == []


async def test_a_retry_is_due_again_with_its_history(store: Store) -> None:
    await owe(store, START_MS)
    await store.settle([retried(await only_work(store), due_at_ms=LATER_MS)], {})
    assert (await due(store)).next_due_ms == LATER_MS
    work = await only_work(store, now_ms=LATER_MS)
    assert (work.due_at_ms, work.attempt_count, work.retries_used, work.owed_since_ms) == (LATER_MS, 1, 1, START_MS)


async def test_a_dead_one_keeps_its_reason(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    await store.settle([died(work, reason="too_old")], {})
    shown = await store.delivery(work.id)
    assert (shown.state, shown.reason) == (DeliveryState.DEAD, "too_old")


@pytest.mark.parametrize(
    "result",
    [
        outcome(
            503,
            excerpt=b"\x00busy",
            retry_after_seconds=7.5,
            phases=Phases(dns_ms=1.0, connect_ms=2.0, tls_ms=3.0, first_byte_ms=4.5),
        ),
        failure(ErrorClass.TLS, "certificate has expired"),
    ],
)
async def test_an_attempt_comes_back_as_it_was(store: Store, result: object) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    settlement = retried(work, due_at_ms=LATER_MS, result=result)
    await store.settle([settlement], {})
    assert await store.attempts(work.id) == [settlement.attempt]
    assert await store.attempt(work.id, 1) == settlement.attempt
    assert await store.attempt(work.id, 2) is None


async def test_many_settlements_at_once(store: Store) -> None:
    await owe(store, *[START_MS] * 300)
    works = (await due(store, limit=300)).work
    await store.settle([delivered(work) for work in works], {})
    assert (await store.counts()).delivered == 300
    assert [len(await store.attempts(work.id)) for work in works[::60]] == [1] * 5


async def test_two_attempts_of_one_delivery_settled_together_leave_the_later_state(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    second = replace(work, attempt_count=1, retries_used=1)
    await store.settle([retried(work, due_at_ms=START_MS), delivered(second, at_ms=LATER_MS)], {})
    shown = await store.delivery(work.id)
    assert (shown.state, shown.attempt_count) == (DeliveryState.DELIVERED, 2)
    assert [one.number for one in await store.attempts(work.id)] == [1, 2]


async def test_of_two_attempts_settled_together_the_one_that_ends_it_stands(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    second = replace(work, attempt_count=1, retries_used=1)
    await store.settle([delivered(work, at_ms=LATER_MS), retried(second, due_at_ms=MUCH_LATER_MS)], {})
    shown = await store.delivery(work.id)
    assert (shown.state, shown.finished_at_ms, shown.attempt_count) == (DeliveryState.DELIVERED, LATER_MS, 2)


async def test_a_settlement_does_not_change_what_has_ended_but_keeps_the_attempt(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    cancelled = await store.cancel(work.id, now_ms=START_MS)
    await store.settle([delivered(work, at_ms=LATER_MS)], {})
    assert await store.delivery(work.id) == replace(cancelled, attempt_count=1)
    assert len(await store.attempts(work.id)) == 1


async def test_a_settlement_of_an_unknown_delivery_leaves_nothing(store: Store) -> None:
    stray = attempt()
    await store.settle([replace(delivered(_unstored_work()), attempt=stray)], {})
    assert await store.attempts(stray.delivery_id) == []


def _unstored_work() -> Work:
    return Work(
        id=delivery_id(), endpoint_id=EndpointId("a"), event=event(), due_at_ms=START_MS, owed_since_ms=START_MS
    )


async def test_settling_writes_the_health_of_endpoints_that_exist(store: Store) -> None:
    await store.put_endpoints([record("a"), record("b")])
    await owe(store, START_MS)
    work = await only_work(store)
    health = Health(
        disabled_reason=DisabledReason.FAILING,
        disabled_at_ms=START_MS,
        failing_days=5,
        last_failing_date=20_000,
        failed_attempts=12,
        last_success_at_ms=START_MS - 1,
        last_attempt=(work.id, 1),
        holds=((START_MS - 5, START_MS - 3), (START_MS - 2, START_MS - 1)),
    )
    await store.settle([died(work)], {EndpointId("a"): health, EndpointId("removed"): health})
    assert {one.id: one.health for one in await store.endpoints()} == {"a": health, "b": Health()}


@pytest.mark.parametrize("last", ["settled", "put"])
async def test_health_and_records_are_written_in_the_order_they_were_handed_in(store: Store, last: str) -> None:
    await store.put_endpoints([record("a")])
    settled, put = Health(failed_attempts=1), Health(failed_attempts=2)
    calls = [
        lambda: store.settle([], {EndpointId("a"): settled}),
        lambda: store.put_endpoints([record("a", health=put)]),
    ]
    # All queued before the writer takes its turn, and so in one transaction.
    for call in [one() for one in (calls if last == "put" else reversed(calls))]:
        await call
    assert [one.health for one in await store.endpoints()] == [put if last == "put" else settled]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_resend_starts_a_fresh_schedule_and_age(store: Store, ended: bool) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    await store.settle([died(work) if ended else retried(work, due_at_ms=MUCH_LATER_MS)], {})
    shown = await store.resend(work.id, now_ms=LATER_MS)
    assert (shown.state, shown.reason, shown.due_at_ms, shown.finished_at_ms) == (
        DeliveryState.PENDING,
        None,
        LATER_MS,
        None,
    )
    again = await only_work(store, now_ms=LATER_MS)
    assert again == replace(
        work, due_at_ms=LATER_MS, owed_since_ms=LATER_MS, attempt_count=1, retries_used=0, trigger=Trigger.MANUAL
    )


async def test_only_the_first_attempt_after_a_resend_is_manual(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    await store.resend(work.id, now_ms=START_MS)
    await store.settle([retried(await only_work(store), due_at_ms=LATER_MS)], {})
    assert (await only_work(store, now_ms=LATER_MS)).trigger is Trigger.SCHEDULED
    assert [one.trigger for one in await store.attempts(work.id)] == [Trigger.MANUAL]


async def test_a_delivered_one_that_is_resent_is_known_as_acknowledged(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    await store.settle([delivered(work)], {})
    await store.resend(work.id, now_ms=LATER_MS)
    # A second request must not forget what the first one found.
    await store.resend(work.id, now_ms=LATER_MS)
    assert (await only_work(store, now_ms=LATER_MS)).acknowledged


@pytest.mark.parametrize("end", ["died", "retried", "cancelled"])
async def test_a_delivered_one_stays_delivered_whatever_its_resend_comes_to(store: Store, end: str) -> None:
    await owe(store, START_MS)
    first = await only_work(store)
    await store.settle([delivered(first, at_ms=START_MS + 1)], {})
    await store.resend(first.id, now_ms=LATER_MS)
    work = await only_work(store, now_ms=LATER_MS)
    if end == "cancelled":
        await store.cancel(work.id, now_ms=LATER_MS)
    else:
        await store.settle([died(work) if end == "died" else retried(work, due_at_ms=MUCH_LATER_MS)], {})
    shown = await store.delivery(work.id)
    assert (shown.state, shown.reason, shown.finished_at_ms) == (DeliveryState.DELIVERED, None, START_MS + 1)


async def test_a_resend_of_what_is_not_there(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await store.resend(delivery_id(), now_ms=START_MS)


async def test_an_event_is_resent_to_every_endpoint_that_still_exists(store: Store) -> None:
    await store.put_endpoints([record("a"), record("b")])
    one = submission(to=("a", "gone", "b"))
    await accepted(store, [one])
    for to in ("a", "gone", "b"):
        await store.settle([died(await only_work(store, to))], {})
    shown = await store.resend_event(one.event.id, None, now_ms=LATER_MS)
    assert [(d.endpoint_id, d.state) for d in shown] == [("a", "pending"), ("b", "pending")]
    assert (await store.delivery(one.deliveries[1][0])).state is DeliveryState.DEAD


async def test_an_event_is_resent_to_one_endpoint(store: Store) -> None:
    await store.put_endpoints([record("a"), record("b")])
    one = submission(to=("a", "b"))
    await accepted(store, [one])
    (shown,) = await store.resend_event(one.event.id, EndpointId("b"), now_ms=LATER_MS)
    assert (shown.id, shown.due_at_ms) == (one.deliveries[1][0], LATER_MS)
    assert (await only_work(store, "a")).trigger is Trigger.SCHEDULED


async def test_an_event_is_newly_owed_to_an_endpoint_it_was_not_owed_to(store: Store) -> None:
    await store.put_endpoints([record("new")])
    (one,) = await owe(store, START_MS)
    (shown,) = await store.resend_event(one.event.id, EndpointId("new"), now_ms=LATER_MS)
    work = await only_work(store, "new", now_ms=LATER_MS)
    assert (work.id, work.event, work.trigger, work.owed_since_ms) == (shown.id, one.event, Trigger.MANUAL, LATER_MS)
    assert shown.created_at_ms == LATER_MS
    assert shown.id not in owed([one])


async def test_a_resend_of_an_event_or_to_an_endpoint_that_is_not_there(store: Store) -> None:
    (one,) = await owe(store, START_MS)
    with pytest.raises(NotFoundError, match="no event"):
        await store.resend_event(event_id(), None, now_ms=START_MS)
    with pytest.raises(NotFoundError, match="no endpoint"):
        await store.resend_event(one.event.id, EndpointId("nobody"), now_ms=START_MS)


async def test_a_cancelled_one_ends_by_the_operator(store: Store) -> None:
    (one,) = await owe(store, START_MS)
    shown = await store.cancel(owed([one])[0], now_ms=LATER_MS)
    assert (shown.state, shown.reason, shown.finished_at_ms) == (DeliveryState.CANCELLED, "operator", LATER_MS)
    assert (await due(store)).work == []


async def test_what_has_ended_cannot_be_cancelled(store: Store) -> None:
    await owe(store, START_MS)
    work = await only_work(store)
    await store.settle([delivered(work)], {})
    with pytest.raises(ConflictError) as caught:
        await store.cancel(work.id, now_ms=LATER_MS)
    assert caught.value.slug == "delivery_ended"
    with pytest.raises(NotFoundError):
        await store.cancel(delivery_id(), now_ms=LATER_MS)


async def test_after_the_clock_went_back_nothing_waits_without_a_reason(store: Store) -> None:
    """A first attempt goes now, a retry when its schedule allows at the latest, what is put off at its time."""
    day_ms = 86_400_000
    late, retry, near = START_MS + day_ms, START_MS + day_ms + 1, START_MS + 500
    await owe(store, late, late)
    put_off = submission(event(accepted_at_ms=late, deliver_at_ms=late), to=("a",))
    await accepted(store, [put_off])
    await owe(store, START_MS, START_MS)
    first, second = (await due(store)).work
    await store.settle([retried(first, due_at_ms=retry), retried(second, due_at_ms=near)], {})
    moments = {"now_ms": START_MS, "latest_ms": START_MS + 1000}
    assert await store.bring_forward(EndpointId("a"), **moments) == 3
    assert await store.bring_forward(EndpointId("a"), **moments) == 0
    found = (await due(store, now_ms=late)).work
    assert sorted(work.due_at_ms for work in found) == [START_MS, START_MS, near, START_MS + 1000, late]


async def test_more_than_a_thousand_are_brought_forward(store: Store) -> None:
    await owe(store, *[START_MS + 10_000] * 2500)
    assert await store.bring_forward(EndpointId("a"), now_ms=START_MS, latest_ms=START_MS) == 2500
