"""Moments as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.times import parse_time_ms, time_text


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_323_045_678, "2026-01-02T03:04:05.678Z"),
        (1_767_323_045_000, "2026-01-02T03:04:05.000Z"),
        (4_102_444_800_001, "2100-01-01T00:00:00.001Z"),
        (None, None),
    ],
)
def test_times_are_written_in_utc_with_milliseconds(at_ms, text):
    assert time_text(at_ms) == text


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
        ("2026-01-02t03:04:05.6789z", 1_767_323_045_678),
        ("2026-01-02T03:04:05+02:00", 1_767_315_845_000),
        ("2026-01-02 03:04:05-00:30", 1_767_324_845_000),
        ("1969-12-31T23:59:59.5Z", -500),
        ("0001-01-01T00:00:00+23:00", -62_135_679_600_000),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139_000),
    ],
)
def test_times_are_read_in_any_offset(text, at_ms):
    assert parse_time_ms(text) == at_ms
    assert parse_time_ms(text, in_query=True) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02",
        "2026-13-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T25:04:05Z",
        "2026-01-02T03:04:05+99:00",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T03:04:05 Z",
        "2026-01-02T03:04:05UTC",
        "now",
        "1767323045",
        "\u0662026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        " 2026-01-02T03:04:05Z",
        "",
    ],
)
def test_what_is_no_time_with_an_offset_is_none(text):
    assert parse_time_ms(text) is None
    assert parse_time_ms(text, in_query=True) is None


def test_only_in_a_query_a_space_stands_for_a_plus():
    assert parse_time_ms("2026-01-02T03:04:05 02:00") is None
    assert parse_time_ms("2026-01-02T03:04:05 02:00", in_query=True) == 1_767_315_845_000


@given(st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999))
def test_what_is_written_is_read_as_the_same_moment(at_ms):
    assert parse_time_ms(time_text(at_ms) or "") == at_ms
