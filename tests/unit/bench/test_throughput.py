"""A run of the benchmark counts only if every event was accepted and delivered exactly once."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.disk import file_system
from bench.processes import MeasurementError, cpu_ticks
from bench.runs import check
from bench.throughput import Result, goals, middle_of


def load(*ids, **given):
    return {"refused": {}, "accepted": len(ids), "ids": list(ids)} | given


def seen(*ids, duplicates=0, **given):
    ids_seen = {"requests": len(ids) + duplicates, "duplicates": duplicates, "ids": list(ids)}
    return ids_seen | {"checked": 1, "complaints": []} | given


def result(cpu_us, per_second=100.0):
    return Result(
        events_per_second=per_second,
        cpu_us_per_event=cpu_us,
        accept_p50_ms=1.0,
        accept_p99_ms=2.0,
        load_us_per_event=3.0,
        receiver_us_per_event=4.0,
    )


def test_all_accepted_and_delivered_once_counts():
    check(load("a", "b"), seen("b", "a"), events=2)


def test_one_event_comes_once_to_each_path():
    check(load("a"), seen("a /hook/0", "a /hook/1"), events=1, copies=2)
    with pytest.raises(MeasurementError, match="1 deliveries came of 1 events"):
        check(load("a"), seen("a /hook/0"), events=1, copies=2)


@pytest.mark.parametrize(
    ("handed_in", "received", "complaint"),
    [
        (load("a", "b"), seen("a"), "1 were accepted and not delivered, such as b"),
        (load("a", "b"), seen("a", "b", duplicates=1), "1 deliveries came twice"),
        (load("a", "b"), seen("a", "c"), "1 were delivered and not accepted, such as c"),
        (load("a", refused={"503": 1}), seen("a"), "1 were answered 503, not 202"),
        (load("a", "a"), seen("a"), "2 were accepted under only 1 ids"),
        (load("a", "b", "c"), seen("a", "b", "c"), "3 deliveries came of 2 events"),
        (load("a", "b"), seen("a", "b", checked=0), "no delivery was looked at"),
        (load("a", "b"), seen("a", "b", complaints=["the signature does not hold"]), "the signature does not hold"),
    ],
)
def test_anything_else_does_not_count(handed_in, received, complaint):
    with pytest.raises(MeasurementError, match=complaint):
        check(handed_in, received, events=2)


def test_of_several_runs_the_one_in_the_middle_counts():
    assert middle_of([result(9), result(1), result(5)]).cpu_us_per_event == 5
    assert middle_of([result(9), result(1)]).cpu_us_per_event == 1


def test_ratios_are_daemon_by_bare():
    both = {"bare": result(50, 10_000), "daemon": result(100, 4_000)}
    assert [(one["measured"], one["reached"]) for one in goals(both)] == [(2.0, False), (0.4, False)]
    assert goals({"bare": result(50)}) == []


def test_processor_time_is_read_past_any_process_name():
    assert cpu_ticks("7 (a) R 1) S 1 2 3 4 5 6 7 8 9 10 11 22 13") == (11, 22)


def test_a_small_run_of_the_bare_pipeline_prints_its_figures(short_path, capsys):
    if file_system(short_path, Path("/proc/self/mountinfo").read_text()) in {"tmpfs", "ramfs"}:
        pytest.skip("the temporary directory is in memory; TMPDIR on a disk brings this test back")
    asked = ["--json", "--subject", "bare", "--events", "200", "--connections", "8", "--socket", "unix"]
    assert main([*asked, "--dir", str(short_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["events"] == 200
    assert report["runs"]["bare"]["events_per_second"] > 0
    assert report["goals"] == []
    assert list(short_path.iterdir()) == []


def test_a_directory_in_memory_is_refused(capsys):
    assert main(["--dir", "/dev/shm", "--events", "1"]) == 1
    assert "is tmpfs" in capsys.readouterr().err
