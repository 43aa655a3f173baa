"""One timer for all stations: each is called at the earliest moment it asked for, at a bounded cost."""

from __future__ import annotations

from tests.kit import builders
from tests.kit.clock import VirtualClock
from webhookd.engine.alarms import Alarms
from webhookd.engine.endpoints import LiveEndpoint
from webhookd.engine.station import Station


def station() -> Station:
    return Station(LiveEndpoint(builders.record(), builders.endpoint()))


def test_a_station_is_called_at_the_earliest_moment_it_asked_for(clock: VirtualClock) -> None:
    called: list[float] = []
    alarms, one = Alarms(clock, lambda _: called.append(round(clock.monotonic()))), station()
    for at in (1030.0, 1010.0, 1020.0):
        alarms.set(one, at)
    clock.advance(60)
    assert called == [1010]


def test_alarms_that_no_longer_count_do_not_pile_up(clock: VirtualClock) -> None:
    """Woken every second for a day, and each time with nothing to do but wait for tomorrow."""
    called: list[Station] = []
    alarms, one, other = Alarms(clock, called.append), station(), station()
    alarms.set(other, 1000.0 + 86_400)
    for second in range(20_000):
        alarms.set(one, 1000.0 + 86_400 + second % 2)
        alarms.set(one, clock.monotonic() + 1)
        clock.advance(1.1)
    assert len(alarms._heap) < 2100  # noqa: SLF001 - its size is what is bounded
    assert set(called) == {one}
    clock.advance(86_400)
    assert called[-1] is other
