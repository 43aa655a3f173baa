"""What `History` promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.builders import delivered, delivery_id, died, event, event_id, record, submission
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.event import EventSummary
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Counts, Store, Submission
from webhookd.core.queries import DeliveryFilter, EventFilter, Page
from webhookd.errors import NotFoundError
from webhookd.store.sqlite import history, transaction

STATES = [DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED]


@pytest.fixture(params=["listed", "unlisted"])
async def batch(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Submission]:
    """24 events, one each millisecond: two tenants, three types, two endpoints each, four states.

    Once with the lists of endpoints complete, once with the later half still to be copied.
    """
    monkeypatch.setattr(transaction, "LIST_EVERY_ROWS", 1 if request.param == "listed" else 30)
    all_of_them = [
        submission(event(tenant=f"t{n % 2}", type=f"type{n % 3}", accepted_at_ms=START_MS + n), to=("a", "b"))
        for n in range(24)
    ]
    await accepted(store, all_of_them[:12])
    await accepted(store, all_of_them[12:])
    for endpoint in ("a", "b"):
        due = await store.due(
            EndpointId(endpoint), now_ms=START_MS + 24, limit=24, max_bytes=10_000, ordered=False, exclude=()
        )
        for n, work in enumerate(due.work):
            match STATES[n % 4]:
                case DeliveryState.DELIVERED:
                    await store.settle([delivered(work)], {})
                case DeliveryState.DEAD:
                    await store.settle([died(work)], {})
                case DeliveryState.CANCELLED:
                    await store.cancel(work.id, now_ms=START_MS)
    return all_of_them


def expected(batch: list[Submission], which: DeliveryFilter) -> list[int]:
    found = []
    for n, one in enumerate(batch):
        for delivery, endpoint in one.deliveries:
            if (
                which.endpoint_id in (None, endpoint)
                and which.event_id in (None, one.event.id)
                and which.state in (None, STATES[n % 4])
                and which.type in (None, one.event.type)
                and which.tenant in (None, one.event.tenant)
                and (which.since_ms is None or one.event.accepted_at_ms >= which.since_ms)
                and (which.until_ms is None or one.event.accepted_at_ms < which.until_ms)
            ):
                found.append(delivery)
    return sorted(found, reverse=True)


FILTERS = [
    DeliveryFilter(),
    *(DeliveryFilter(state=state) for state in STATES),
    DeliveryFilter(endpoint_id=EndpointId("a")),
    *(DeliveryFilter(endpoint_id=EndpointId("b"), state=state) for state in STATES),
    DeliveryFilter(type="type1"),
    DeliveryFilter(tenant="t1", state=DeliveryState.DEAD),
    DeliveryFilter(endpoint_id=EndpointId("a"), type="type2", tenant="t0"),
    DeliveryFilter(since_ms=START_MS + 5, until_ms=START_MS + 9),
    DeliveryFilter(endpoint_id=EndpointId("a"), since_ms=START_MS + 5, until_ms=START_MS + 9),
    DeliveryFilter(endpoint_id=EndpointId("a"), until_ms=START_MS + 20, state=DeliveryState.PENDING),
    DeliveryFilter(state=DeliveryState.CANCELLED, since_ms=START_MS + 5),
    DeliveryFilter(tenant="nobody"),
    DeliveryFilter(since_ms=2**62),
    DeliveryFilter(until_ms=2**62),
    DeliveryFilter(until_ms=0),
]


async def test_deliveries_are_filtered_and_newest_first(store: Store, batch: list[Submission]) -> None:
    for which in FILTERS:
        page = await store.deliveries(which, limit=500, before=None)
        assert [one.id for one in page.items] == expected(batch, which), which
        assert page.next_before is None


async def test_deliveries_of_an_event(store: Store, batch: list[Submission]) -> None:
    for which in (
        DeliveryFilter(event_id=batch[3].event.id),
        DeliveryFilter(event_id=batch[3].event.id, endpoint_id=EndpointId("b")),
        DeliveryFilter(event_id=batch[3].event.id, state=DeliveryState.DEAD),
        DeliveryFilter(event_id=batch[3].event.id, state=DeliveryState.CANCELLED),
        DeliveryFilter(event_id=event_id()),
    ):
        page = await store.deliveries(which, limit=500, before=None)
        assert [one.id for one in page.items] == expected(batch, which)


@pytest.mark.parametrize("window", [5, history.WINDOW_ROWS])
async def test_pages_join_up_to_the_whole_list(
    store: Store, batch: list[Submission], window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a page may look at so few rows that it comes back short, or empty."""
    monkeypatch.setattr(history, "WINDOW_ROWS", window)
    for which in FILTERS:
        for limit in (1, 4, 7, 24):
            found = []
            before = None
            for _ in range(100):
                page = await store.deliveries(which, limit=limit, before=before)
                assert len(page.items) <= limit
                found += [one.id for one in page.items]
                before = page.next_before
                if before is None:
                    break
            assert found == expected(batch, which), (which, limit)


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        (EventFilter(), range(24)),
        (EventFilter(tenant="t1"), range(1, 24, 2)),
        (EventFilter(type="type2"), range(2, 24, 3)),
        (EventFilter(tenant="t0", type="type0"), range(0, 24, 6)),
        (EventFilter(since_ms=START_MS + 3, until_ms=START_MS + 5), range(3, 5)),
    ],
)
async def test_events_are_filtered_and_newest_first(
    store: Store, batch: list[Submission], which: EventFilter, numbers: range
) -> None:
    wanted = [batch[n].event.id for n in reversed(numbers)]
    assert [one.id for one in (await store.events(which, limit=500, before=None)).items] == wanted
    first = await store.events(which, limit=1, before=None)
    rest = await store.events(which, limit=500, before=first.next_before)
    assert [one.id for one in [*first.items, *rest.items]] == wanted


