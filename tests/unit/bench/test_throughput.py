"""What the figures of several runs come to, and how processor time is read."""

from bench.processes import cpu_ticks
from bench.throughput import Result, goals, ratio, typical


def result(cpu_us, per_second=100.0):
    return Result(
        events_per_second=per_second,
        cpu_us_per_event=cpu_us,
        accept_p50_ms=1.0,
        accept_p99_ms=2.0,
        main_user_us=cpu_us / 2,
        main_system_us=0.0,
        others_user_us=cpu_us / 2,
        others_system_us=0.0,
        load_us_per_event=3.0,
        receiver_us_per_event=4.0,
    )


def test_of_several_runs_the_median_of_each_figure_counts():
    runs = [result(9, 100), result(1, 300), result(5, 200)]
    assert typical(runs) == result(5, 200)
    assert typical([result(9), result(1)]).cpu_us_per_event == 5


def test_a_ratio_is_that_of_runs_that_followed_each_other():
    """The medians, 60 and 100, would come to 0.6."""
    assert (
        ratio([result(60), result(10), result(900)], [result(120), result(100), result(90)], "cpu_us_per_event") == 0.5
    )


def test_goals_are_daemon_by_bare():
    both = {"bare": [result(50, 10_000)], "daemon": [result(100, 4_000)]}
    assert [(one["measured"], one["reached"]) for one in goals(both)] == [(2.0, False), (0.4, False)]
    assert goals({"bare": [result(50)]}) == []


def test_processor_time_is_read_past_any_process_name():
    assert cpu_ticks("7 (a) R 1) S 1 2 3 4 5 6 7 8 9 10 11 22 13") == (11, 22)
