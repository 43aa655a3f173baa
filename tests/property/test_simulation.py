"""Ten thousand endpoints through a day and through rush hours: the real engine in a simulated world, from one seed.

The histories of test_engine_model.py are short, dense and full of interference; these are long, wide and undisturbed.
What is looked at here only shows over hours: schedules, rests, rates, dates, and who waits for whom.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.memory_store import Row
from tests.kit.simulation import Kind, Made, Simulation, simulating
from webhookd.core.delivery import DeliveryState, EndReason
from webhookd.core.endpoint import DisabledReason
from webhookd.core.event import OPERATIONAL_TENANT
from webhookd.core.ids import DeliveryId, EndpointId
from webhookd.core.news import NewsType
from webhookd.core.schedule import delays
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.engine.refills import MEMORY_BUDGET_BYTES

HOUR_SECONDS = 3600
DAY_MS = 86_400_000
MORNING_MS = START_MS + DAY_MS // 4
"""Six o'clock, so that a day of the simulation has a midnight in it."""

NEWS = EndpointId("news")
BUSY_DEAD = EndpointId("dead-0")
IN_FLIGHT = 256
SLACK_MS = 1_000
"""More than an answer, a commit and a read take in this world, and less than any delay of a plan."""

IN_A_HUNDRED = 2
"""Endpoints of each kind but the well; together they are a fifth."""
KINDS = tuple(kind for kind in Kind if kind not in (Kind.WELL, Kind.SILENT))
ORDINARY = DeliveryRules()
RULES = {
    Kind.DEAD: DeliveryRules(disable_after_days=2),
    Kind.HOPELESS: DeliveryRules(retry=RetryList((5.0, 60.0, 600.0))),
    Kind.ORDERED: DeliveryRules(ordered=True),
    Kind.RATED: DeliveryRules(rate_per_second=0.5),
}


