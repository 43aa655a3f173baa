"""Events that tell of a change are on disk with it, and not without it."""

from __future__ import annotations

import pytest

from tests.integration.store.conftest import Opener
from tests.kit.builders import died, event, record, submission
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.intake import accepted
from tests.kit.values import replace
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.event import OPERATIONAL_TENANT
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Store, Submission
from webhookd.core.queries import EventFilter
from webhookd.core.settings import MIB, Storage
from webhookd.errors import StoreError, StoreFullError

OFF = Health(disabled_reason=DisabledReason.OPERATOR, disabled_at_ms=START_MS)
OPERATIONAL = EventFilter(tenant=OPERATIONAL_TENANT)


def telling(of: Work | None = None, *, at_ms: int = START_MS) -> Submission:
    made = submission(event(tenant=OPERATIONAL_TENANT, accepted_at_ms=at_ms), to=("alerts",))
    return made if of is None else replace(made, death_of=of.id)


async def owed_work(store: Store, count: int = 1) -> list[Work]:
    await store.put_endpoints([record("a"), record("alerts")])
    await accepted(store, [submission(to=("a",)) for _ in range(count)])
    found = await store.due(EndpointId("a"), now_ms=START_MS, limit=count, max_bytes=MIB, ordered=False, exclude=())
    return found.work


async def told(store: Store) -> int:
    page = await store.events(OPERATIONAL, limit=100, before=None)
    return len(page.items)


async def test_an_event_comes_with_outcomes_and_is_owed(opener: Opener) -> None:
    store = await opener()
    (work,) = await owed_work(store)
    await store.settle([died(work)], {EndpointId("a"): OFF}, [telling(work), telling()])
    await store.close()
    again = await opener()
    assert await told(again) == 2
    assert {head.endpoint_id for head in await again.heads()} == {"alerts"}
    assert (await again.counts()).events == 3


async def test_a_death_that_was_not_died_is_not_told(store: Store) -> None:
    """A cancelled one, one that was dead before, and beside them one that did die."""
    cancelled, dead, dying = await owed_work(store, 3)
    await store.cancel(cancelled.id, now_ms=START_MS)
    await store.settle([died(dead)], {}, [telling(dead)])
    later_ms = START_MS + 5
    dead = replace(dead, attempt_count=1)
    await store.settle(
        [died(work, at_ms=later_ms) for work in (cancelled, dead, dying)],
        {},
        [telling(work, at_ms=later_ms) for work in (cancelled, dead, dying)],
    )
    assert await told(store) == 2
    assert (await store.delivery(cancelled.id)).state is DeliveryState.CANCELLED


async def test_an_event_comes_with_a_changed_endpoint_or_neither_does(opener: Opener) -> None:
    store = await opener()
    await owed_work(store)
    poison = replace(telling(), deliveries=((2**63, EndpointId("alerts")),))
    with pytest.raises(StoreError):
        await store.put_endpoints([record("a", health=OFF)], [poison])
    assert {one.health.disabled_reason for one in await store.endpoints()} == {None}
    assert await told(store) == 0
    await store.put_endpoints([record("a", health=OFF)], [telling()])
    assert await told(store) == 1
    with pytest.raises(StoreError):
        await store.settle([], {EndpointId("a"): Health()}, [poison])
    (changed, _) = await store.endpoints()
    assert (changed.id, changed.health.disabled_reason) == ("a", DisabledReason.OPERATOR)


async def test_there_is_room_for_what_is_told_where_producers_are_refused(opener: Opener, storage: Storage) -> None:
    free = [10 * MIB]
    clock = VirtualClock()
    store = await opener(replace(storage, min_free_bytes=5 * MIB), free_bytes=lambda _: free[0], clock=clock)
    (work,) = await owed_work(store)
    free[0] = MIB
    clock.advance(0.3)
    with pytest.raises(StoreFullError):
        await accepted(store, [submission()])
    await store.settle([died(work)], {}, [telling(work)])
    await store.put_endpoints([record("a", health=OFF)], [telling()])
    assert await told(store) == 2
