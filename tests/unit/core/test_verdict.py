"""What came back decides what becomes of the delivery, and what is held against its endpoint."""

from __future__ import annotations

import pytest

from tests.kit.builders import failure, outcome, work
from webhookd.core.attempt import ErrorClass, Outcome
from webhookd.core.delivery import EndReason
from webhookd.core.settings import HOUR, Acknowledgement, DeliveryRules, Gone, RetryList
from webhookd.core.verdict import (
    Blame,
    Dead,
    Delivered,
    RetryAt,
    StaysDelivered,
    Verdict,
    blame,
    disables,
    hold_until_ms,
    is_acknowledged,
    judge,
)

NOW_MS = 1_735_689_600_000
RULES = DeliveryRules(retry=RetryList((10, 20)), jitter=0.1, give_up_after_seconds=100)
CREATED_ONLY = Acknowledgement(frozenset({201}))


def judged(
    result: Outcome,
    *,
    rules: DeliveryRules = RULES,
    retries_used: int = 0,
    acknowledged: bool = False,
    age_ms: int = 0,
    draw: float = 0.0,
) -> Verdict:
    owed = work(retries_used=retries_used, acknowledged=acknowledged)
    return judge(owed, result, rules, now_ms=NOW_MS, age_ms=age_ms, draw=draw)


FIRST_RETRY = RetryAt(NOW_MS + 10_000, 1)

# status, what the default list makes of it, whom it speaks against
ANSWERS = [
    (200, True, Blame.NONE),
    (201, True, Blame.NONE),
    (204, True, Blame.NONE),
    (226, True, Blame.NONE),
    (299, True, Blame.NONE),
    (199, False, Blame.DELIVERY),
    (300, False, Blame.DELIVERY),
    (301, False, Blame.DELIVERY),
    (302, False, Blame.DELIVERY),
    (304, False, Blame.DELIVERY),
    (308, False, Blame.DELIVERY),
    (400, False, Blame.DELIVERY),
    (401, False, Blame.DELIVERY),
    (404, False, Blame.DELIVERY),
    (408, False, Blame.DELIVERY),
    (410, False, Blame.DELIVERY),
    (429, False, Blame.ENDPOINT),
    (500, False, Blame.DELIVERY),
    (501, False, Blame.DELIVERY),
    (502, False, Blame.ENDPOINT),
    (503, False, Blame.ENDPOINT),
    (504, False, Blame.ENDPOINT),
    (599, False, Blame.DELIVERY),
]

FAULTS = {
    ErrorClass.TIMEOUT: Blame.ENDPOINT,
    ErrorClass.CONNECT: Blame.ENDPOINT,
    ErrorClass.DNS: Blame.ENDPOINT,
    ErrorClass.TLS: Blame.ENDPOINT,
    ErrorClass.BLOCKED: Blame.DELIVERY,
    ErrorClass.PROTOCOL: Blame.DELIVERY,
    ErrorClass.INTERNAL: Blame.DELIVERY,
    ErrorClass.LOCAL: Blame.OURS,
}


@pytest.mark.parametrize(("status", "acknowledged"), [row[:2] for row in ANSWERS])
def test_only_200_to_299_acknowledge_by_default(status, acknowledged):
    assert judged(outcome(status)) == (Delivered() if acknowledged else FIRST_RETRY)


@pytest.mark.parametrize(("status", "against"), [(row[0], row[2]) for row in ANSWERS])
def test_an_answer_speaks_against_the_endpoint_only_when_it_is_overloaded(status, against):
    assert blame(outcome(status), RULES) is against


@pytest.mark.parametrize("kind", ErrorClass)
def test_an_attempt_without_an_answer_speaks_against_whoever_broke_it(kind):
    assert blame(failure(kind), RULES) is FAULTS[kind]


@pytest.mark.parametrize("status", [200, 202, 299])
def test_a_list_acknowledges_nothing_beside_it(status):
    rules = DeliveryRules(retry=RetryList((10,)), ack=CREATED_ONLY)
    assert judged(outcome(status), rules=rules) == FIRST_RETRY
    assert blame(outcome(status), rules) is Blame.DELIVERY


@pytest.mark.parametrize("status", [201, 304, 410, 429, 503])
def test_a_list_may_acknowledge_any_status(status):
    rules = DeliveryRules(ack=Acknowledgement(frozenset({status})))
    assert judged(outcome(status), rules=rules) == Delivered()
    assert blame(outcome(status), rules) is Blame.NONE
    assert not disables(outcome(status), rules)


def test_the_body_of_an_answer_decides_nothing():
    assert judged(outcome(200, excerpt=b'{"error":"failed"}')) == Delivered()
    assert judged(outcome(500, excerpt=b'{"ok":true}')) == FIRST_RETRY


@pytest.mark.parametrize("kind", ErrorClass)
def test_nothing_without_an_answer_acknowledges(kind):
    assert not is_acknowledged(failure(kind), RULES)


