"""Ids grow with time inside, and read as sortable text outside."""

from __future__ import annotations

import pytest

from webhookd.core.ids import (
    EPOCH_MS,
    DeliveryId,
    EventId,
    IdGenerator,
    delivery_text,
    event_text,
    is_endpoint_id,
    lowest_id_at,
    parse_delivery_id,
    parse_event_id,
)
from webhookd.errors import NotFoundError

NOW_MS = 1_735_689_600_000
LARGEST = 2**63 - 1


def test_an_id_carries_the_millisecond_it_was_minted_in():
    minted = IdGenerator().mint(NOW_MS)
    assert lowest_id_at(NOW_MS) <= minted < lowest_id_at(NOW_MS + 1)


def test_ids_of_one_millisecond_differ():
    ids = IdGenerator()
    assert ids.mint(NOW_MS) < ids.mint(NOW_MS) < ids.mint(NOW_MS)


def test_more_ids_than_fit_a_millisecond_run_ahead_of_the_clock():
    ids = IdGenerator()
    minted = [ids.mint(NOW_MS) for _ in range((1 << 16) + 1)]
    assert len(set(minted)) == len(minted)
    assert minted == sorted(minted)
    assert minted[-2] < lowest_id_at(NOW_MS + 1) <= minted[-1]


def test_a_clock_that_goes_back_brings_no_id_back():
    ids = IdGenerator()
    before = ids.mint(NOW_MS)
    assert ids.mint(NOW_MS - 432_000_000) > before


def test_a_restart_goes_on_above_the_highest_id_although_the_clock_went_back():
    highest = IdGenerator(node=63).mint(NOW_MS)
    assert IdGenerator(highest=highest).mint(NOW_MS - 1) > highest


def test_a_restart_within_the_same_millisecond_repeats_nothing():
    before = IdGenerator()
    minted = {before.mint(NOW_MS) for _ in range(100)}
    after = IdGenerator(highest=max(minted))
    assert minted.isdisjoint({after.mint(NOW_MS) for _ in range(100)})


def test_a_machine_that_thinks_it_is_1970_mints_no_id_twice_over_a_restart():
    first = IdGenerator().mint(0)
    assert first > 0
    assert IdGenerator(highest=first).mint(0) > first


def test_two_nodes_never_mint_the_same_id():
    one, other = IdGenerator(node=0), IdGenerator(node=1)
    assert {one.mint(NOW_MS) for _ in range(100)}.isdisjoint({other.mint(NOW_MS) for _ in range(100)})


@pytest.mark.parametrize("node", [-1, 64])
def test_a_node_outside_its_six_bits_is_refused(node):
    with pytest.raises(ValueError, match=f"not {node}"):
        IdGenerator(node=node)


def test_the_range_of_a_time_before_the_epoch_starts_at_the_first_id():
    assert lowest_id_at(EPOCH_MS - 1) == lowest_id_at(0) == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "evt_00000000000"),
        (61, "evt_0000000000z"),
        (62, "evt_00000000010"),
        (LARGEST, "evt_AzL8n0Y58m7"),
    ],
)
def test_an_event_id_is_eleven_digits_of_base_62(number, text):
    assert event_text(EventId(number)) == text
    assert parse_event_id(text) == number


def test_a_delivery_id_reads_back():
    minted = DeliveryId(IdGenerator().mint(NOW_MS))
    assert delivery_text(minted).startswith("dlv_")
    assert parse_delivery_id(delivery_text(minted)) == minted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt_",
        "dlv_00000000001",
        "00000000001",
        "evt_0000000001",
        "evt_000000000001",
        "evt_0000000000!",
        "evt_0000000000é",
        "evt_0000000000٣",
        "evt_00000000001\n",
        "EVT_00000000001",
        "evt_AzL8n0Y58m8",
        "evt_zzzzzzzzzzz",
    ],
)
def test_an_id_that_was_never_minted_names_nothing(text):
    with pytest.raises(NotFoundError, match="there is no event"):
        parse_event_id(text)


def test_the_refusal_of_an_id_repeats_only_its_beginning():
    with pytest.raises(NotFoundError) as refused:
        parse_delivery_id("x" * 100_000)
    assert len(str(refused.value)) < 80


@pytest.mark.parametrize("slug", ["a", "0", "orders", "ep_1-b", "a" * 64])
def test_a_slug_may_name_an_endpoint(slug):
    assert is_endpoint_id(slug)


@pytest.mark.parametrize("slug", ["", "_a", "-a", "A", "a.b", "a/b", "a b", "é", "a\n", "a" * 65])
def test_anything_else_may_not_name_an_endpoint(slug):
    assert not is_endpoint_id(slug)
