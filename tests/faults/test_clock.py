"""The wall clock is set, ahead or back, by hours and by years: nothing is lost, nothing waits, nobody is disabled."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.daemon import running_daemon
from tests.kit.engine import EngineUnderTest, running_engine
from tests.kit.receiver import Receiver
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import EndpointStatus
from webhookd.core.ports import Head
from webhookd.core.settings import DeliveryRules, RetryList
from webhookd.errors import StoreUnavailableError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOUR, DAY = 3600, 86_400
RULES = DeliveryRules(jitter=0.1, retry=RetryList((30.0, 600.0)), give_up_after_seconds=3600.0, disable_after_days=2)
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: apt-get install --yes faketime")


def refuse_heads(engine: EngineUnderTest) -> list[str]:
    """Let the dispatcher and what it sends out be refused that reading; return the list of refusals to come."""
    store: Any = engine.store
    refusals: list[str] = []

    class Refusing:
        async def heads(self) -> list[Head]:
            refusals.append("refused")
            raise StoreUnavailableError("the queue is full")

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    for room in (engine.dispatcher, engine.dispatcher._forward):  # noqa: SLF001 - the seam itself is what is being cut
        room._store = cast("Any", Refusing())  # noqa: SLF001
    return refusals


@pytest.mark.parametrize("seconds", [-HOUR, -5 * DAY, -50 * 365 * DAY])
async def test_within_a_run_nothing_waits_longer_than_its_schedule(
    clock: VirtualClock, tmp_path: Path, seconds: float
) -> None:
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        engine.sender.script(builders.ORDERS, 500, 200)
        await engine.accept()
        await clock.run_for(1)
        clock.step_wall(seconds)
        engine.dispatcher.clock_stepped()
        await engine.accept()
        await clock.run_for(1)
        assert len(engine.sender.attempts) == 2, "what is new goes at once"
        await clock.run_for(600 * 1.1)
        assert Counter(delivery.state for delivery in await engine.deliveries()) == {DeliveryState.DELIVERED: 2}


async def test_a_step_that_falls_on_a_store_without_an_answer_ends_nothing(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits is left as it is until the next start; what is new goes on."""
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        heads = refuse_heads(engine)
        clock.step_wall(-HOUR)
        engine.dispatcher.clock_stepped()
        await clock.run_for(1)
        assert heads == ["refused"]
        assert not engine.dispatcher.failed.done()
        await engine.accept()
        await clock.run_for(1)
        assert len(engine.sender.attempts) == 1
    assert "deliveries.late" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("seconds", [-HOUR, -5 * DAY])
async def test_after_a_restart_nothing_waits_for_the_time_of_before(
    clock: VirtualClock, tmp_path: Path, seconds: float
) -> None:
    """A first attempt that was not made yet goes at once, a retry within its schedule."""
    orders = builders.endpoint(rules=RULES, declared=True)
    other = builders.endpoint("other", rules=RULES, declared=True)
    async with running_engine(clock, tmp_path, orders, other) as engine:
        engine.sender.script(builders.ORDERS, 500)
        engine.sender.script("other", 200, latency=10.0)
        await engine.accept()
        await clock.run_for(1)
    clock.step_wall(seconds)
    async with running_engine(clock, tmp_path, orders, other) as engine:
        await clock.run_for(2)
        assert [sent.endpoint_id for sent in engine.sender.attempts] == ["other"]
        await clock.run_for(600 * 1.1)
        assert Counter(delivery.state for delivery in await engine.deliveries()) == {DeliveryState.DELIVERED: 2}