async def test_an_event_in_a_list_has_all_but_its_payload(store: Store) -> None:
    one = submission(event(payload=b"12345", content_type="text/plain"))
    await accepted(store, [one])
    assert await store.events(EventFilter(), limit=1, before=None) == Page(
        [
            EventSummary(
                id=one.event.id,
                type=one.event.type,
                tenant=one.event.tenant,
                content_type="text/plain",
                size_bytes=5,
                accepted_at_ms=START_MS,
            )
        ],
        next_before=None,
    )


async def test_a_delivery_committed_late_is_still_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id was minted before that of a neighbour which was committed, and listed, first."""
    monkeypatch.setattr(transaction, "LIST_EVERY_ROWS", 1)
    early, late = submission(to=("a",)), submission(to=("a",))
    await accepted(store, [late])
    monkeypatch.setattr(transaction, "LIST_EVERY_ROWS", 1000)
    await accepted(store, [early])
    page = await store.deliveries(DeliveryFilter(endpoint_id=EndpointId("a")), limit=10, before=None)
    assert [one.id for one in page.items] == [late.deliveries[0][0], early.deliveries[0][0]]


async def test_counts(store: Store, batch: list[Submission]) -> None:
    assert await store.counts() == Counts(pending=12, held=0, delivered=12, dead=12, cancelled=12, events=24)
    await store.put_endpoints([record("a", health=Health(disabled_reason=DisabledReason.OPERATOR)), record("b")])
    assert (await store.counts()).held == 6


async def test_counts_of_an_empty_store(store: Store) -> None:
    assert await store.counts() == Counts(pending=0, held=0, delivered=0, dead=0, cancelled=0, events=0)


async def test_pending_is_counted_for_the_endpoints_asked_for(store: Store, batch: list[Submission]) -> None:
    await accepted(store, [submission(to=("b",)), submission(to=("c",))])
    asked = [EndpointId("a"), EndpointId("b"), EndpointId("nobody")]
    assert await store.pending_by_endpoint(asked) == {"a": 6, "b": 7}


async def test_held_is_pending_at_a_disabled_endpoint(store: Store) -> None:
    one = submission(to=("a",))
    await accepted(store, [one])
    delivery = one.deliveries[0][0]
    await store.put_endpoints([record("a", health=Health(disabled_reason=DisabledReason.OPERATOR))])
    shown = await store.delivery(delivery)
    assert (shown.held, shown.state) == (True, DeliveryState.PENDING)
    await store.put_endpoints([record("a")])
    assert await store.delivery(delivery) == replace(shown, held=False)


async def test_what_is_not_there(store: Store) -> None:
    with pytest.raises(NotFoundError, match="evt_"):
        await store.event(event_id())
    with pytest.raises(NotFoundError, match="dlv_"):
        await store.delivery(delivery_id())
    assert await store.attempts(delivery_id()) == []