@pytest.mark.parametrize("kind", [kind for kind in ErrorClass if kind is not ErrorClass.LOCAL])
def test_an_attempt_without_an_answer_spends_a_retry(kind):
    assert judged(failure(kind)) == FIRST_RETRY


@pytest.mark.parametrize("retries_used", [0, 1])
def test_a_fault_of_our_own_waits_its_delay_but_spends_no_retry(retries_used):
    verdict = judged(failure(ErrorClass.LOCAL), retries_used=retries_used)
    assert verdict == RetryAt(NOW_MS + [10_000, 20_000][retries_used], retries_used)


def test_a_fault_of_our_own_is_tried_again_although_no_retry_is_left():
    assert judged(failure(ErrorClass.LOCAL), retries_used=2) == RetryAt(NOW_MS + 5_000, 2)


def test_a_fault_of_our_own_is_not_tried_again_within_five_seconds():
    hasty = DeliveryRules(jitter=0.0, retry=RetryList((0.01,)))
    verdict = judge(work(), failure(ErrorClass.LOCAL), hasty, now_ms=NOW_MS, age_ms=0, draw=0.0)
    assert verdict == RetryAt(NOW_MS + 5_000, 0)


def test_a_fault_of_our_own_does_not_keep_a_delivery_beyond_its_age():
    assert judged(failure(ErrorClass.LOCAL), retries_used=2, age_ms=99_000) == Dead(EndReason.TOO_OLD)


def test_the_draw_lengthens_the_wait():
    assert judged(outcome(500), draw=0.5) == RetryAt(NOW_MS + 10_500, 1)


def test_the_second_failure_waits_the_second_delay():
    assert judged(outcome(500), retries_used=1) == RetryAt(NOW_MS + 20_000, 2)


def test_a_failure_after_the_last_retry_is_the_end():
    assert judged(outcome(500), retries_used=2) == Dead(EndReason.RETRIES_EXHAUSTED)


def test_without_retries_the_first_failure_is_the_end():
    assert judged(outcome(500), rules=DeliveryRules(retry=RetryList(()))) == Dead(EndReason.RETRIES_EXHAUSTED)


def test_the_last_attempt_may_still_deliver_however_old():
    assert judged(outcome(200), retries_used=2, age_ms=10**12) == Delivered()


@pytest.mark.parametrize(("age_ms", "verdict"), [(90_000, FIRST_RETRY), (90_001, Dead(EndReason.TOO_OLD))])
def test_a_retry_beyond_the_age_limit_is_not_waited_for(age_ms, verdict):
    assert judged(outcome(500), age_ms=age_ms) == verdict


def test_exhausted_retries_are_named_before_age():
    assert judged(outcome(500), retries_used=2, age_ms=10**12) == Dead(EndReason.RETRIES_EXHAUSTED)


@pytest.mark.parametrize("result", [outcome(500), outcome(410), *map(failure, ErrorClass)], ids=str)
def test_a_delivery_that_was_acknowledged_before_stays_delivered_whatever_comes_back(result):
    assert judged(result, acknowledged=True) == StaysDelivered()


def test_a_delivery_that_was_acknowledged_before_may_be_acknowledged_again():
    assert judged(outcome(200), acknowledged=True) == Delivered()


def test_410_disables():
    assert disables(outcome(410), RULES)


def test_410_only_fails_where_it_is_so_configured():
    assert not disables(outcome(410), DeliveryRules(gone=Gone.FAIL))


@pytest.mark.parametrize("result", [outcome(200), outcome(404), outcome(411), failure()], ids=str)
def test_nothing_but_410_disables(result):
    assert not disables(result, RULES)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_the_endpoint(status):
    assert hold_until_ms(outcome(status, retry_after_seconds=2.5), RULES, now_ms=NOW_MS) == NOW_MS + 2_500


def test_retry_after_holds_no_longer_than_configured():
    asked_for_a_year = outcome(503, retry_after_seconds=365 * 24 * HOUR)
    assert hold_until_ms(asked_for_a_year, RULES, now_ms=NOW_MS) == NOW_MS + 3_600_000


@pytest.mark.parametrize("status", [200, 301, 500, 502, 504])
def test_retry_after_means_nothing_on_other_answers(status):
    assert hold_until_ms(outcome(status, retry_after_seconds=2.5), RULES, now_ms=NOW_MS) is None


def test_an_overload_without_retry_after_holds_nothing():
    assert hold_until_ms(outcome(503), RULES, now_ms=NOW_MS) is None


@pytest.mark.parametrize("retry_after_seconds", [0.0, 5.0, 3600.0])
def test_retry_after_leaves_the_schedule_alone(retry_after_seconds):
    assert judged(outcome(503, retry_after_seconds=retry_after_seconds)) == FIRST_RETRY
