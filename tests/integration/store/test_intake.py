"""What `Intake` promises."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.builders import event, submission
from tests.kit.clock import START_MS
from tests.kit.intake import accepted
from webhookd.core.ports import Acceptance, Store
from webhookd.core.queries import DeliveryFilter, EventFilter
from webhookd.core.settings import DAY
from webhookd.errors import ConflictError, NotFoundError

DAY_MS = int(DAY * 1000)

_tenants = itertools.count()


async def test_what_was_accepted_can_be_read(store: Store) -> None:
    handed_in = submission(to=("a", "b"))
    (answer,) = await accepted(store, [handed_in])
    assert answer == Acceptance(handed_in.event.id, duplicate=False, deliveries=2)
    assert await store.event(handed_in.event.id) == handed_in.event
    page = await store.deliveries(DeliveryFilter(event_id=handed_in.event.id), limit=10, before=None)
    assert [(d.id, d.endpoint_id) for d in reversed(page.items)] == list(handed_in.deliveries)


async def test_answers_stand_in_the_order_of_submissions(store: Store) -> None:
    batch = [submission(to=("a",) * n) for n in range(200)]
    answers = await accepted(store, batch)
    assert [(a.event_id, a.deliveries) for a in answers] == [(s.event.id, n) for n, s in enumerate(batch)]


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b'{"a":1e999,"a":NaN}', b"x" * 300_000])
async def test_payloads_come_back_as_they_came(store: Store, payload: bytes) -> None:
    handed_in = submission(event(payload=payload))
    await accepted(store, [handed_in])
    assert (await store.event(handed_in.event.id)).payload == payload


async def test_an_event_without_deliveries_is_kept(store: Store) -> None:
    handed_in = submission(to=())
    assert [a.deliveries for a in await accepted(store, [handed_in])] == [0]
    assert (await store.counts()).events == 1


async def test_no_submissions_are_no_rows(store: Store) -> None:
    assert await accepted(store, []) == []


async def test_calls_made_together_are_all_kept(store: Store) -> None:
    batch = [submission() for _ in range(300)]
    answers = await asyncio.gather(*(accepted(store, [one]) for one in batch))
    assert [a.event_id for (a,) in answers] == [s.event.id for s in batch]
    assert (await store.counts()).pending == 300


async def test_highest_id_is_the_highest_of_events_and_deliveries(store: Store) -> None:
    assert await store.highest_id() == 0
    first, second = submission(), submission(to=())
    await accepted(store, [first])
    assert await store.highest_id() == first.deliveries[0][0]
    await accepted(store, [second])
    assert await store.highest_id() == max(second.event.id, first.deliveries[0][0])


async def test_a_repeated_key_answers_the_original(store: Store) -> None:
    original, repeat = submission(to=("a", "b"), idempotency_key="k"), submission(idempotency_key="k")
    await accepted(store, [original])
    assert await accepted(store, [repeat]) == [Acceptance(original.event.id, duplicate=True, deliveries=2)]
    with pytest.raises(NotFoundError):
        await store.event(repeat.event.id)


async def test_a_repeated_key_in_one_call_answers_the_earlier_line(store: Store) -> None:
    first, second = submission(idempotency_key="k"), submission(idempotency_key="k")
    answers = await accepted(store, [first, second])
    assert [(a.event_id, a.duplicate) for a in answers] == [(first.event.id, False), (first.event.id, True)]


async def test_a_key_repeated_in_calls_made_together_is_stored_once(store: Store) -> None:
    batch = [submission(idempotency_key="k") for _ in range(50)]
    answers = [a for (a,) in await asyncio.gather(*(accepted(store, [one]) for one in batch))]
    assert {a.event_id for a in answers} == {batch[0].event.id}
    assert [a.duplicate for a in answers] == [False] + [True] * 49
    assert (await store.counts()).events == 1


async def test_keys_of_tenants_are_apart(store: Store) -> None:
    batch = [submission(event(tenant=tenant), idempotency_key="k") for tenant in ("a", "b")]
    assert [a.duplicate for a in await accepted(store, batch)] == [False, False]


async def test_other_content_under_a_key_is_a_conflict(store: Store) -> None:
    await accepted(store, [submission(idempotency_key="k", fingerprint=b"1")])
    with pytest.raises(ConflictError) as caught:
        await accepted(store, [submission(idempotency_key="k", fingerprint=b"2")])
    assert caught.value.slug == "idempotency_conflict"
    assert "line" not in caught.value.detail


async def test_a_conflict_names_its_line_and_refuses_the_whole_call_alone(store: Store) -> None:
    await accepted(store, [submission(idempotency_key="k", fingerprint=b"1")])
    bad = [submission(idempotency_key="new"), submission(idempotency_key="k", fingerprint=b"2")]
    before, refused, after = await asyncio.gather(
        accepted(store, [submission()]),
        accepted(store, bad),
        accepted(store, [submission(idempotency_key="new", fingerprint=b"other")]),
        return_exceptions=True,
    )
    assert isinstance(refused, ConflictError)
    assert refused.detail.startswith("line 2:")
    assert not before[0].duplicate
    # The key of the refused call stands for nothing, so a neighbour may use it for something else.
    assert not after[0].duplicate
    with pytest.raises(NotFoundError):
        await store.event(bad[0].event.id)


async def test_calls_handed_in_together_are_answered_each_for_itself(store: Store) -> None:
    await accepted(store, [submission(idempotency_key="k", fingerprint=b"1")])
    first, again = submission(idempotency_key="new"), submission(idempotency_key="new")
    refused = [submission(to=("a",)), submission(idempotency_key="k", fingerprint=b"2")]
    several = [submission(to=("a", "b")), submission(to=())]
    answers = await store.accept([[first], refused, [], several, [again]])
    assert isinstance(answers[1], ConflictError)
    assert [answers[0], *answers[2:]] == [
        [Acceptance(first.event.id, duplicate=False, deliveries=1)],
        [],
        [Acceptance(several[0].event.id, False, 2), Acceptance(several[1].event.id, False, 0)],
        [Acceptance(first.event.id, duplicate=True, deliveries=1)],
    ]
    with pytest.raises(NotFoundError):
        await store.event(refused[0].event.id)
    counts = await store.counts()
    assert (counts.events, counts.pending) == (4, 4)


async def test_an_expired_key_is_as_good_as_absent(store: Store) -> None:
    later = START_MS + DAY_MS
    await accepted(store, [submission(idempotency_key="k", fingerprint=b"1")])
    still = submission(event(accepted_at_ms=later - 1), idempotency_key="k", fingerprint=b"1")
    again = submission(event(accepted_at_ms=later), idempotency_key="k", fingerprint=b"2")
    assert [a.duplicate for a in await accepted(store, [still])] == [True]
    assert [a.duplicate for a in await accepted(store, [again])] == [False]
    repeat = submission(event(accepted_at_ms=later + DAY_MS - 1), idempotency_key="k", fingerprint=b"2")
    assert [a.event_id for a in await accepted(store, [repeat])] == [again.event.id]


async def test_a_duplicate_answers_the_number_of_deliveries_of_the_first_answer(store: Store) -> None:
    await accepted(store, [submission(to=("a", "b", "c"), idempotency_key="k")])
    assert [a.deliveries for a in await accepted(store, [submission(to=(), idempotency_key="k")])] == [3]


line = st.tuples(st.sampled_from([None, "k1", "k2", "k3"]), st.sampled_from([b"1", b"2"]))
# Groups of calls made together, of calls of several lines, with time passing between the groups.
histories = st.lists(
    st.tuples(st.integers(0, DAY_MS), st.lists(st.lists(line, min_size=1, max_size=4), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories)
async def test_keys_behave_like_a_dictionary_with_expiry(store: Store, history: list) -> None:
    """The store is shared by all examples; a tenant of its own keeps each apart."""
    tenant = f"tenant-{next(_tenants)}"
    model: dict[str, tuple[int, bytes, int]] = {}
    now_ms, expected, given_answers = START_MS, [], []
    for passed_ms, group in history:
        now_ms += passed_ms
        calls = []
        for lines in group:
            batch = [
                submission(event(tenant=tenant, accepted_at_ms=now_ms), idempotency_key=key, fingerprint=content)
                for key, content in lines
            ]
            calls.append(accepted(store, batch))
            trial, answer = dict(model), []
            for one in batch:
                key = one.idempotency_key
                known = trial.get(key) if key else None
                if known and known[2] > now_ms:
                    answer.append(known[0])
                    if known[1] != one.fingerprint:
                        answer = "conflict"
                        break
                else:
                    answer.append(one.event.id)
                    if key:
                        trial[key] = (one.event.id, one.fingerprint, now_ms + DAY_MS)
            if answer != "conflict":
                model = trial
            expected.append(answer)
        for call in calls:
            try:
                given_answers.append([a.event_id for a in await call])
            except ConflictError:
                given_answers.append("conflict")
    assert given_answers == expected
    kept = {one for answer in expected if answer != "conflict" for one in answer}
    page = await store.events(EventFilter(tenant=tenant), limit=500, before=None)
    assert {summary.id for summary in page.items} == kept
