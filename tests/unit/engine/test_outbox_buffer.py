"""The buffer as a cache: whatever changes on disk while something is in memory is looked at again."""

from __future__ import annotations

from tests.kit import builders
from webhookd.engine.outbox_buffer import OutboxBuffer

NOW_MS = 5_000


def test_what_is_resent_between_its_outcome_and_the_word_of_it_is_looked_for_on_disk() -> None:
    """The store may apply the outcome first and the resend second, and still tell of the resend first."""
    buffer, work = OutboxBuffer(), builders.work()
    buffer.add(work)
    buffer.take()
    buffer.changed_on_disk(work.id, NOW_MS)
    buffer.begin_refill()
    assert work.id in buffer.known
    buffer.release(work.id, None)
    buffer.end_refill([builders.work()], None)
    assert (buffer.count, buffer.disk_due_ms) == (0, NOW_MS)


def test_what_was_read_before_a_change_is_read_again() -> None:
    buffer, work = OutboxBuffer(), builders.work()
    buffer.begin_refill()
    buffer.changed_on_disk(work.id, NOW_MS)
    buffer.end_refill([work], None)
    assert (buffer.count, buffer.disk_due_ms) == (0, NOW_MS)


def test_what_is_being_read_while_the_buffer_is_emptied_is_read_again() -> None:
    """The rules it is read by, such as the order, may be what has changed."""
    buffer, work = OutboxBuffer(), builders.work()
    buffer.begin_refill()
    buffer.empty()
    buffer.end_refill([work], None)
    assert (buffer.count, buffer.bytes, buffer.disk_due_ms) == (0, 0, work.due_at_ms)


def test_a_change_of_what_is_buffered_frees_its_memory() -> None:
    buffer, work = OutboxBuffer(), builders.work()
    buffer.add(work)
    held = buffer.bytes
    assert buffer.changed_on_disk(work.id, NOW_MS) == held
    assert (buffer.count, buffer.bytes, buffer.known, buffer.disk_due_ms) == (0, 0, set(), NOW_MS)


def test_what_is_replayed_while_its_last_attempt_is_in_flight_is_looked_for_when_that_is_over() -> None:
    """It was cancelled in flight and then replayed: the read that follows must leave it out, and a later one not."""
    buffer, flying, waiting = OutboxBuffer(), builders.work(), builders.work()
    buffer.add(flying)
    buffer.take()
    buffer.add(waiting)
    buffer.look_again(NOW_MS)
    buffer.begin_refill()
    buffer.end_refill([], None)
    assert buffer.first_on_disk_ms() is None
    buffer.release(flying.id, None)
    assert buffer.disk_due_ms == NOW_MS
    buffer.take()
    buffer.begin_refill()
    buffer.end_refill([], None)
    buffer.release(waiting.id, None)
    assert buffer.disk_due_ms is None