class Day:
    """A day of one world, and what must be true of it."""

    def __init__(self, sim: Simulation, kinds: Mapping[EndpointId, Kind]) -> None:
        self.sim = sim
        self.kinds = kinds
        self.made = sim.world.made
        self.memory = sim.engine.memory
        self.ends_at_ms = 0

    async def live(self, *, hours: float, per_second: float) -> None:
        """Let producers hand in what they will, and look after the bounds every minute."""
        names = [name for name in self.kinds if name != NEWS]
        lively = [name for name in names if self.kinds[name] in (Kind.ORDERED, Kind.RATED, Kind.THROTTLED)]
        rng = self.sim.rng

        def some_types() -> list[str]:
            draw = rng.random()
            if draw < 0.05:
                return [BUSY_DEAD]
            if draw < 0.07:
                return [f"shared.{rng.randrange(len(names) // 20)}"]
            if draw < 0.09:
                return [rng.choice(lively)] * 12
            return [rng.choice(names)]

        producing = asyncio.create_task(self.sim.produce(per_second, hours * HOUR_SECONDS, some_types))
        for _ in range(round(60 * hours)):
            await self.sim.clock.run_for(60)
            self.look_at_bounds()
        await producing
        self.ends_at_ms = self.sim.clock.now_ms()

    async def recover(self) -> None:
        """Let every receiver be well, and the plans come to their ends."""
        self.sim.world.all_are_well = True
        for _ in range(100):
            await self.sim.clock.run_for(HOUR_SECONDS)
            self.look_at_bounds()
            if not any(
                row.state is DeliveryState.PENDING and self.is_enabled(row) for row in self.memory.rows.values()
            ):
                return

    def is_enabled(self, row: Row) -> bool:
        return self.memory.records[row.endpoint_id].health.disabled_reason is None

    def look_at_bounds(self) -> None:
        """Nothing grows without end, however long it goes on."""
        dispatcher = self.sim.engine.dispatcher
        assert dispatcher.lanes.in_flight == self.sim.world.in_flight <= IN_FLIGHT
        assert 0 <= dispatcher._refills._bytes <= MEMORY_BUDGET_BYTES  # noqa: SLF001
        assert len(dispatcher._alarms._heap) <= 1024 + 2 * len(self.kinds)  # noqa: SLF001
        assert len(dispatcher._errands._tasks) <= IN_FLIGHT + 8  # noqa: SLF001

    def of(self, kind: Kind) -> Iterator[tuple[EndpointId, list[Made]]]:
        return ((name, self.made[name]) for name in self.kinds if self.kinds[name] is kind)

    # What must be true.

    def judge(self) -> None:
        self.nothing_is_lost()
        self.plans_are_kept()
        self.receivers_of_errors_see_their_plan_and_no_more()
        self.the_dead_see_one_probe_in_a_rest()
        self.silence_is_kept_where_it_was_asked_for()
        self.order_and_rate_are_kept()
        self.those_that_fail_are_disabled_on_their_date_and_no_others()
        self.the_well_wait_for_nobody()

    def nothing_is_lost(self) -> None:
        """Every accepted delivery ended as its receiver's kind has it end."""
        rows = self.memory.rows.values()
        per_event = Counter(row.event.id for row in rows if row.endpoint_id != NEWS)
        assert {event_id: owed for event_id, owed in self.sim.accepted.items() if owed} == per_event
        for row in rows:
            attempts = self.memory._attempts.get(row.id, [])  # noqa: SLF001
            statuses = [attempt.outcome.status for attempt in attempts]
            assert 200 not in statuses[:-1], f"{row} was sent again after it had been acknowledged"
            match row.state:
                case DeliveryState.DELIVERED:
                    assert statuses[-1] == 200
                case DeliveryState.DEAD:
                    assert row.reason == EndReason.RETRIES_EXHAUSTED
                    assert len(attempts) == 1 + len(delays(self.rules(row.endpoint_id).retry))
                    assert self.kinds[row.endpoint_id] in (Kind.HOPELESS, Kind.THROTTLED)
                case _:
                    assert not self.is_enabled(row), f"{row} was never delivered"
        hopeless = [row for row in rows if self.kinds[row.endpoint_id] is Kind.HOPELESS]
        early = [row for row in hopeless if row.event.due_at_ms < self.ends_at_ms - 900_000]
        assert early
        assert all(row.state is DeliveryState.DEAD for row in early)

    def plans_are_kept(self) -> None:
        """No attempt comes before its moment, nor more of them than the plan has."""
        for name, made in self.made.items():
            plan = delays(self.rules(name).retry)
            for delivery_id, attempts in by_delivery(made).items():
                assert [one.number for one in attempts] == list(range(1, len(attempts) + 1))
                assert len(attempts) <= 1 + len(plan)
                assert attempts[0].started_at_ms >= self.memory.rows[delivery_id].event.due_at_ms
                for (before, after), delay_seconds in zip(pairwise(attempts), plan, strict=False):
                    assert after.started_at_ms >= before.ended_at_ms + 1000 * delay_seconds, (name, before, after)

    def receivers_of_errors_see_their_plan_and_no_more(self) -> None:
        """Count the requests of a day against what can be worked out beforehand, give or take the jitter."""
        for name in self.kinds:
            if self.kinds[name] not in (Kind.BROKEN, Kind.HOPELESS):
                continue
            rules = self.rules(name)
            fewest = most = 0
            for row in self.memory.rows.values():
                if row.endpoint_id != name:
                    continue
                earliest = latest = row.event.due_at_ms
                for delay_seconds in (0.0, *delays(rules.retry)):
                    earliest += round(1000 * delay_seconds)
                    latest += round(1000 * delay_seconds * (1 + rules.jitter)) + SLACK_MS
                    fewest += latest <= self.ends_at_ms
                    most += earliest <= self.ends_at_ms
            assert fewest <= sum(one.started_at_ms <= self.ends_at_ms for one in self.made[name]) <= most

    def the_dead_see_one_probe_in_a_rest(self) -> None:
        """After the first few, attempts are a rest apart that doubles from 5 s to 300 s, give or take a fifth."""
        for _, made in self.of(Kind.DEAD):
            in_vain = [one for one in made if one.started_at_ms < self.ends_at_ms]
            for probe, (before, after) in enumerate(pairwise(in_vain[8:])):
                rest_seconds = min(300.0, 5.0 * 2**probe)
                assert after.started_at_ms >= before.ended_at_ms + 800 * rest_seconds - 1
        busy = [one for one in self.made[BUSY_DEAD] if one.started_at_ms < self.ends_at_ms]
        most = 8 + 7 + (busy[-1].ended_at_ms - busy[0].started_at_ms) / 240_000
        fewest = (busy[-1].ended_at_ms - busy[0].started_at_ms - 620_000) / 361_000
        assert fewest <= len(busy) <= most

    def silence_is_kept_where_it_was_asked_for(self) -> None:
        refused = 0
        for _, made in self.of(Kind.THROTTLED):
            silent_until_ms = 0
            for one in sorted(made, key=lambda one: one.started_at_ms):
                if one.started_at_ms >= silent_until_ms:
                    silent_until_ms = 0
                asked = [m for m in made if m.status == 429 and m.ended_at_ms < one.started_at_ms]
                assert all(one.started_at_ms >= m.ended_at_ms + 90_000 for m in asked[-3:])
                refused += one.status == 429
        assert refused

    def order_and_rate_are_kept(self) -> None:
        for _, made in self.of(Kind.ORDERED):
            sent = [one.delivery_id for one in made]
            assert sent == sorted(sent)
        for _, made in self.of(Kind.RATED):
            starts = [one.started_at_ms for one in made]
            assert all(after - before >= 1900 for before, after in pairwise(starts))

    def those_that_fail_are_disabled_on_their_date_and_no_others(self) -> None:
        """Health is worked out again from the attempts alone; nothing is sent once it disables."""
        disabled = set()
        for name, made in self.made.items():
            health = self.memory.records[name].health
            rules = self.rules(name)
            dates: set[int] = set()
            failures = 0
            expected: tuple[DisabledReason, int] | None = None
            for one in made:
                if one.status == 200:
                    dates, failures = set(), 0
                    continue
                dates.add(one.ended_at_ms // DAY_MS)
                failures += 1
                if one.status == 410:
                    expected = DisabledReason.GONE, one.ended_at_ms
                elif len(dates) >= rules.disable_after_days and failures >= rules.disable_min_failures:
                    expected = DisabledReason.FAILING, one.ended_at_ms
                if expected:
                    break
            assert (health.disabled_reason, health.disabled_at_ms) == (expected or (None, None)), name
            if expected:
                disabled.add(name)
                assert all(one.started_at_ms <= expected[1] for one in made), f"{name} was called while disabled"
        assert {self.kinds[name] for name in disabled} == {Kind.DEAD, Kind.GONE}
        assert BUSY_DEAD in disabled
        told = Counter(row.event.type for row in self.memory.rows.values() if row.endpoint_id == NEWS)
        assert told[NewsType.DISABLED] == len(disabled)
        assert told[NewsType.DIED] == sum(row.state is DeliveryState.DEAD for row in self.memory.rows.values())

    def the_well_wait_for_nobody(self) -> None:
        delays_ms = start_delays_ms(self.of(Kind.WELL))
        assert share(delays_ms, 0.99) < 1000
        assert share(delays_ms, 0.999) < 1000

    def rules(self, name: EndpointId) -> DeliveryRules:
        return rules_of(name, self.kinds[name])


def rules_of(name: EndpointId, kind: Kind) -> DeliveryRules:
    """Return the rules of the kind; half of the dead have to fail so often that it takes them beyond their date."""
    rules = RULES.get(kind, ORDINARY)
    return replace(rules, disable_min_failures=120) if kind is Kind.DEAD and name[-1] in "13579" else rules


def by_delivery(made: list[Made]) -> dict[DeliveryId, list[Made]]:
    found: dict[DeliveryId, list[Made]] = defaultdict(list)
    for one in made:
        found[one.delivery_id].append(one)
    return found


def start_delays_ms(of: Iterator[tuple[EndpointId, list[Made]]], *, since_ms: int = START_MS) -> list[int]:
    """Return how late each first attempt due since then began, in order."""
    first = (one for _, made in of for one in made if one.number == 1 and one.due_at_ms >= since_ms)
    return sorted(one.started_at_ms - one.due_at_ms for one in first)


def share(values: list[int], part: float) -> int:
    return values[int(part * (len(values) - 1))]


def world_of(size: int) -> tuple[dict[EndpointId, Kind], list[EndpointDefinition]]:
    """Return a world of `size` endpoints, each with a type of its own and one it shares with nineteen others."""
    each = max(2, size * IN_A_HUNDRED // 100)
    kinds: dict[EndpointId, Kind] = {EndpointId(f"{kind}-{i}"): kind for kind in KINDS for i in range(each)}
    kinds |= {EndpointId(f"well-{i}"): Kind.WELL for i in range(size - len(kinds))}
    definitions = [
        builders.endpoint(name, types=(name, f"shared.{number // 20}"), rules=rules_of(name, kind))
        for number, (name, kind) in enumerate(kinds.items())
    ]
    news = builders.endpoint(NEWS, tenant=OPERATIONAL_TENANT)
    return kinds | {NEWS: Kind.WELL}, [*definitions, news]


async def live_a_day(seed: int, *, size: int, per_second: float) -> Day:
    """Play a whole day and its aftermath; return it for judgement."""
    kinds, definitions = world_of(size)
    clock = VirtualClock(now_ms=MORNING_MS)
    async with simulating(definitions, kinds, clock=clock, seed=seed, max_in_flight=IN_FLIGHT) as sim:
        day = Day(sim, kinds)
        await day.live(hours=24, per_second=per_second)
        await day.recover()
        return day


async def test_a_day_of_three_hundred_endpoints(seed: int) -> None:
    day = await live_a_day(seed, size=300, per_second=0.05)
    day.judge()


@pytest.mark.long
async def test_a_day_of_ten_thousand_endpoints(seed: int, scale: int) -> None:
    for number in range(scale):
        day = await live_a_day(seed * 1000 + number, size=10_000, per_second=0.5)
        day.judge()


@pytest.mark.long
@pytest.mark.parametrize(
    ("tarpits", "crowd"),
    [pytest.param(3, 0.0, id="3"), pytest.param(20, 0.0, id="20"), pytest.param(3, 0.5, id="busy")],
)
async def test_the_well_do_not_wait_for_those_who_hang(tarpits: int, crowd: float, seed: int) -> None:
    """300 events a second to 10,000 endpoints, three in ten of them to one that never answers.

    `tarpits` in a hundred endpoints answer after 14 seconds. A `crowd` of the events goes to them besides: more than
    all the requests there may be, so that nothing but the lanes keeps them from taking up everything. Then the lanes
    have to be open; else it is from a cold start.
    """
    size = 10_000
    kinds: dict[EndpointId, Kind] = {}
    for i in range(size):
        percent = 100 * i // size
        kinds[EndpointId(f"e{i}")] = Kind.SILENT if percent < 2 else Kind.TARPIT if percent < 2 + tarpits else Kind.WELL
    definitions = [builders.endpoint(name, types=(name,)) for name in kinds]
    async with simulating(definitions, kinds, clock=VirtualClock(), seed=seed) as sim:

        def some_types() -> list[str]:
            draw = sim.rng.random()
            if draw < crowd:
                return [f"e{sim.rng.randrange(2 * size // 100, (2 + tarpits) * size // 100)}"]
            return ["e0" if draw > 0.7 else f"e{sim.rng.randrange(size)}"]

        producing = asyncio.create_task(sim.produce(300, 240, some_types))
        await sim.clock.run_for(240)
        await producing
        day = Day(sim, kinds)
        delays_ms = start_delays_ms(day.of(Kind.WELL), since_ms=START_MS + 10_000 if crowd else START_MS)
        begun = sum(one.number == 1 for _, made in day.of(Kind.WELL) for one in made)
        owed = sum(day.kinds[row.endpoint_id] is Kind.WELL for row in day.memory.rows.values())
    assert begun >= owed - 200, "deliveries to the well have not even been begun"
    assert share(delays_ms, 0.99) < 1000
    assert share(delays_ms, 0.999) < 1000
    assert sim.world.most_in_flight <= 1024


async def trace(seed: int) -> str:
    """Return what stands for all that happened in a small day."""
    day = await live_a_day(seed, size=100, per_second=0.01)
    return day.sim.world.trace.hexdigest()


async def test_one_seed_tells_one_history_in_any_process(seed: int) -> None:
    """Not even the order of sets, which differs from process to process, may decide what is sent when."""

    async def elsewhere(hash_seed: int) -> str:
        code = f"import asyncio; from {__name__} import trace; print(asyncio.run(trace({seed})))"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0
        return told.decode().strip()

    here, there, other = await asyncio.gather(elsewhere(1), elsewhere(2), trace(seed + 1))
    assert here == there
    assert here != other
