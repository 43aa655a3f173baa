"""When it goes on again after a restart or an outage, it does so little by little."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.daemon import running_daemon
from tests.kit.engine import running_engine
from tests.kit.receiver import Receiver, Reply
from webhookd.core.attempt import ErrorClass
from webhookd.core.delivery import DeliveryState
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList

RULES = DeliveryRules(jitter=0.0, retry=RetryList((30.0, 30.0, 30.0)))
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def many(count: int, rules: DeliveryRules = RULES) -> list[EndpointDefinition]:
    return [
        builders.endpoint(f"e{number}", url=f"https://h{number}.example/", rules=rules, declared=True)
        for number in range(count)
    ]


async def fail_all(clock: VirtualClock, path: Path, definitions: list[EndpointDefinition], *, events: int) -> None:
    """Let every endpoint owe as many deliveries that have failed once, and then be down for an hour."""
    async with running_engine(clock, path, *definitions, max_in_flight=1024) as engine:
        engine.sender.otherwise = 500
        for _ in range(events):
            await engine.accept()
        await clock.run_for(20)
    clock.advance(3600)


async def test_after_a_restart_overdue_retries_are_spread_over_half_a_minute(
    clock: VirtualClock, tmp_path: Path
) -> None:
    definitions = many(100)
    await fail_all(clock, tmp_path, definitions, events=3)
    async with running_engine(clock, tmp_path, *definitions, max_in_flight=1024) as engine:
        started_ms = clock.now_ms()
        fresh = await engine.accept()
        await clock.run_for(40)
        by_second = Counter((sent.at_ms - started_ms) // 1000 for sent in engine.sender.attempts if sent.number > 1)
        first = [sent.at_ms - started_ms for sent in engine.sender.attempts if sent.event_id == fresh[0].event_id]
        assert sum(by_second.values()) == 300
        assert set(by_second) == set(range(30))
        assert max(by_second.values()) <= 25
        assert (len(first), max(first)) == (100, 0), "first attempts wait for nothing"
        assert Counter(delivery.state for delivery in await engine.deliveries()) == {DeliveryState.DELIVERED: 400}


async def test_in_order_nothing_is_spread(clock: VirtualClock, tmp_path: Path) -> None:
    ordered = many(1, DeliveryRules(jitter=0.0, retry=RetryList((30.0,)), ordered=True))
    await fail_all(clock, tmp_path, ordered, events=5)
    async with running_engine(clock, tmp_path, *ordered) as engine:
        await clock.run_for(1)
        ids = [sent.delivery_id for sent in engine.sender.attempts]
        assert ids == sorted(ids)
        assert len(ids) == 5


@pytest.mark.long
async def test_a_deep_backlog_is_put_aside_in_parts_and_nothing_of_it_is_lost(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """A thousand overdue retries at one endpoint: at most 128 of them are put aside at a time."""
    definitions = many(1, DeliveryRules(jitter=0.0, retry=RetryList((30.0, 30.0))))
    await fail_all(clock, tmp_path, definitions, events=1000)
    async with running_engine(clock, tmp_path, *definitions) as engine:
        known = 0
        for _ in range(400):
            await clock.run_for(0.1)
            known = max(known, *(len(station.buffer.known) for station in engine.dispatcher.stations))
        assert known <= 128 + 128
        assert Counter(sent.number for sent in engine.sender.attempts) == {2: 1000}
        assert Counter(delivery.state for delivery in await engine.deliveries()) == {DeliveryState.DELIVERED: 1000}


async def test_a_resend_of_what_is_put_aside_goes_at_once(clock: VirtualClock, tmp_path: Path) -> None:
    definitions = many(1)
    await fail_all(clock, tmp_path, definitions, events=20)
    async with running_engine(clock, tmp_path, *definitions) as engine:
        await clock.run_for(0.01)
        sent = {sent.delivery_id for sent in engine.sender.attempts}
        waiting = next(delivery for delivery in await engine.deliveries() if delivery.id not in sent)
        await engine.desk.resend(waiting.id)
        await clock.run_for(0.01)
        assert len(engine.sender.of(waiting.id)) == 1
        await clock.run_for(60)
        assert len(engine.sender.attempts) == 20


async def test_what_is_put_aside_does_not_stand_in_the_way_of_an_order_asked_for_meanwhile(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """In order, what is known and not buffered is taken for under way, and everything waits for its outcome."""
    (unordered,) = many(1)
    await fail_all(clock, tmp_path, [unordered], events=20)
    async with running_engine(clock, tmp_path, unordered) as engine:
        await clock.run_for(0.01)
        before = len(engine.sender.attempts)
        ordered = replace(unordered, rules=replace(RULES, ordered=True))
        await engine.directory.reload({ordered.id: ordered}, engine.schema)
        await clock.run_for(1)
        ids = [sent.delivery_id for sent in engine.sender.attempts]
        assert len(ids) == 20
        assert ids[before:] == sorted(ids[before:])


@pytest.mark.long
async def test_after_a_start_the_lanes_open_within_ten_seconds(clock: VirtualClock, tmp_path: Path) -> None:
    """Three hundred endpoints with work, all of which answer after 0.9 seconds."""
    definitions = many(300)
    async with running_engine(clock, tmp_path, *definitions, max_in_flight=1024) as engine:
        engine.sender.otherwise, engine.sender.latency = 200, 0.9
        for _ in range(10):
            await engine.accept()
        peaks = []
        for _ in range(14):
            engine.sender.peak_total = 0
            await clock.run_for(1)
            peaks.append(engine.sender.peak_total)
        assert peaks[0] <= 40
        assert all(later - earlier <= 25 for earlier, later in pairwise(peaks))
        assert peaks[-1] == 256


async def test_after_our_own_network_was_down_they_open_so_again(clock: VirtualClock, tmp_path: Path) -> None:
    definitions = many(300)
    async with running_engine(clock, tmp_path, *definitions, max_in_flight=1024) as engine:
        await clock.run_for(20)
        engine.sender.otherwise = ErrorClass.LOCAL
        for _ in range(4):
            await engine.accept()
        await clock.run_for(1)
        assert engine.dispatcher.network.down_since_ms is not None
        engine.sender.otherwise, engine.sender.latency = 200, 0.9
        await clock.run_while(lambda: engine.dispatcher.network.down_since_ms is not None, within_seconds=60)
        engine.sender.peak_total = 0
        await clock.run_for(1)
        assert 16 <= engine.sender.peak_total <= 40
        await clock.run_for(4)
        assert engine.sender.peak_total > 80


@pytest.mark.long
async def test_many_endpoints_begin_without_delay(clock: VirtualClock, tmp_path: Path) -> None:
    """Receivers that answer in 10 ms: sixteen at a time are 1,600 a second, and more from then on."""
    definitions = many(2000)
    async with running_engine(clock, tmp_path, *definitions, max_in_flight=1024) as engine:
        engine.sender.latency = 0.01
        await engine.accept()
        await clock.run_for(1)
        assert len(engine.sender.attempts) == 2000


async def test_a_receiver_that_is_back_is_opened_slowly(clock: VirtualClock, tmp_path: Path) -> None:
    """Two days down, five hundred deliveries behind: at first one request at a time, then one more per window."""
    rules = DeliveryRules(jitter=0.0, retry=RetryList((600.0,) * 400), disable_after_days=0)
    async with running_engine(clock, tmp_path, *many(1, rules), max_in_flight=1024) as engine:
        engine.sender.script("e0", ErrorClass.CONNECT)
        for _ in range(500):
            await engine.accept()
        await clock.run_for(2 * 86_400)
        refused = len(engine.sent("e0"))
        assert refused < 2 * 86_400 / 240 + 50
        engine.sender.script("e0", 200, latency=0.5)
        engine.sender.peak.clear()
        await clock.run_while(lambda: len(engine.sent("e0")) == refused, within_seconds=600)
        peaks = []
        for _ in range(40):
            await clock.run_for(0.5)
            peaks.append(engine.sender.peak["e0"])
        assert peaks[:4] == [1, 2, 3, 4]
        assert max(peaks) <= 32
        await clock.run_for(900)
        assert Counter(delivery.state for delivery in await engine.deliveries()) == {DeliveryState.DELIVERED: 500}


@pytest.mark.long
async def test_a_real_receiver_with_a_backlog_never_sees_more_than_its_window(tmp_path: Path) -> None:
    """Killed with 600 overdue retries; the receiver counts what it has in hand at one time after the restart."""
    config = {
        "endpoints": {
            "orders": {
                "url": "http://127.0.0.1:9/",
                "secret": SECRET,
                "retry": ["1s"] * 20,
                "jitter": 0,
                "concurrency": 8,
            }
        }
    }
    async with Receiver() as receiver, running_daemon(tmp_path, config, start=False) as daemon:
        config["endpoints"]["orders"]["url"] = f"{receiver.url}/hook"
        daemon.configure(config)
        await daemon.start()
        receiver.script(503)
        for _ in range(600):
            await daemon.send("order.completed", {})
        await daemon.kill9()
        receiver.script(Reply(delay_seconds=0.02))
        receiver.peak = 0
        await daemon.start()
        await daemon.settled(timeout_seconds=60)
        assert 1 <= receiver.peak <= 8
