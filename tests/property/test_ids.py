"""Ids sort as text like the numbers they are, and only grow."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.ids import EventId, IdGenerator, event_text, parse_event_id

numbers = st.integers(min_value=0, max_value=2**63 - 1)
moments_ms = st.integers(min_value=0, max_value=3_000_000_000_000)


@given(numbers, numbers)
def test_ids_sort_as_text_like_the_numbers(one, other):
    assert (event_text(EventId(one)) < event_text(EventId(other))) == (one < other)


@given(numbers)
def test_every_id_reads_back(number):
    assert parse_event_id(event_text(EventId(number))) == number


@given(st.lists(st.lists(moments_ms, min_size=1), min_size=1, max_size=5), st.integers(0, 63))
def test_ids_only_grow_whatever_the_clock_does_and_however_often_we_restart(runs, node):
    minted = []
    for moments in runs:
        ids = IdGenerator(highest=minted[-1] if minted else 0, node=node)
        minted += [ids.mint(now_ms) for now_ms in moments]
    assert all(earlier < later for earlier, later in pairwise(minted))
    assert minted[0] >= 0
    assert minted[-1] < 2**63
