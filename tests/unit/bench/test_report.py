"""What a report says of its goals, and how a percentile is taken."""

import pytest

from bench.latency import percentile
from bench.report import goal, table


@pytest.mark.parametrize(
    ("measured", "bounds", "reached"),
    [
        (1.6, {"at_most": 1.6}, True),
        (1.61, {"at_most": 1.6}, False),
        (0.6, {"at_least": 0.6}, True),
        (0.59, {"at_least": 0.6}, False),
    ],
)
def test_a_goal_is_reached_at_its_bound(measured, bounds, reached):
    assert goal("it", measured, **bounds)["reached"] is reached


def test_a_missed_goal_is_told_to_people():
    about = dict.fromkeys(("python", "sqlite", "processors", "directory"), "x")
    shown = table(
        {"benchmark": "b", "about": "a", **about, "fdatasync_ms": 1, "rounds": 1, "goals": [goal("it", 2, at_most=1)]}
    )
    assert "MISSED  it: 2, at most 1" in shown


def test_a_percentile_is_not_exceeded_by_as_many():
    ordered = [float(number) for number in range(1, 101)]
    assert percentile(ordered, 50) == 51.0
    assert percentile(ordered, 99) == 100.0
    assert percentile([7.0], 99) == 7.0
