"""Retry-After, as servers write it and as they should not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.net.retry_after import LONGEST_SECONDS, parse_retry_after

NOW_MS = 1_445_412_440_000
"""Wed, 21 Oct 2015 07:27:20 GMT."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b" 120\t", 120.0),
        (b"999999999999", LONGEST_SECONDS),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", 40.0),
        (b"Wednesday, 21-Oct-15 07:28:00 GMT", 40.0),
        (b"Wed Oct 21 07:28:00 2015", 40.0),
        (b"Sun Nov  1 07:27:20 2015", 11 * 86_400.0),
        (b"Wed, 21 Oct 2015 07:28:00", 40.0),
        (b"Wed, 21 Oct 2015 07:28:00 -0000", 40.0),
        (b"Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_SECONDS),
    ],
)
def test_both_forms_are_read(value, seconds):
    assert parse_retry_after(value, now_ms=NOW_MS) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"1.5",
        b"1e3",
        b"1e309",
        b"nan",
        b"inf",
        b"9" * 400,
        b"soon",
        b"120 s",
        b"\xff",
        b"Wed, 99 Foo 2015",
        b"Wed, 21 Oct 2015 99:99:99 GMT",
        b"Wed, 21 Oct 99999 07:28:00 GMT",
        "١٢".encode(),
    ],
)
def test_nonsense_is_ignored(value):
    assert parse_retry_after(value, now_ms=NOW_MS) is None


@given(st.binary(max_size=60), st.integers(0, 2**42))
def test_whatever_comes_the_wait_is_finite_and_bounded(value, now_ms):
    for text in (value, b"Wed, " + value, b"Wed Oct " + value):
        seconds = parse_retry_after(text, now_ms=now_ms)
        assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= LONGEST_SECONDS)
