"""Whatever comes back, a delivery ends after as many attempts as its plan has, or when it is too old."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.builders import failure, outcome, work
from tests.kit.values import replace
from webhookd.core.attempt import ErrorClass
from webhookd.core.delivery import EndReason
from webhookd.core.settings import Acknowledgement, DeliveryRules, RetryList
from webhookd.core.verdict import Blame, Dead, Delivered, RetryAt, blame, disables, judge

statuses = st.integers(100, 599)
answers = statuses.map(outcome)
faults = st.sampled_from(ErrorClass).map(failure)
outcomes = st.one_of(answers, faults)
rules = st.builds(
    DeliveryRules,
    ack=st.one_of(st.none(), st.frozensets(statuses, max_size=5)).map(Acknowledgement),
    retry=st.lists(st.integers(0, 3600).map(float), max_size=6).map(tuple).map(RetryList),
    jitter=st.floats(0, 1),
    give_up_after_seconds=st.integers(0, 20_000).map(float),
)
draws = st.floats(0, 1, exclude_max=True)


@given(rules, st.lists(st.tuples(outcomes, draws), min_size=1, max_size=30))
def test_a_delivery_never_outlives_its_plan_nor_its_age(of, results):
    owed, now_ms, spent = work(owed_since_ms=0, due_at_ms=0), 0, 0
    for result, draw in results:
        verdict = judge(owed, result, of, now_ms=now_ms, age_ms=now_ms, draw=draw)
        spent += blame(result, of) is not Blame.OURS
        if not isinstance(verdict, RetryAt):
            acknowledged = result.status is not None and of.ack.accepts(result.status)
            assert isinstance(verdict, Delivered) == acknowledged
            if isinstance(verdict, Dead) and verdict.reason is EndReason.RETRIES_EXHAUSTED:
                assert spent == len(of.retry.delays_seconds) + 1
            return
        assert verdict.retries_used == spent <= len(of.retry.delays_seconds)
        assert now_ms <= verdict.due_at_ms <= of.give_up_after_seconds * 1000
        owed = replace(owed, due_at_ms=verdict.due_at_ms, retries_used=verdict.retries_used)
        now_ms = verdict.due_at_ms


@given(rules, outcomes)
def test_no_blame_means_acknowledged_and_the_other_way_round(of, result):
    verdict = judge(work(), result, of, now_ms=0, age_ms=0, draw=0)
    assert (blame(result, of) is Blame.NONE) == isinstance(verdict, Delivered)


@given(rules, outcomes)
def test_what_disables_is_never_acknowledged(of, result):
    assert not (disables(result, of) and blame(result, of) is Blame.NONE)
