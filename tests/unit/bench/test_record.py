"""Where the figures of a run are written, and in which form."""

import pytest

from bench import __main__ as bench
from bench.record import PAGE, NoPlaceError, markdown, record
from bench.report import goal

REPORT = {
    "benchmark": "idle",
    "about": "nothing for 3 s",
    "python": "3.11.7",
    "sqlite": "3.40.1",
    "processors": 2,
    "fdatasync_ms": 0.25,
    "directory": "/var/tmp",
    "rounds": 1,
    "figures": {"processor %": 0.134},
    "goals": [goal("processor, percent of one", 0.134, at_most=0.5)],
}
COMMAND = ["python", "-m", "bench", "idle", "--seconds", "3"]
PLACES = """\
Before.

<!-- figures: throughput -->
<!-- end -->

<!-- figures: idle -->
of last year
<!-- end -->

After.
"""


def test_the_figures_of_a_run_take_the_place_of_those_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PLACES)
    record(REPORT, COMMAND, page)
    record(REPORT, COMMAND, page)
    assert page.read_text() == PLACES.replace("of last year", f"\n{markdown(REPORT, COMMAND)}\n".rstrip("\n") + "\n")


def test_a_table_says_how_it_was_measured():
    lines = markdown(REPORT, COMMAND).splitlines()
    assert lines[0].startswith("`python -m bench idle --seconds 3`, 20")
    assert lines[0].endswith(": nothing for 3 s. Python 3.11.7, SQLite 3.40.1, 2 processors, fdatasync 0.25 ms.")
    assert "| processor % | 0.13 |" in lines
    assert "| reached | processor, percent of one | 0.134 | at most 0.5 |" in lines


@pytest.mark.parametrize("text", ["", PLACES + PLACES])
def test_without_one_place_for_them_figures_are_not_written(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(NoPlaceError, match=r"page.md has \d places for the figures of idle"):
        record(REPORT, COMMAND, page)
    assert page.read_text() == text


def test_only_what_is_asked_for_is_written(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PLACES)
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(bench.idle, "run", lambda plan: REPORT | {"about": f"nothing for {plan.seconds} s"})
    assert bench.main(["idle", "--seconds", "3"]) == 0
    assert page.read_text() == PLACES
    assert bench.main(["idle", "--seconds", "3", "--record"]) == 0
    assert "`python -m bench idle --seconds 3`" in page.read_text()
    assert capsys.readouterr().out.count("idle: nothing for 3 s") == 2


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_the_page_has_one_place_for_each_benchmark(name, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text())
    record(REPORT | {"benchmark": name}, COMMAND, copy)
    assert "nothing for 3 s" in copy.read_text()


def test_all_are_run_although_one_fails(monkeypatch, capsys):
    def fails(plan):
        raise bench.MeasurementError("1 deliveries came twice")

    def succeeds(plan):
        return REPORT

    for name, module in bench.BENCHMARKS.items():
        monkeypatch.setattr(module, "run", fails if name == "fanout" else succeeds)
    assert bench.main(["all"]) == 1
    said = capsys.readouterr()
    assert said.err == "fanout failed: 1 deliveries came twice\n"
    assert said.out.count("idle: ") == len(bench.BENCHMARKS) - 1


def test_what_is_asked_for_goes_before_what_a_benchmark_would_take():
    def plan(*words):
        given = bench.parse(["throughput", *words])
        return bench.plan_of(given, bench.throughput)

    assert (plan().events, plan().seconds) == (bench.throughput.DEFAULTS["events"], bench.DEFAULTS["seconds"])
    assert plan("--events", "7", "--rounds", "2").events == 7
    assert plan("--events", "7", "--rounds", "2").rounds == 2
