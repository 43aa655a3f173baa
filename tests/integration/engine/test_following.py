"""Whoever follows hears of attempts once they are recorded, and holds nobody up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import EngineUnderTest, running_engine
from webhookd.core.attempt import AttemptNotice
from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EndpointId
from webhookd.core.services import Heard, NoticeFilter
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.engine import feed
from webhookd.engine.feed import AttemptHub, HubFollower

PROMPT = DeliveryRules(jitter=0.0, retry=RetryList((5.0,)))
ALL = NoticeFilter()


def to(endpoint_id: str, *, tenant: str = "default") -> EndpointDefinition:
    return builders.endpoint(endpoint_id, rules=PROMPT, tenant=tenant, declared=True)


def listening(engine: EngineUnderTest, which: NoticeFilter = ALL) -> HubFollower:
    hub = AttemptHub()
    engine.recorder.call_when_committed(hub.publish)
    follower = hub.follow(which)
    assert follower is not None
    return follower


async def heard(follower: HubFollower) -> list[AttemptNotice]:
    """Return all that has been told so far."""
    follower.leave()
    found: list[AttemptNotice] = []
    while (some := await follower.hear()) is not None:
        found += some.notices
    return found


async def test_an_attempt_is_told_with_what_it_made_of_its_delivery(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, to("orders")) as engine:
        follower = listening(engine)
        engine.sender.script("orders", 500, 400)
        (accepted,) = await engine.accept(builders.draft("order.paid"))
        await clock.run_for(10)
        (delivery,) = await engine.deliveries()
        first, second = await heard(follower)
        assert [first.attempt, second.attempt] == await engine.attempts(delivery.id)
        assert (first.event_id, first.event_type, first.endpoint_id, first.tenant) == (
            accepted.event_id,
            "order.paid",
            "orders",
            "default",
        )
        assert (first.state, first.next_attempt_ms) == (DeliveryState.PENDING, START_MS + 5000)
        assert (second.state, second.next_attempt_ms) == (DeliveryState.DEAD, None)


@pytest.mark.parametrize(
    ("which", "told"),
    [
        (NoticeFilter(endpoint_id=EndpointId("orders")), [("orders", "order.paid"), ("orders", "user.made")]),
        (NoticeFilter(type="order.*"), [("orders", "order.paid"), ("others", "order.paid")]),
        (NoticeFilter(type="order.paid", endpoint_id=EndpointId("others")), [("others", "order.paid")]),
        (NoticeFilter(tenant="b"), [("third", "order.paid")]),
        (NoticeFilter(type="order"), []),
    ],
)
async def test_filters(clock: VirtualClock, tmp_path: Path, which: NoticeFilter, told: list[tuple[str, str]]) -> None:
    async with running_engine(clock, tmp_path, to("orders"), to("others"), to("third", tenant="b")) as engine:
        follower = listening(engine, which)
        await engine.accept(builders.draft("order.paid"), builders.draft("user.made"))
        if which.tenant == "b":
            await engine.accept(builders.draft("order.paid", tenant="b"))
        await clock.run_for(1)
        assert sorted((notice.endpoint_id, notice.event_type) for notice in await heard(follower)) == sorted(told)[:2]


async def test_nothing_is_told_before_it_is_on_disk(clock: VirtualClock, tmp_path: Path) -> None:
    from webhookd.errors import StoreFullError

    async with running_engine(clock, tmp_path, to("orders")) as engine:
        follower = listening(engine)
        failing = engine.fail_settling(StoreFullError("full"))
        await engine.accept()
        await clock.run_for(5)
        hearing = asyncio.ensure_future(follower.hear())
        await clock.run_for(1)
        assert not hearing.done()
        failing.clear()
        await clock.run_for(5)
        assert len((await hearing).notices) == 1


def told(hub: AttemptHub, notices: list[AttemptNotice]) -> None:
    for notice in notices:
        for follower in list(hub._followers):  # noqa: SLF001 - what publish does, without records
            follower.offer(notice)


def notice(number: int = 1, *, excerpt: bytes = b"") -> AttemptNotice:
    work = builders.work()
    return AttemptNotice(
        attempt=builders.attempt(work, number=number, result=builders.outcome(excerpt=excerpt)),
        event_id=work.event.id,
        event_type="order.paid",
        tenant="default",
        endpoint_id=work.endpoint_id,
        state=DeliveryState.DELIVERED,
        next_attempt_ms=None,
    )


async def test_a_slow_follower_loses_what_has_no_room_and_is_told_how_much() -> None:
    hub = AttemptHub()
    slow, quick = hub.follow(ALL), hub.follow(ALL)
    some = [notice(number) for number in range(1, feed.MOST_BUFFERED + 11)]
    for piece in some:
        told(hub, [piece])
        assert (await quick.hear()) == Heard([piece], 0)
    numbers: list[int] = []
    dropped = 0
    while not dropped:
        found = await slow.hear()
        numbers += [one.attempt.number for one in found.notices]
        dropped = found.dropped
    assert numbers == list(range(1, feed.MOST_BUFFERED + 1))
    assert dropped == 10
    told(hub, some[:1])
    assert await slow.hear() == Heard(some[:1], 0)


async def test_a_loss_is_told_where_it_happened() -> None:
    """What comes after a loss may not pass it by, even if there is room again."""
    hub = AttemptHub()
    slow = hub.follow(ALL)
    told(hub, [notice() for _ in range(feed.MOST_BUFFERED + 1)])
    await slow.hear()
    told(hub, [notice()])
    dropped = [(await slow.hear()).dropped for _ in range(feed.MOST_BUFFERED // 64 - 1)]
    assert dropped == [0] * (len(dropped) - 1) + [2]


async def test_what_waits_for_a_follower_is_bounded_in_bytes() -> None:
    hub = AttemptHub()
    slow = hub.follow(ALL)
    told(hub, [notice(excerpt=b"x" * 4096) for _ in range(feed.MOST_BUFFERED)])
    waiting = [one for one in await heard(slow) if one]
    assert sum(len(one.attempt.outcome.excerpt) for one in waiting) <= feed.MOST_BUFFERED_BYTES
    assert len(waiting) > 200


async def test_only_so_many_follow_and_places_become_free() -> None:
    hub = AttemptHub()
    followers = [hub.follow(ALL) for _ in range(feed.MOST_FOLLOWERS)]
    assert hub.follow(ALL) is None
    followers[0].leave()
    followers[0].leave()
    assert hub.follow(ALL) is not None
    assert hub.follow(ALL) is None


async def test_at_the_end_all_are_let_go_those_to_come_as_well() -> None:
    hub = AttemptHub()
    follower = hub.follow(ALL)
    told(hub, [notice()])
    hub.end()
    assert len((await follower.hear()).notices) == 1
    assert await follower.hear() is None
    assert await hub.follow(ALL).hear() is None
