"""A store in memory: what the engine needs of one, for histories too long to be written to a disk."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from tests.kit.values import replace
from webhookd.core.attempt import Attempt, Trigger
from webhookd.core.delivery import Delivery, DeliveryState, EndReason, Work
from webhookd.core.endpoint import EndpointRecord, EndpointStatus, Health
from webhookd.core.event import Event
from webhookd.core.ids import DeliveryId, EndpointId, EventId, lowest_id_at
from webhookd.core.ports import (
    Acceptance,
    Answer,
    Clock,
    DueBatch,
    Endpoints,
    Head,
    Intake,
    Outbox,
    Settlement,
    Submission,
)
from webhookd.core.queries import ReplayFilter
from webhookd.errors import ConflictError, NotFoundError

T = TypeVar("T")


class EngineStore(Intake, Outbox, Endpoints, Protocol):
    """The roles of a store that the engine sends, retries and settles by."""


@dataclass(slots=True, kw_only=True)
class Row:
    """A delivery as it is kept; the fields are the columns of the real one."""

    id: DeliveryId
    event: Event
    endpoint_id: EndpointId
    owed_since_ms: int
    due_at_ms: int | None
    created_at_ms: int
    state: DeliveryState = DeliveryState.PENDING
    reason: str | None = None
    trigger: Trigger = Trigger.SCHEDULED
    attempt_count: int = 0
    retries_used: int = 0
    finished_at_ms: int | None = None
    acknowledged_at_ms: int | None = None
    replayed: bool = False

    def settle(self, told: Settlement) -> None:
        """Take one outcome in, as far as what has been done to the delivery since the attempt began lets it count."""
        attempt = told.attempt
        self.attempt_count = max(self.attempt_count, attempt.number)
        was_resent = self.trigger is Trigger.MANUAL and attempt.trigger is not Trigger.MANUAL
        if self.state is not DeliveryState.PENDING or (was_resent and told.state is not DeliveryState.DELIVERED):
            return
        self.trigger, self.replayed, self.retries_used = Trigger.SCHEDULED, False, told.retries_used
        if self.acknowledged_at_ms is None:
            self.state, self.reason = told.state, told.reason
            self.due_at_ms, self.finished_at_ms = told.due_at_ms, told.finished_at_ms
            return
        again = told.state is DeliveryState.DELIVERED
        self.state, self.reason, self.due_at_ms = DeliveryState.DELIVERED, None, None
        self.finished_at_ms = told.finished_at_ms if again else self.acknowledged_at_ms
        self.acknowledged_at_ms = None

    def owe_again(self, now_ms: int, *, replayed: bool) -> None:
        """Begin a fresh schedule."""
        if self.state is DeliveryState.DELIVERED:
            self.acknowledged_at_ms = self.finished_at_ms
        self.state, self.reason, self.trigger = DeliveryState.PENDING, None, Trigger.MANUAL
        self.retries_used, self.replayed, self.finished_at_ms = 0, replayed, None
        self.owed_since_ms = self.due_at_ms = now_ms

    def end(self, reason: EndReason, now_ms: int) -> None:
        """End what is pending for a reason that is not an outcome."""
        was_delivered = self.acknowledged_at_ms is not None
        self.state = DeliveryState.DELIVERED if was_delivered else DeliveryState.CANCELLED
        self.reason = None if was_delivered else reason.value
        self.finished_at_ms = self.acknowledged_at_ms if was_delivered else now_ms
        self.trigger, self.replayed, self.due_at_ms, self.acknowledged_at_ms = Trigger.SCHEDULED, False, None, None

    def work(self) -> Work:
        """Return it as the engine holds it; only what is pending."""
        assert self.due_at_ms is not None
        return Work(
            id=self.id,
            endpoint_id=self.endpoint_id,
            event=self.event,
            due_at_ms=self.due_at_ms,
            owed_since_ms=self.owed_since_ms,
            attempt_count=self.attempt_count,
            retries_used=self.retries_used,
            trigger=self.trigger,
            acknowledged=self.acknowledged_at_ms is not None,
            replayed=self.replayed,
        )


class MemoryStore:
    """Implements `EngineStore`, and the look-ups of `History` that tests judge by.

    Like the real one it commits in groups: a call waits for the commit under way, then for one of its own, each lasting
    `commit_seconds` of the clock; a read sees what is committed when it begins, and answers `read_seconds` later. That
    it answers as the real one does is for tests/property/test_memory_store.py to show.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        mint: Callable[[], int],
        idempotency_window_seconds: float,
        commit_seconds: float = 0.0,
        read_seconds: float = 0.0,
    ) -> None:
        self.rows: dict[DeliveryId, Row] = {}
        self.events: dict[EventId, Event] = {}
        self.records: dict[EndpointId, EndpointRecord] = {}
        self._attempts: dict[DeliveryId, list[Attempt]] = {}
        self._pending: dict[EndpointId, dict[DeliveryId, Row]] = {}
        self._keys: dict[tuple[str, str], tuple[Acceptance, bytes, int]] = {}
        self._clock = clock
        self._mint = mint
        self._window_ms = round(1000 * idempotency_window_seconds)
        self._commit_seconds = commit_seconds
        self._read_seconds = read_seconds
        self._waiting: list[Callable[[], None]] = []
        self._is_committing = False

    # Intake

    def accept(self, calls: Sequence[Sequence[Submission]]) -> Awaitable[list[Answer]]:
        return self._write(lambda: [self._answer(call) for call in calls])

    async def highest_id(self) -> int:
        return max([*self.rows, *self.events], default=0)

    # Outbox

    async def heads(self) -> list[Head]:
        found = []
        for endpoint_id in sorted(name for name, rows in self._pending.items() if rows):
            rows = self._pending[endpoint_id].values()
            found.append(
                Head(
                    endpoint_id=endpoint_id,
                    due_at_ms=min((row.due_at_ms for row in rows if not row.replayed), default=None),  # type: ignore[type-var]
                    replay_due_ms=min((row.due_at_ms for row in rows if row.replayed), default=None),  # type: ignore[type-var]
                    last_due_ms=max(row.due_at_ms for row in rows),  # type: ignore[type-var]
                )
            )
        return found

    async def bring_forward(self, endpoint_id: EndpointId, *, now_ms: int, latest_ms: int) -> int:
        def bring_forward() -> int:
            count = 0
            for row in self._pending.get(endpoint_id, {}).values():
                is_retry = row.attempt_count > 0 and row.trigger is Trigger.SCHEDULED
                may_wait_until_ms = latest_ms if is_retry else now_ms
                if not row.attempt_count:
                    may_wait_until_ms = max(may_wait_until_ms, row.event.deliver_at_ms or 0)
                if row.due_at_ms is not None and row.due_at_ms > may_wait_until_ms:
                    row.due_at_ms = latest_ms if is_retry else now_ms
                    count += 1
            return count

        return await self._write(bring_forward)

    async def due(
        self,
        endpoint_id: EndpointId,
        *,
        now_ms: int,
        limit: int,
        max_bytes: int,
        ordered: bool,
        exclude: Collection[DeliveryId],
        replay_limit: int = 0,
        replay_max_bytes: int = 0,
    ) -> DueBatch:
        rows = list(self._pending.get(endpoint_id, {}).values())
        left_out = frozenset(exclude)
        if ordered:
            waiting = sorted((row for row in rows if _due(row) > now_ms or row.id not in left_out), key=lambda r: r.id)
            batch = DueBatch(*_taken(waiting, now_ms, limit, max_bytes))
        else:
            waiting = sorted((row for row in rows if row.id not in left_out), key=lambda row: (_due(row), row.id))
            work, next_due_ms = _taken([row for row in waiting if not row.replayed], now_ms, limit, max_bytes)
            again, next_replay_ms = _taken(
                [row for row in waiting if row.replayed], now_ms, replay_limit, replay_max_bytes
            )
            batch = DueBatch(work + again, next_due_ms, next_replay_ms)
        await self._clock.sleep(self._read_seconds)
        return batch

    def settle(
        self,
        settlements: Sequence[Settlement],
        health: Mapping[EndpointId, Health],
        events: Sequence[Submission] = (),
    ) -> Awaitable[None]:
        return self._write(lambda: self._settle(settlements, health, events))

    def resend(self, delivery_id: DeliveryId, *, now_ms: int) -> Awaitable[Delivery]:
        return self._write(lambda: self._shown(self._owe_again(self._row(delivery_id), now_ms)))

    def resend_event(
        self, event_id: EventId, endpoint_id: EndpointId | None, *, now_ms: int
    ) -> Awaitable[list[Delivery]]:
        spare = DeliveryId(self._mint())
        return self._write(lambda: self._resend_event(event_id, endpoint_id, spare, now_ms))

    async def replay(self, which: ReplayFilter, *, now_ms: int) -> int:
        def owe() -> int:
            found = self._ended(which) if which.endpoint_id in self.records else []
            for row in found:
                self._owe_again(row, now_ms, replayed=True)
            return len(found)

        return await self._write(owe)

    async def replayable(self, which: ReplayFilter) -> int:
        return len(self._ended(which))

    def cancel(self, delivery_id: DeliveryId, *, now_ms: int) -> Awaitable[Delivery]:
        def cancel() -> Delivery:
            row = self._row(delivery_id)
            if row.state is not DeliveryState.PENDING:
                raise ConflictError("delivery_ended", f"already {row.state}")
            self._end(row, EndReason.OPERATOR, now_ms)
            return self._shown(row)

        return self._write(cancel)

    # Endpoints

    async def endpoints(self) -> list[EndpointRecord]:
        return [self.records[name] for name in sorted(self.records)]

    def put_endpoints(self, records: Sequence[EndpointRecord], events: Sequence[Submission] = ()) -> Awaitable[None]:
        def put() -> None:
            self.records.update({record.id: record for record in records})
            self._accept(events, 0)

        return self._write(put)

    def remove_endpoint(self, endpoint_id: EndpointId, *, now_ms: int) -> Awaitable[int]:
        def remove() -> int:
            ended = list(self._pending.get(endpoint_id, {}).values())
            for row in ended:
                self._end(row, EndReason.ENDPOINT_DELETED, now_ms)
            self.records.pop(endpoint_id, None)
            return sum(row.state is DeliveryState.CANCELLED for row in ended)

        return self._write(remove)

    # What of History tests need

    async def delivery(self, delivery_id: DeliveryId) -> Delivery:
        """Return the delivery. Raises NotFoundError."""
        return self._shown(self._row(delivery_id))

    async def attempts(self, delivery_id: DeliveryId) -> list[Attempt]:
        """Return every attempt of the delivery, oldest first."""
        return list(self._attempts.get(delivery_id, ()))

    async def close(self) -> None:
        """Do nothing: what was in memory is gone with it."""

    # One commit at a time, of all that waits.

    def _write(self, change: Callable[[], T]) -> asyncio.Future[T]:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def commit() -> None:
            try:
                result = change()
            except (ConflictError, NotFoundError) as refusal:
                if not answer.done():
                    answer.set_exception(refusal)
            else:
                if not answer.done():
                    answer.set_result(result)

        self._waiting.append(commit)
        if not self._is_committing:
            self._is_committing = True
            asyncio.get_running_loop().call_soon(self._begin)
        return answer

    def _begin(self) -> None:
        group, self._waiting = self._waiting, []
        if not group:
            self._is_committing = False
        elif self._commit_seconds > 0:
            self._clock.call_later(self._commit_seconds, lambda: self._commit(group))
        else:
            self._commit(group)

    def _commit(self, group: list[Callable[[], None]]) -> None:
        for commit in group:
            commit()
        asyncio.get_running_loop().call_soon(self._begin)

    # What a commit does

    def _answer(self, call: Sequence[Submission]) -> Answer:
        try:
            return self._accept(call, self._window_ms)
        except ConflictError as conflict:
            return conflict

    def _accept(self, submissions: Sequence[Submission], window_ms: int) -> list[Acceptance]:
        own: dict[tuple[str, str], tuple[Acceptance, bytes, int]] = {}
        answers = []
        for submission in submissions:
            event, key = submission.event, (submission.event.tenant, submission.idempotency_key or "")
            answer = Acceptance(event.id, duplicate=False, deliveries=len(submission.deliveries))
            if submission.idempotency_key is not None:
                before = own.get(key) or self._keys.get(key)
                if before is not None and before[2] > event.accepted_at_ms:
                    if before[1] != submission.fingerprint:
                        raise ConflictError("idempotency_conflict", "this key already stands for other content")
                    answer = replace(before[0], duplicate=True)
                else:
                    own[key] = answer, submission.fingerprint, event.accepted_at_ms + window_ms
            answers.append(answer)
        self._keys.update(own)
        for submission, answer in zip(submissions, answers, strict=True):
            if not answer.duplicate:
                self._insert(submission)
        return answers

    def _insert(self, submission: Submission) -> None:
        event = submission.event
        self.events[event.id] = event
        for delivery_id, endpoint_id in submission.deliveries:
            self._add(delivery_id, event, endpoint_id, event.accepted_at_ms, event.due_at_ms)

    def _add(
        self, delivery_id: DeliveryId, event: Event, endpoint_id: EndpointId, created_at_ms: int, due_at_ms: int
    ) -> Row:
        row = self.rows[delivery_id] = Row(
            id=delivery_id,
            event=event,
            endpoint_id=endpoint_id,
            created_at_ms=created_at_ms,
            owed_since_ms=due_at_ms,
            due_at_ms=due_at_ms,
        )
        self._pending.setdefault(endpoint_id, {})[delivery_id] = row
        return row

    def _settle(
        self, settlements: Sequence[Settlement], health: Mapping[EndpointId, Health], events: Sequence[Submission]
    ) -> None:
        for settlement in settlements:
            attempt = settlement.attempt
            row = self.rows[attempt.delivery_id]
            kept = self._attempts.setdefault(row.id, [])
            assert all(other.number != attempt.number for other in kept), "an attempt of that number is kept already"
            insort(kept, attempt, key=lambda one: one.number)
            row.settle(settlement)
            if row.state is not DeliveryState.PENDING:
                self._pending[row.endpoint_id].pop(row.id, None)
        for endpoint_id, value in health.items():
            if (record := self.records.get(endpoint_id)) is not None:
                self.records[endpoint_id] = replace(record, health=value)
        self._accept([event for event in events if self._is_true(event)], 0)

    def _is_true(self, told: Submission) -> bool:
        if told.death_of is None:
            return True
        row = self.rows[told.death_of]
        return row.state is DeliveryState.DEAD and row.finished_at_ms == told.event.accepted_at_ms

    def _owe_again(self, row: Row, now_ms: int, *, replayed: bool = False) -> Row:
        row.owe_again(now_ms, replayed=replayed)
        self._pending.setdefault(row.endpoint_id, {})[row.id] = row
        return row

    def _end(self, row: Row, reason: EndReason, now_ms: int) -> None:
        row.end(reason, now_ms)
        self._pending[row.endpoint_id].pop(row.id, None)

    def _resend_event(
        self, event_id: EventId, endpoint_id: EndpointId | None, spare: DeliveryId, now_ms: int
    ) -> list[Delivery]:
        event = self.events.get(event_id)
        if event is None:
            raise NotFoundError("there is no such event")
        if endpoint_id is not None and endpoint_id not in self.records:
            raise NotFoundError("there is no such endpoint")
        owed = [row for row in self.rows.values() if row.event is event and row.endpoint_id in self.records]
        if endpoint_id is not None:
            owed = [row for row in owed if row.endpoint_id == endpoint_id][:1]
            if not owed:
                added = self._add(spare, event, endpoint_id, now_ms, now_ms)
                added.trigger = Trigger.MANUAL
                return [self._shown(added)]
        return [self._shown(self._owe_again(row, now_ms)) for row in sorted(owed, key=lambda row: row.id)]

    def _ended(self, which: ReplayFilter) -> list[Row]:
        lowest = 0 if which.since_ms is None else lowest_id_at(which.since_ms)
        below = None if which.until_ms is None else lowest_id_at(which.until_ms)
        return [
            row
            for row in self.rows.values()
            if row.endpoint_id == which.endpoint_id
            and row.state in which.states
            and row.state is not DeliveryState.PENDING
            and row.id >= lowest
            and (below is None or row.id < below)
            and (not which.types or any(fnmatchcase(row.event.type, glob) for glob in which.types))
        ]

    def _row(self, delivery_id: DeliveryId) -> Row:
        row = self.rows.get(delivery_id)
        if row is None:
            raise NotFoundError("there is no such delivery")
        return row

    def _shown(self, row: Row) -> Delivery:
        record = self.records.get(row.endpoint_id)
        is_disabled = record is not None and record.health.status is EndpointStatus.DISABLED
        return Delivery(
            id=row.id,
            event_id=row.event.id,
            endpoint_id=row.endpoint_id,
            tenant=row.event.tenant,
            event_type=row.event.type,
            state=row.state,
            held=row.state is DeliveryState.PENDING and is_disabled,
            reason=row.reason,
            attempt_count=row.attempt_count,
            retries_used=row.retries_used,
            owed_since_ms=row.owed_since_ms,
            created_at_ms=row.created_at_ms,
            due_at_ms=row.due_at_ms,
            finished_at_ms=row.finished_at_ms,
        )


def _due(row: Row) -> int:
    assert row.due_at_ms is not None
    return row.due_at_ms


def _taken(rows: Sequence[Row], now_ms: int, limit: int, max_bytes: int) -> tuple[list[Work], int | None]:
    work: list[Work] = []
    size_bytes = 0
    for row in rows:
        due_ms = _due(row)
        size_bytes += len(row.event.payload) if due_ms <= now_ms else 0
        if due_ms > now_ms or len(work) == limit or (work and size_bytes > max_bytes):
            return work, due_ms
        work.append(row.work())
    return work, None
