"""Durations, sizes, rates and numbers: what is a value, and that it survives being shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.config.forms import (
    BadValueError,
    decimal,
    duration,
    integer,
    list_of,
    parse_duration,
    parse_rate,
    parse_size,
    show_duration,
    show_rate,
    show_size,
    spell_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5),
        ("5m", 300),
        ("2h", 7200),
        ("3d", 259_200),
        ("1.5h", 5400),
        ("0s", 0),
        ("0.001s", 0.001),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", "5", "s", "5 s", "5S", "-5s", "+5s", "5s\n", "\u0665s", "1h30m", "1e3s", ".5s", "5.s", "9" * 17 + "s"),
        *("0.5ms", 5, 5.0, True, None, [], {}),
    ],
)
def test_anything_else_is_no_duration(value):
    with pytest.raises(ValueError, match=r"duration|finer"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("0B", 0), ("64KiB", 65536), ("1MiB", 1 << 20), ("1GiB", 1 << 30), ("2TiB", 1 << 41)]
)
def test_a_size_is_a_whole_number_and_a_unit(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "value", ["", "64", "64KB", "64kib", "1.5GiB", "-1B", "64 KiB", "9" * 17 + "B", 64, True, None]
)
def test_anything_else_is_no_size(value):
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "per_second"), [("50/s", 50), ("30/m", 0.5), ("36/h", 0.01), ("0.5/s", 0.5), ("1/h", 1 / 3600), ("", None)]
)
def test_a_rate_is_a_number_by_the_second_minute_or_hour(text, per_second):
    assert parse_rate(text) == per_second


@pytest.mark.parametrize(
    "value", ["50", "50/d", "0/s", "0.5/h", "-1/s", "1000001/s", "50 /s", "inf/s", "nan/s", 50, None]
)
def test_anything_else_is_no_rate(value):
    with pytest.raises(ValueError, match=r"rate|range|text"):
        parse_rate(value)


@given(st.integers(0, 10**14))
def test_every_duration_survives_being_shown(milliseconds):
    seconds = milliseconds / 1000
    assert parse_duration(show_duration(seconds)) == seconds


@given(st.integers(0, 10**14))
def test_a_spelled_duration_adds_up(milliseconds):
    total = sum(round(parse_duration(part) * 1000) for part in spell_duration(milliseconds / 1000).split())
    assert total == milliseconds


@given(st.integers(0, 2**53))
def test_every_size_survives_being_shown(size_bytes):
    assert parse_size(show_size(size_bytes)) == size_bytes


@given(st.integers(1, 10**9), st.integers(0, 6), st.sampled_from("smh"))
def test_every_rate_survives_being_shown(digits, places, unit):
    try:
        rate = parse_rate(f"{digits / 10**places:.{places}f}/{unit}")
    except ValueError:
        return
    assert rate is not None
    assert parse_rate(show_rate(rate)) == pytest.approx(rate, rel=1e-8)


@pytest.mark.parametrize(
    ("seconds", "text"), [(86_400, "24h"), (172_800, "2d"), (90, "90s"), (0.25, "250ms"), (0, "0s"), (3600, "1h")]
)
def test_a_duration_is_shown_in_its_largest_whole_unit_and_a_day_in_hours(seconds, text):
    assert show_duration(seconds) == text


def test_a_duration_is_spelled_with_every_unit_it_fills():
    assert spell_duration(75 * 3600 + 35 * 60 + 5) == "3d 3h 35m 5s"


def test_the_bounds_of_a_duration_belong_to_it():
    form = duration("1s", "1h")
    assert [form.parse("1s"), form.parse("1h")] == [1, 3600]
    for outside in ("999ms", "3601s"):
        with pytest.raises(ValueError, match="from 1s to 1h"):
            form.parse(outside)


@pytest.mark.parametrize("value", [0, 11, True, 1.0, "1", None, 10**400])
def test_a_whole_number_is_no_other_type_and_within_its_bounds(value):
    with pytest.raises(ValueError, match="must be"):
        integer(1, 10).parse(value)


def test_a_whole_number_may_stand_for_a_decimal_one():
    assert decimal(0, 1).parse(1) == 1.0


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), -float("inf"), True, "0.5", 10**400])
def test_a_decimal_number_is_finite_and_within_its_bounds(value):
    with pytest.raises(ValueError, match="must be a number"):
        decimal(0, 1).parse(value)


def test_every_bad_element_of_a_list_is_named():
    with pytest.raises(BadValueError) as caught:
        list_of(integer(0, 9), most=4).parse([1, "x", 2, 10])
    assert [where for where, _ in caught.value.faults] == [(1,), (3,)]


def test_a_list_has_a_most():
    with pytest.raises(ValueError, match="at most 2"):
        list_of(integer(0, 9), most=2).parse([1, 2, 3])