async def test_what_is_put_off_keeps_its_time(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        await engine.accept(builders.draft(deliver_at_ms=clock.now_ms() + HOUR * 1000))
        clock.step_wall(-HOUR)
        engine.dispatcher.clock_stepped()
        await clock.run_for(2 * HOUR - 10)
        assert engine.sender.attempts == []
        await clock.run_for(20)
        assert len(engine.sender.attempts) == 1


async def test_a_jump_ahead_ends_nothing_as_too_old(clock: VirtualClock, tmp_path: Path) -> None:
    """Given up after an hour: five days that never were do not count, the hour that was does."""
    async with running_engine(clock, tmp_path, builders.endpoint(rules=RULES, declared=True)) as engine:
        engine.sender.script(builders.ORDERS, 500, 500, 200)
        await engine.accept()
        await clock.run_for(1)
        clock.step_wall(5 * DAY)
        engine.dispatcher.clock_stepped()
        await clock.run_for(700)
        (delivery,) = await engine.deliveries()
        assert (delivery.state, delivery.attempt_count) == (DeliveryState.DELIVERED, 3)
        assert engine.record().health.status is EndpointStatus.ENABLED


class WallClock:
    """The wall clock of a process under libfaketime, which follows a file; the monotonic one is left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0.0
        self.set(0)

    @property
    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset_seconds: float) -> None:
        """Let the wall clock be off by so much from now on."""
        self._offset = offset_seconds
        other = self._path.with_suffix(".new")
        other.write_text(f"{offset_seconds:+.0f}\n")
        other.replace(self._path)

    def now(self) -> float:
        return time.time() + self._offset


@asynccontextmanager
async def daemon_with_a_clock(path: Path, receiver: Receiver):
    wall = WallClock(path / "faketime")
    config = {
        "endpoints": {
            "orders": {
                "url": f"{receiver.url}/hook",
                "secret": SECRET,
                "retry": ["1s", "2s", "2s"],
                "jitter": 0,
                "give_up_after": "1h",
                "disable_after_days": 2,
                "disable_min_failures": 2,
            }
        }
    }
    async with running_daemon(path, config, env=wall.env, start=False) as daemon:
        yield daemon, wall


JUMPS = [HOUR, -HOUR, 5 * DAY, -5 * DAY, 20 * 365 * DAY, -50 * 365 * DAY]


@pytest.mark.long
@needs_faketime
@pytest.mark.parametrize("boot", [0, -55 * 365 * DAY, 20 * 365 * DAY], ids=["now", "1970", "2046"])
async def test_a_real_daemon_goes_on_whatever_is_done_to_its_clock(tmp_path: Path, boot: int) -> None:
    """An event fails its first attempt before each jump and is delivered after it, as is one handed in then."""
    async with Receiver() as receiver, daemon_with_a_clock(tmp_path, receiver) as (daemon, wall):
        wall.set(boot)
        await daemon.start()
        ids = []
        for number, jump in enumerate(JUMPS):
            seen: set[str] = set()

            def once_500(request, seen=seen):
                first = request.event_id not in seen
                seen.add(request.event_id)
                return 500 if first else 200

            receiver.script(once_500)
            before = len(receiver.requests)
            ids.append((await daemon.send("order.before", number))["id"])
            await receiver.wait_for(before + 1)
            wall.set(jump)
            begun = time.monotonic()
            sent = await daemon.send("order.after", number)
            ids.append(sent["id"])
            await receiver.wait_for(before + 4, timeout_seconds=20)
            assert time.monotonic() - begun < 15
            await daemon.settled()
            request = receiver.requests[-1]
            assert abs(int(request.header("webhook-timestamp")) - wall.now()) < 10
        assert ids == sorted(ids)
        deliveries = await daemon.deliveries()
        assert Counter(delivery["state"] for delivery in deliveries) == {"delivered": 2 * len(JUMPS)}
        shown = (await daemon.get("/v1/endpoints/orders")).json()
        assert shown["status"] == "enabled"
        assert daemon.log_entries("clock.stepped")
        assert await daemon.terminate() == 0


@pytest.mark.long
@needs_faketime
@pytest.mark.parametrize("jump", [-HOUR, -5 * DAY, 5 * DAY])
async def test_a_real_daemon_that_starts_with_another_time_goes_on_with_what_is_owed(tmp_path: Path, jump: int) -> None:
    async with Receiver() as receiver, daemon_with_a_clock(tmp_path, receiver) as (daemon, wall):
        receiver.script(500)
        await daemon.start()
        first = await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        await daemon.kill9()
        wall.set(jump)
        receiver.script(200)
        await daemon.start()
        second = await daemon.send("order.completed", {})
        begun = time.monotonic()
        (later, earlier) = await daemon.settled(60)
        # After a start, a retry that is long overdue may be put off by half a minute.
        assert time.monotonic() - begun < 45
        assert (earlier["state"], later["state"]) == ("delivered", "delivered")
        assert first["id"] < second["id"]
