"""Our own network is gone: nothing is held against receivers, nothing is wasted, and it goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.kit import builders, netns
from tests.kit.clock import VirtualClock
from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.engine import EngineUnderTest, running_engine
from tests.kit.receiver import Receiver
from webhookd.core.attempt import AttemptError, ErrorClass, Outcome
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import EndpointStatus
from webhookd.core.ids import EndpointId
from webhookd.core.lanes import Lane
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENDPOINTS = 30
NO_ROUTE = Outcome(duration_ms=0.2, error=AttemptError(kind=ErrorClass.LOCAL, text="network is unreachable"))
NO_NAMES = Outcome(
    duration_ms=0.2, error=AttemptError(kind=ErrorClass.DNS, text="temporary failure in name resolution", no_way=True)
)
# One retry, one date: the first failure that is held against anybody ends a delivery or disables an endpoint.
TOUCHY = DeliveryRules(jitter=0.0, retry=RetryList((1.0,)), disable_after_days=1, disable_min_failures=1)


def endpoints(count: int = ENDPOINTS, rules: DeliveryRules = TOUCHY) -> list[EndpointDefinition]:
    return [
        builders.endpoint(f"e{number}", url=f"https://h{number}.example/", rules=rules, declared=True)
        for number in range(count)
    ]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("network.")]


async def states(engine: EngineUnderTest) -> Counter[DeliveryState]:
    return Counter(delivery.state for delivery in await engine.deliveries())


async def test_two_days_without_a_network_cost_nobody_anything(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event a minute to thirty endpoints that would not forgive a single failure; then the network is back."""
    caplog.set_level(logging.WARNING)
    async with running_engine(clock, tmp_path, *endpoints()) as engine:
        engine.sender.otherwise = NO_ROUTE
        for _ in range(96):
            await engine.accept()
            await clock.run_for(1800)
            assert len(engine.sender.attempts) <= 4 * ENDPOINTS + 48 * 60, "far more than a probe a minute"
        wasted = len(engine.sender.attempts)
        assert engine.dispatcher.network.down_since_ms is not None
        assert wasted <= ENDPOINTS + 2 * 24 * 60 + 5, "more than a probe a minute"
        engine.sender.otherwise = 200
        await clock.run_for(60)
        assert engine.dispatcher.network.down_since_ms is None
        await clock.run_for(120)
        assert await states(engine) == {DeliveryState.DELIVERED: 96 * ENDPOINTS}
        for number in range(ENDPOINTS):
            health = engine.record(f"e{number}").health
            assert (health.status, health.failed_attempts) == (EndpointStatus.ENABLED, 0)
            assert not engine.dispatcher._stations.of(EndpointId(f"e{number}")).window.is_resting  # noqa: SLF001
    assert messages(caplog) == ["network.down", "network.up"]


async def test_without_name_servers_only_the_first_witnesses_pay(clock: VirtualClock, tmp_path: Path) -> None:
    """A lookup that fails speaks against its name, until twenty names have failed and nobody has answered."""
    async with running_engine(clock, tmp_path, *endpoints(rules=DeliveryRules(jitter=0.0))) as engine:
        engine.sender.otherwise = NO_NAMES
        await engine.accept()
        await clock.run_for(3600)
        failed = [engine.record(f"e{number}").health.failed_attempts for number in range(ENDPOINTS)]
        assert sum(failed) == 19
        assert max(failed) == 1
        engine.sender.otherwise = 200
        await clock.run_for(3600)
        assert await states(engine) == {DeliveryState.DELIVERED: ENDPOINTS}


async def test_requests_under_way_when_it_went_down_are_not_charged_either(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, *endpoints()) as engine:
        for number in range(8):
            engine.sender.script(f"e{number}", 200, latency=lambda work, _: 0.0 if work.attempt_count else 60.0)
        for number in range(8, ENDPOINTS):
            engine.sender.script(f"e{number}", NO_ROUTE, 200)
        await engine.accept()
        await clock.run_for(600)
        assert await states(engine) == {DeliveryState.DELIVERED: ENDPOINTS}
        assert all(engine.record(f"e{n}").health.status is EndpointStatus.ENABLED for n in range(ENDPOINTS))


