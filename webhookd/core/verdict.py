"""What an outcome means for its delivery and its endpoint: one pure function, `judge`."""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct

from webhookd.core.attempt import ErrorClass, Outcome
from webhookd.core.delivery import EndReason, Work
from webhookd.core.schedule import FAULT_DELAY_MS, retry_at_ms
from webhookd.core.settings import DeliveryRules, Gone


class Delivered(Struct, frozen=True):
    """The endpoint acknowledged."""


DELIVERED = Delivered()


class RetryAt(Struct, frozen=True):
    """Not acknowledged; owed again at `due_at_ms` (UTC), of which `retries_used` retries are then spent."""

    due_at_ms: int
    retries_used: int


class Dead(Struct, frozen=True):
    """Not acknowledged, and no attempt is left."""

    reason: EndReason


class StaysDelivered(Struct, frozen=True):
    """A delivery that had been acknowledged before was sent again and failed; it stays what it was."""


Verdict = Delivered | RetryAt | Dead | StaysDelivered


class Blame(Enum):
    """What an outcome says about its endpoint's ability to take requests."""

    NONE = auto()
    """It answered as it should."""
    DELIVERY = auto()
    """It answered and refused this delivery; others may fare better."""
    ENDPOINT = auto()
    """It could not be reached or is overloaded; others would fare no better now."""
    OURS = auto()
    """Our own machine was at fault; nothing is held against the endpoint."""


def is_acknowledged(outcome: Outcome, rules: DeliveryRules) -> bool:
    """Say whether the answer's status acknowledges the delivery; the body never matters."""
    return outcome.status is not None and rules.ack.accepts(outcome.status)


def judge(
    work: Work,
    outcome: Outcome,
    rules: DeliveryRules,
    *,
    now_ms: int,
    age_ms: int,
    draw: float,
    excused: bool = False,
) -> Verdict:
    """Return what becomes of the delivery after one more attempt.

    `now_ms` is when the outcome is judged, `age_ms` how long the delivery has been owed, `draw` a random number in
    [0, 1). A retry that would come after `give_up_after_seconds` is not waited for. A fault of our own, or one that is
    `excused` as such, spends no retry, but has to wait for the same delay, and for five seconds at least.
    """
    if is_acknowledged(outcome, rules):
        return DELIVERED
    if work.acknowledged:
        return StaysDelivered()
    due_at_ms = retry_at_ms(rules.retry, work.retries_used, now_ms=now_ms, jitter=rules.jitter, draw=draw)
    if excused or blame(outcome, rules) is Blame.OURS:
        due_at_ms = max(due_at_ms or 0, now_ms + FAULT_DELAY_MS)
        spent = work.retries_used
    else:
        spent = work.retries_used + 1
    if due_at_ms is None:
        return Dead(EndReason.RETRIES_EXHAUSTED)
    if age_ms + due_at_ms - now_ms > rules.give_up_after_seconds * 1000:
        return Dead(EndReason.TOO_OLD)
    return RetryAt(due_at_ms, spent)


def blame(outcome: Outcome, rules: DeliveryRules) -> Blame:
    """Return whom the outcome speaks against."""
    if outcome.error is not None:
        match outcome.error.kind:
            case ErrorClass.LOCAL:
                return Blame.OURS
            case ErrorClass.INTERNAL | ErrorClass.BLOCKED | ErrorClass.PROTOCOL:
                return Blame.DELIVERY
            case ErrorClass.TIMEOUT | ErrorClass.CONNECT | ErrorClass.DNS | ErrorClass.TLS:
                return Blame.ENDPOINT
    if is_acknowledged(outcome, rules):
        return Blame.NONE
    return Blame.ENDPOINT if outcome.status in _OVERLOADED else Blame.DELIVERY


_OVERLOADED = frozenset({429, 502, 503, 504})


def disables(outcome: Outcome, rules: DeliveryRules) -> bool:
    """Say whether the answer asks never to be called again (410)."""
    return outcome.status == 410 and rules.gone is Gone.DISABLE and not is_acknowledged(outcome, rules)


def hold_until_ms(outcome: Outcome, rules: DeliveryRules, *, now_ms: int) -> int | None:
    """Return until when a 429 or 503 with Retry-After asked that nothing be sent, within the configured bound."""
    if outcome.retry_after_seconds is None or outcome.status not in (429, 503):
        return None
    return now_ms + round(1000 * min(outcome.retry_after_seconds, rules.retry_after_max_seconds))
