"""Builders give valid values that do not collide."""

from __future__ import annotations

from tests.kit import builders
from webhookd.core.delivery import DeliveryState


def test_ids_grow_and_never_repeat():
    first, second = builders.event(), builders.event()
    assert first.id < second.id
    assert builders.work().id > second.id


def test_a_submission_owes_one_delivery_to_each_endpoint():
    submission = builders.submission(to=("a", "b"))
    assert [endpoint for _, endpoint in submission.deliveries] == ["a", "b"]
    assert len({delivery for delivery, _ in submission.deliveries}) == 2


def test_settlements_continue_the_numbers_of_their_delivery():
    owed = builders.work(attempt_count=3, retries_used=3)
    retried = builders.retried(owed, due_at_ms=9)
    assert (retried.attempt.number, retried.retries_used, retried.state) == (4, 4, DeliveryState.PENDING)
    assert builders.delivered(owed).state is DeliveryState.DELIVERED
    assert builders.died(owed).reason == "retries_exhausted"