@pytest.mark.long
async def test_while_anybody_answers_nobody_waits(clock: VirtualClock, tmp_path: Path) -> None:
    """Forty endpoints without a route, as with addresses of a protocol this machine has not got, and one with."""
    async with running_engine(clock, tmp_path, *endpoints(41)) as engine:
        for number in range(1, 41):
            engine.sender.script(f"e{number}", NO_ROUTE)
        for _ in range(60):
            await engine.accept()
            await clock.run_for(1)
        assert len(engine.sent("e0")) == 60
        assert engine.dispatcher.network.down_since_ms is None
        assert all(engine.record(f"e{n}").health.failed_attempts == 0 for n in range(41))


async def test_whoever_has_not_been_found_out_of_reach_is_tried_first(clock: VirtualClock, tmp_path: Path) -> None:
    """One endpoint can be reached, but has had nothing to do for long: it waits for a probe, and not for forty."""
    reachable = builders.endpoint("reachable", types=("for.it",), rules=TOUCHY, declared=True)
    async with running_engine(clock, tmp_path, reachable, *endpoints(40)) as engine:
        engine.sender.otherwise = NO_ROUTE
        engine.sender.script("reachable", 200)
        await engine.accept()
        await clock.run_for(600)
        assert engine.dispatcher.network.down_since_ms is not None
        await engine.accept(builders.draft("for.it"))
        await clock.run_for(1)
        assert len(engine.sent("reachable")) == 1


@pytest.mark.parametrize(("host", "pauses"), [("old.example", False), ("h{}.old.example", True)])
async def test_endpoints_that_are_never_reached_cannot_hold_up_another_again_and_again(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, pauses: bool
) -> None:
    """Twenty endpoints at one host without a route, or at as many names that nobody answers for; and one that is well.

    Whether they are taken for a network that is down or not, the one that is well must hardly notice.
    """
    caplog.set_level(logging.WARNING)
    rules = DeliveryRules()
    bad = [
        builders.endpoint(f"b{n}", url=f"https://{host.format(n)}/{n}", rules=rules, declared=True, types=("for.bad",))
        for n in range(20)
    ]
    good = builders.endpoint("good", url="https://good.example/", rules=rules, declared=True, types=("for.good",))
    async with running_engine(clock, tmp_path, *bad, good, max_in_flight=1024) as engine:
        engine.sender.otherwise = NO_ROUTE
        engine.sender.script("good", *([200] * 100))
        await engine.accept(builders.draft("for.bad"))
        await clock.run_for(200)
        wide = dict(engine.dispatcher.lanes.most)
        for number in range(15):
            before = clock.monotonic()
            await engine.accept(builders.draft("for.good"))
            while len(engine.sent("good")) == number:
                await clock.run_for(0.1)
                assert clock.monotonic() - before < 6, f"event {number}"
            await clock.run_for(1)
            # The first pause has lasted for minutes, as a network would that is down indeed.
            assert number == 0 or engine.dispatcher.lanes.most == wide
            await clock.run_for(30)
    assert ("network.down" in messages(caplog)) is pauses


async def test_a_probe_goes_to_whoever_answered_last_even_if_slowly(clock: VirtualClock, tmp_path: Path) -> None:
    """All are out of reach, in both lanes' rings, and only the one that answered last is there again."""
    async with running_engine(clock, tmp_path, *endpoints(40)) as engine:
        engine.sender.script("e20", 200, NO_ROUTE, latency=lambda _work, _at: 0.0 if len(engine.sent("e20")) > 1 else 2)
        await engine.accept()
        await clock.run_for(10)
        assert [s.pace.lane for s in engine.dispatcher.stations if s.live.record.id == "e20"] == [Lane.SLOW]
        engine.sender.otherwise = NO_ROUTE
        await engine.accept()
        await engine.accept()
        await clock.run_for(4)
        assert engine.dispatcher.network.down_since_ms is not None
        engine.sender.script("e20", 200)
        await clock.run_for(2)
        assert engine.dispatcher.network.down_since_ms is None


async def test_whoever_answered_last_and_is_gone_for_good_does_not_take_all_probes(
    clock: VirtualClock, tmp_path: Path
) -> None:
    async with running_engine(clock, tmp_path, *endpoints(25, DeliveryRules(jitter=0.0))) as engine:
        engine.sender.script("e7", 200, NO_ROUTE, latency=lambda _work, _at: 0.0 if len(engine.sent("e7")) > 1 else 0.5)
        await engine.accept()
        await clock.run_for(10)
        engine.sender.otherwise = NO_ROUTE
        for _ in range(40):
            await engine.accept()
        await clock.run_for(1)
        before = len(engine.sender.attempts)
        await clock.run_for(25 * 60)
        probed = Counter(sent.endpoint_id for sent in engine.sender.attempts[before:])
        assert len(probed) == 25
        assert max(probed.values()) <= 2


async def test_fewer_endpoints_spend_no_retry_either(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, *endpoints(3)) as engine:
        engine.sender.otherwise = NO_ROUTE
        await engine.accept()
        await clock.run_for(3_600)
        engine.sender.otherwise = 200
        await clock.run_for(60)
        assert await states(engine) == {DeliveryState.DELIVERED: 3}


async def no_route(directory: str) -> Any:
    """Run a daemon where its receivers' network is missing, then plug that in; for the inside of a namespace."""
    netns.ip(("route add unreachable 10.9.0.0/24", "route add unreachable 10.10.0.0/24"))
    async with Receiver(host="0.0.0.0") as receiver:
        # Half of them are refused by a route that says so, the others find no route at all.
        hosts = [f"10.{9 + number % 2 * 2}.0.{number + 1}" for number in range(ENDPOINTS)]
        async with daemon_for(
            {f"e{n}": f"http://{host}:{receiver.port}/" for n, host in enumerate(hosts)}, directory
        ) as d:
            await d.send("order.completed", {})
            await eventually(lambda: down(d), timeout_seconds=30)
            down_status = (await d.get("/v1/status")).json()
            metrics = (await d.get("/metrics")).body.decode()
            ready = (await d.get("/readyz")).status
            late = await d.send("order.later", {})
            await asyncio.sleep(1)
            before = len(receiver.requests)
            netns.ip(("route replace local 10.9.0.0/24 dev lo", "route replace local 10.11.0.0/24 dev lo"))
            deliveries = await d.settled(timeout_seconds=60)
            status = (await d.get("/v1/status")).json()
            return {
                "down": down_status["network_down_since"] is not None,
                "metric": "webhookd_network_down 1.0" in metrics,
                "ready": ready,
                "accepted_meanwhile": late["deliveries"],
                "requests_before": before,
                "states": Counter(delivery["state"] for delivery in deliveries),
                "up": status["network_down_since"] is None,
                "log": [entry["message"] for entry in d.log_entries() if entry["message"].startswith("network.")],
            }


async def no_names(directory: str) -> Any:
    """Run a daemon whose name server is not there; for the inside of a namespace."""
    async with daemon_for({f"e{n}": f"https://h{n}.example/" for n in range(ENDPOINTS)}, directory) as d:
        await d.send("order.completed", {})
        await eventually(lambda: down(d), timeout_seconds=30)
        await d.send("order.later", {})
        await asyncio.sleep(7)
        failed = [(await d.get(f"/v1/endpoints/e{n}")).json()["health"]["failed_attempts"] for n in range(ENDPOINTS)]
        return {"failed": sum(failed), "log": [entry["message"] for entry in d.log_entries("network.down")]}


def daemon_for(urls: dict[str, str], directory: str) -> Any:
    config = {
        "network": {"allow": ["10.0.0.0/8"]},
        "endpoints": {name: {"url": url, "secret": SECRET, "retry": ["1s"], "jitter": 0} for name, url in urls.items()},
    }
    return running_daemon(Path(directory), config)


async def down(daemon: Daemon) -> bool:
    return bool((await daemon.get("/v1/status")).json()["network_down_since"])


@pytest.mark.long
@netns.needs_namespace()
def test_a_real_daemon_without_a_route_waits_and_goes_on_by_itself(short_path: Path) -> None:
    assert netns.run(no_route, str(short_path)) == {
        "down": True,
        "metric": True,
        "ready": 200,
        "accepted_meanwhile": ENDPOINTS,
        "requests_before": 0,
        "states": {"delivered": 2 * ENDPOINTS},
        "up": True,
        "log": ["network.down", "network.up"],
    }


@pytest.mark.long
@netns.needs_namespace()
def test_a_real_daemon_without_a_name_server_charges_its_first_witnesses_only(short_path: Path) -> None:
    found = netns.run(no_names, str(short_path))
    assert found["log"] == ["network.down"]
    assert found["failed"] <= 19
