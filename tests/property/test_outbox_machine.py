"""Every step of an outbox's life against a model in plain dicts, which says beforehand what must be on disk after it.

test_engine_model.py tells random histories and knows what may never be; its oracle is the database itself. Here the
model knows nothing of the database: it is told what producers, receivers and operators did, works out every row, and
the disk is compared with it after each step. Receivers answer when a rule lets them and commits can be held up, so that
a crash falls between any attempt, its answer, its commit and the news of that. A failure shrinks to the few steps it
needs.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.engine import EngineUnderTest, SimpleSchema
from tests.kit.starting import StartsBySending
from tests.kit.values import replace
from webhookd.core.attempt import AttemptError, ErrorClass, Outcome, Trigger
from webhookd.core.delivery import DeliveryState, EndReason, Work
from webhookd.core.endpoint import DisabledReason
from webhookd.core.ids import DeliveryId, EndpointId, EventId
from webhookd.core.ports import Acceptance, Settlement, Submission
from webhookd.core.settings import DeliveryRules, EndpointDefinition, Ingest, RetryList
from webhookd.errors import ConflictError
from webhookd.store.sqlite import SqliteStore

T = TypeVar("T")

PLAIN, OTHER, ORDERED = (EndpointId(name) for name in ("plain", "other", "ordered"))
NAMES = (PLAIN, OTHER, ORDERED)
PLAN = (2.0, 20.0, 200.0)
WINDOW_SECONDS = 3600.0
DAY_MS = 86_400_000
RULES = DeliveryRules(
    retry=RetryList(PLAN),
    timeout_seconds=10.0,
    concurrency=2,
    give_up_after_seconds=3650.0 * 86_400,
    disable_after_days=2,
    disable_min_failures=3,
)
LULL = 4
"""Steps of a life before it may end: else most of what is tried is one start after the other."""
FEW = st.integers(min_value=0, max_value=7)
MANY = st.integers(min_value=0, max_value=1000)
"""Which one of those there are, counted around."""
THEN = st.sampled_from([None, 200, 500])
AMONG = st.sampled_from(["flying", "waiting", "any"])


class Schema(SimpleSchema):
    """Gives every endpoint the rules of this test, and takes those for which nothing is to be left to chance."""

    def resolve(self, endpoint_id: EndpointId, given: Mapping[str, object], **more: Any) -> EndpointDefinition:
        types = ("a", "b") if endpoint_id == PLAIN else ("b",) if endpoint_id == OTHER else ("b", "c")
        rules = replace(RULES, ordered=endpoint_id == ORDERED)
        return replace(super().resolve(endpoint_id, given, **more), types=types, rules=rules)


TYPES = ["a", "a", "b", "b", "b", "c", "d"]
TAKES = {"a": {PLAIN}, "b": {PLAIN, OTHER, ORDERED}, "c": {ORDERED}, "d": set()}


@dataclass(slots=True)
class Owed:
    """A delivery as the model has it."""

    endpoint_id: EndpointId
    event_id: EventId
    owed_since_ms: int
    due_ms: int | None
    state: str = "pending"
    reason: str | None = None
    attempts: int = 0
    retries: int = 0
    manual: bool = False
    was_delivered: bool = False
    log: list[tuple[int, int | None, bool]] = field(default_factory=list)
    """Number, status and whether it was manual, of each attempt whose outcome is on disk."""


@dataclass(slots=True)
class Receiver:
    """An endpoint as the model has it."""

    birth: int
    disabled: DisabledReason | None = None
    dates: set[int] = field(default_factory=set)
    failures: int = 0


@dataclass(slots=True)
class Flight:
    """An attempt that waits for a rule to answer it."""

    work: Work
    birth: int
    answer: asyncio.Future[Outcome]


class Model:
    """What must be on disk, by what is known to have been committed."""

    def __init__(self) -> None:
        self.owed: dict[DeliveryId, Owed] = {}
        self.receivers: dict[EndpointId, Receiver] = {}
        self.keys: dict[str, tuple[EventId, int, bytes, int]] = {}
        self.events: set[EventId] = set()
        self.answered: dict[tuple[DeliveryId, int], tuple[int | None, int, int]] = {}
        """Status, moment of the answer and birth of the endpoint, of every attempt that was answered."""
        self.highest_id = 0
        self.births = 0

    def born(self, name: EndpointId) -> None:
        self.births += 1
        self.receivers[name] = Receiver(self.births)

    def accept(self, submissions: Sequence[Submission]) -> list[Acceptance] | type[ConflictError]:
        """Say what the answer must be, and take it in."""
        (submission,) = submissions
        event, key = submission.event, submission.idempotency_key
        if key is not None:
            known = self.keys.get(key)
            if known is not None and known[3] > event.accepted_at_ms:
                if known[2] != event.payload:
                    return ConflictError
                return [Acceptance(known[0], duplicate=True, deliveries=known[1])]
            expires_ms = event.accepted_at_ms + round(1000 * WINDOW_SECONDS)
            self.keys[key] = event.id, len(submission.deliveries), event.payload, expires_ms
        for id_ in (event.id, *(delivery_id for delivery_id, _ in submission.deliveries)):
            assert id_ > self.highest_id, "an id that does not grow"
            self.highest_id = id_
        self.events.add(event.id)
        for delivery_id, name in submission.deliveries:
            self.owed[delivery_id] = Owed(name, event.id, event.due_at_ms, event.due_at_ms)
        return [Acceptance(event.id, duplicate=False, deliveries=len(submission.deliveries))]

    def settle(self, told: Settlement) -> None:
        """Work out what an attempt made of its delivery; only the jitter is taken from `told`."""
        attempt = told.attempt
        owed = self.owed[attempt.delivery_id]
        status, ended_ms, birth = self.answered[attempt.delivery_id, attempt.number]
        is_manual = attempt.trigger is Trigger.MANUAL
        owed.log.append((attempt.number, status, is_manual))
        owed.attempts = max(owed.attempts, attempt.number)
        receiver = self.receivers.get(owed.endpoint_id)
        if receiver is not None and receiver.birth == birth:
            self._judge(receiver, status, ended_ms)
        if owed.state != "pending" or (owed.manual and not is_manual and status != 200):
            return
        if status == 200 or owed.was_delivered:
            owed.state, owed.due_ms = "delivered", None
        elif told.retries_used > len(PLAN) or told.state is DeliveryState.DEAD:
            assert owed.retries == len(PLAN), "given up before its plan was through"
            owed.state, owed.reason, owed.due_ms = "dead", EndReason.RETRIES_EXHAUSTED, None
        else:
            delay_ms = 1000 * PLAN[owed.retries]
            assert told.due_at_ms is not None
            assert ended_ms + delay_ms <= told.due_at_ms <= ended_ms + 1.1 * delay_ms + 1
            owed.due_ms = told.due_at_ms
            owed.retries += 1
        owed.manual = owed.was_delivered = False

    def _judge(self, receiver: Receiver, status: int | None, ended_ms: int) -> None:
        if status == 200:
            receiver.dates, receiver.failures = set(), 0
            return
        receiver.dates.add(ended_ms // DAY_MS)
        receiver.failures += 1
        if receiver.disabled is None:
            if status == 410:
                receiver.disabled = DisabledReason.GONE
            elif len(receiver.dates) >= 2 and receiver.failures >= 3:
                receiver.disabled = DisabledReason.FAILING

    def resend(self, delivery_id: DeliveryId, now_ms: int) -> None:
        owed = self.owed[delivery_id]
        owed.was_delivered = owed.was_delivered or owed.state == "delivered"
        owed.state, owed.reason, owed.retries, owed.manual = "pending", None, 0, True
        owed.owed_since_ms = owed.due_ms = now_ms

    def end(self, delivery_id: DeliveryId, reason: EndReason) -> None:
        owed = self.owed[delivery_id]
        owed.state, owed.reason = ("delivered", None) if owed.was_delivered else ("cancelled", reason)
        owed.due_ms, owed.manual, owed.was_delivered = None, False, False

    def removed(self, name: EndpointId) -> None:
        for delivery_id, owed in self.owed.items():
            if owed.endpoint_id == name and owed.state == "pending":
                self.end(delivery_id, EndReason.ENDPOINT_DELETED)
        self.receivers.pop(name, None)


class Gate:
    """A store whose commits can be held up, before they are made or before they are told; the model learns of each."""

    def __init__(self, store: Any, model: Model) -> None:
        self._store = store
        self._model = model
        self.holds: str | None = None
        self._held: list[Callable[[], None]] = []
        self._last: asyncio.Future[Any] | None = None
        self.wrong: list[BaseException] = []

    def __getattr__(self, name: str) -> Any:
        if name not in {"accept", "settle", "put_endpoints", "resend", "cancel", "remove_endpoint"}:
            return getattr(self._store, name)
        return lambda *args, **kwargs: self._write(name, args, kwargs)

    def hold(self, what: str) -> None:
        self.holds = what

    def let_go(self) -> None:
        self.holds = None
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    def kill(self) -> None:
        """Hear nothing any more, and forget what is held up."""
        self.holds = "killed"
        self._held.clear()

    def _write(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        answer = asyncio.get_running_loop().create_future()

        def tell(done: asyncio.Future[Any]) -> None:
            if answer.done():
                return
            if (error := done.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(done.result())

        def committed(done: asyncio.Future[Any]) -> None:
            try:
                self._learn(name, args, kwargs, done.exception() or done.result())
            except BaseException as error:  # noqa: BLE001 - raised by the machine, where it is seen
                self.wrong.append(error)
            if self.holds is None:
                tell(done)
            else:
                self._held.append(lambda: tell(done))

        async def in_turn(before: asyncio.Future[Any] | None) -> Any:
            # Of calls that share a transaction, those that are refused are answered first; the model wants their order.
            if before is not None:
                await asyncio.wait([before])
            return await getattr(self._store, name)(*args, **kwargs)

        def commit() -> None:
            self._last = asyncio.ensure_future(in_turn(self._last))
            self._last.add_done_callback(committed)

        if self.holds in ("commits", "killed"):
            self._held.append(commit)
        else:
            commit()
        return answer

    def _learn(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        match name:
            case "accept":
                for call, answer in zip(args[0], result, strict=True):
                    expected = self._model.accept(call)
                    assert expected == (type(answer) if isinstance(answer, BaseException) else answer)
            case "settle":
                for settlement in args[0]:
                    self._model.settle(settlement)
            case "resend" if not isinstance(result, BaseException):
                self._model.resend(args[0], kwargs["now_ms"])
            case "cancel" if not isinstance(result, BaseException):
                self._model.end(args[0], EndReason.OPERATOR)
            case "remove_endpoint":
                self._model.removed(args[0])
            case _:
                pass


class GatedEngine(EngineUnderTest):
    """An engine behind such a gate."""

    model: Model

    async def _open(self) -> SqliteStore:
        self.gate = Gate(await super()._open(), self.model)
        return cast("SqliteStore", self.gate)


class OutboxMachine(StartsBySending, RuleBasedStateMachine):
    """Producers, receivers, operators and crashes, as hypothesis thinks them up."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="wd")
        self.clock = VirtualClock()
        self.model = Model()
        self.lives = 0
        self.drafts: list[Any] = []
        self.all_are_well = False
        self.run(self.begin(Path(self.directory.name) / "0"))
        for name in NAMES:
            self.create_now(name)

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        async def and_settle() -> T:
            result = await what
            await self.clock.settle()
            return result

        return self.loop.run_until_complete(and_settle())

    async def begin(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.flights: list[Flight] = []
        self.wrong: list[BaseException] = []
        self.unanswered: list[asyncio.Future[Any]] = []
        self.silent_until_ms: dict[EndpointId, int] = {}
        self.began = self.clock.monotonic()
        self.happenings = 0
        ingest = Ingest(idempotency_window_seconds=WINDOW_SECONDS)
        self.engine = GatedEngine(self.clock, path / "webhookd.db", seed=self.lives, max_in_flight=64, ingest=ingest)
        self.engine.model = self.model
        self.engine.schema = Schema()
        self.engine.sender = self  # type: ignore[assignment]
        await self.engine.start([])

    # The network

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        """Fill the Sender port: wait until a rule answers, and time out as the real one does."""
        try:
            self.may_begin(work)
        except AssertionError as error:
            self.wrong.append(error)
        if self.all_are_well:
            return self.noted(work, self.model.receivers[endpoint.id].birth, Outcome(duration_ms=1.0, status=200))
        flight = Flight(work, self.model.receivers[endpoint.id].birth, self.loop.create_future())
        self.flights.append(flight)

        def time_out() -> None:
            if not flight.answer.done():
                flight.answer.set_result(failure(ErrorClass.TIMEOUT))

        timer = self.clock.call_later(endpoint.rules.timeout_seconds, time_out)
        try:
            return self.noted(work, flight.birth, await flight.answer)
        finally:
            timer.cancel()
            self.flights.remove(flight)

    def noted(self, work: Work, birth: int, outcome: Outcome) -> Outcome:
        now_ms = self.clock.now_ms()
        self.model.answered[work.id, work.attempt_count + 1] = outcome.status, now_ms, birth
        receiver = self.model.receivers.get(work.endpoint_id)
        if outcome.retry_after_seconds is not None and receiver is not None and receiver.birth == birth:
            until_ms = now_ms + round(1000 * outcome.retry_after_seconds)
            self.silent_until_ms[work.endpoint_id] = max(until_ms, self.silent_until_ms.get(work.endpoint_id, 0))
        return outcome

    def may_begin(self, work: Work) -> None:
        owed, now_ms = self.model.owed[work.id], self.clock.now_ms()
        receiver = self.model.receivers.get(work.endpoint_id)
        assert owed.state == "pending", f"sent although {owed}"
        assert owed.due_ms is not None
        assert owed.due_ms <= now_ms, f"sent {owed.due_ms - now_ms} ms too early"
        assert receiver is not None, "sent to an endpoint that is no more"
        assert receiver.disabled is None, f"sent although {receiver}"
        assert work.attempt_count == owed.attempts, "an attempt by a number that is taken"
        assert all(flight.work.id != work.id for flight in self.flights), "two attempts at the same time"
        assert now_ms >= self.silent_until_ms.get(work.endpoint_id, 0), "sent although asked for silence"
        if work.endpoint_id == ORDERED:
            older = [
                id_ for id_, one in self.model.owed.items() if one.endpoint_id == ORDERED and one.state == "pending"
            ]
            assert work.id == min(older), "sent out of order"

    async def close(self) -> None:
        """Fill the Sender port."""

    # Producers

    @initialize(event_types=st.lists(st.sampled_from(TYPES), min_size=3, max_size=8))
    def begin_with_work(self, event_types: list[str]) -> None:
        self.ingest_now(event_types, None)

    @rule(
        event_types=st.lists(st.sampled_from(TYPES), min_size=1, max_size=5),
        wait_seconds=st.sampled_from([None, None, None, 5, 600]),
    )
    def ingest(self, event_types: list[str], wait_seconds: int | None) -> None:
        self.ingest_now(event_types, None if wait_seconds is None else self.clock.now_ms() + 1000 * wait_seconds)

    def ingest_now(self, event_types: list[str], deliver_at_ms: int | None) -> None:
        for event_type in event_types:
            self.run(self.accept(builders.draft(event_type, deliver_at_ms=deliver_at_ms)))

    @rule(key=st.sampled_from(["k1", "k2"]), payload=st.sampled_from([b"1", b"1", b"2"]))
    def ingest_by_key(self, key: str, payload: bytes) -> None:
        self.run(self.accept(builders.draft("b", payload=payload, idempotency_key=key)))

    async def accept(self, draft: Any) -> None:
        expected = TAKES[draft.type] & self.model.receivers.keys()
        answer = self.engine.hand_in(draft)
        self.unanswered.append(answer)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        await self.clock.settle()
        if answer.done():
            self.unanswered.remove(answer)
            if answer.exception() is None and not answer.result()[0].duplicate:
                assert answer.result()[0].deliveries == len(expected)

    # Time and receivers

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.2, 8.0, 25.0, 230.0, 4000.0, 90_000.0]))
    def advance(self, seconds: float) -> None:
        self.run(self.clock.run_for(seconds))

    @precondition(lambda self: self.flights)
    @rule(which=FEW)
    def succeed(self, which: int) -> None:
        self.answer(which, Outcome(duration_ms=1.0, status=200))

    @precondition(lambda self: self.flights)
    @rule(which=FEW, status=st.sampled_from([500, 500, 503, 410, None]), retry_after=st.sampled_from([None, 3.0, 60.0]))
    def fail(self, which: int, status: int | None, retry_after: float | None) -> None:
        if status is None:
            self.answer(which, failure(ErrorClass.CONNECT))
        else:
            asked = retry_after if status == 503 else None
            self.answer(which, Outcome(duration_ms=1.0, status=status, retry_after_seconds=asked))

    def answer(self, which: int, outcome: Outcome) -> None:
        async def answer() -> None:
            self.flights[which % len(self.flights)].answer.set_result(outcome)

        self.run(answer())

    # The disk

    @precondition(lambda self: self.engine.gate.holds is None)
    @rule(what=st.sampled_from(["commits", "answers"]))
    def hold_up(self, what: str) -> None:
        self.engine.gate.hold(what)

    @precondition(lambda self: self.engine.gate.holds is not None)
    @rule()
    def let_go(self) -> None:
        async def let_go() -> None:
            self.engine.gate.let_go()

        self.run(let_go())

    # Ends and beginnings

    @precondition(lambda self: self.happenings > LULL)
    @rule()
    def crash(self) -> None:
        """Leave what a kill leaves: the files as they are, and nothing of what was only in memory."""

        async def crash() -> None:
            self.lives += 1
            left = Path(self.directory.name) / str(self.lives)
            left.mkdir()
            self.engine.gate.kill()
            for file in self.path.glob("webhookd.db*"):
                shutil.copy(file, left)
            for answer in self.unanswered:
                answer.cancel()
            await self.engine.stop()
            shutil.rmtree(self.path)
            await self.begin(left)

        self.run(crash())

    @precondition(lambda self: self.happenings > LULL and self.engine.gate.holds is None)
    @rule()
    def restart(self) -> None:
        async def restart() -> None:
            self.lives += 1
            drained = self.engine.draining(grace_seconds=0.0)
            await self.clock.run_for(0.1)
            await drained
            await self.engine.stop()
            await self.begin(self.path)

        self.run(restart())

    # Operators

    def some_endpoint(self, which: int) -> EndpointId:
        return sorted(self.model.receivers)[which % len(self.model.receivers)]

    @precondition(lambda self: self.model.receivers and self.engine.gate.holds is None)
    @rule(which=FEW)
    def disable(self, which: int) -> None:
        name = self.some_endpoint(which)
        self.run(self.engine.directory.disable(name))
        receiver = self.model.receivers[name]
        receiver.disabled = receiver.disabled or DisabledReason.OPERATOR

    @precondition(lambda self: self.model.receivers and self.engine.gate.holds is None)
    @rule(which=FEW)
    def enable(self, which: int) -> None:
        self.enable_now(self.some_endpoint(which))

    def enable_now(self, name: EndpointId) -> None:
        receiver = self.model.receivers[name]
        receiver.disabled, receiver.dates, receiver.failures = None, set(), 0
        self.run(self.engine.directory.enable(name))

    @precondition(lambda self: self.model.receivers and self.engine.gate.holds is None)
    @rule(which=FEW)
    def delete(self, which: int) -> None:
        name = self.some_endpoint(which)
        self.run(self.engine.directory.remove(name))
        self.silent_until_ms.pop(name, None)

    @precondition(lambda self: len(self.model.receivers) < len(NAMES) and self.engine.gate.holds is None)
    @rule()
    def create(self) -> None:
        self.create_now(next(name for name in NAMES if name not in self.model.receivers))

    def create_now(self, name: EndpointId) -> None:
        self.model.born(name)
        self.run(self.engine.directory.create(name, {}))

    @precondition(lambda self: self.model.owed and self.engine.gate.holds is None)
    @rule(which=MANY, among=AMONG, then=THEN)
    def resend(self, which: int, among: str, then: int | None) -> None:
        chosen = self.some_delivery(which, among)
        exists = self.model.owed[chosen].endpoint_id in self.model.receivers
        try:
            self.run(self.engine.desk.resend(chosen))
        except ConflictError:
            assert not exists
        else:
            assert exists
        self.answer_all(then)

    @precondition(lambda self: self.model.owed and self.engine.gate.holds is None)
    @rule(which=MANY, among=AMONG, then=THEN)
    def cancel(self, which: int, among: str, then: int | None) -> None:
        chosen = self.some_delivery(which, among)
        was_pending = self.model.owed[chosen].state == "pending"
        try:
            self.run(self.engine.desk.cancel(chosen))
        except ConflictError:
            assert not was_pending
        else:
            assert was_pending
        self.answer_all(then)

    def answer_all(self, status: int | None) -> None:
        """Let outcomes overtake the change, and what waits have its turn; None does nothing."""

        async def answer() -> None:
            for flight in list(self.flights):
                flight.answer.set_result(Outcome(duration_ms=1.0, status=status))

        if status is not None:
            self.run(answer())

    def some_delivery(self, which: int, among: str) -> DeliveryId:
        """Return one that is under way, so that its outcome comes after the change, one that waits, or just any."""
        flying = {flight.work.id for flight in self.flights}
        waiting = {id_ for id_, owed in self.model.owed.items() if owed.state == "pending"} - flying
        chosen = {"flying": flying, "waiting": waiting}.get(among) or self.model.owed
        ids = sorted(chosen)
        return ids[which % len(ids)]

    # What holds after every step

    @invariant()
    def nothing_was_done_that_may_not_be(self) -> None:
        self.happenings += 1
        for error in (*self.wrong, *self.engine.gate.wrong):
            raise error

    @invariant()
    def the_disk_holds_what_the_model_says(self) -> None:
        for delivery in (found := self.run(self.engine.deliveries())):
            owed = self.model.owed[delivery.id]
            receiver = self.model.receivers.get(owed.endpoint_id)
            is_held = owed.state == "pending" and receiver is not None and receiver.disabled is not None
            shown = (delivery.state, delivery.reason, delivery.attempt_count, delivery.retries_used, delivery.due_at_ms)
            expected = (owed.state, owed.reason, owed.attempts, owed.retries, owed.due_ms)
            # Of an end only the reason is promised, not how many retries it took.
            assert shown == (expected if owed.state == "pending" else (*shown[:3], delivery.retries_used, None)), owed
            assert (delivery.state, delivery.reason, delivery.attempt_count) == expected[:3], owed
            assert (delivery.held, delivery.owed_since_ms) == (is_held, owed.owed_since_ms)
        assert len(found) == len(self.model.owed), "deliveries are lost"

    @invariant()
    def endpoints_are_as_the_model_says(self) -> None:
        records = {record.id: record.health for record in self.run(self.engine.store.endpoints())}
        assert records.keys() == self.model.receivers.keys()
        for name, receiver in self.model.receivers.items():
            assert records[name].disabled_reason == receiver.disabled
            assert records[name].failed_attempts == receiver.failures
            assert records[name].failing_days == len(receiver.dates)

    @invariant()
    def windows_are_kept_and_used(self) -> None:
        for name, receiver in self.model.receivers.items():
            flying = [flight for flight in self.flights if flight.work.endpoint_id == name]
            ours = [flight for flight in flying if flight.birth == receiver.birth]
            assert len(ours) <= (1 if name == ORDERED else RULES.concurrency)
            is_free = receiver.disabled is None and receiver.failures == 0 and self.engine.gate.holds is None
            if not is_free or flying or self.clock.now_ms() < self.silent_until_ms.get(name, 0):
                continue
            # Where nothing is known against an endpoint, what is due is sent, but for retries soon after a start.
            pending = {id_: one for id_, one in self.model.owed.items() if one.endpoint_id == name and one.due_ms}
            if name == ORDERED:
                pending = {id_: pending[id_] for id_ in sorted(pending)[:1]}
            for owed in pending.values():
                is_new = owed.attempts == 0 or self.clock.monotonic() > self.began + 60
                assert not is_new or owed.due_ms is None or owed.due_ms > self.clock.now_ms(), f"nobody sends {owed}"

    # How it ends

    def teardown(self) -> None:
        try:
            self.run(self.engine.clock.settle())
            self.finish()
        finally:
            self.loop.run_until_complete(self.engine.stop())
            self.loop.close()
            self.directory.cleanup()

    def finish(self) -> None:
        """Let every receiver be well: all that is owed gets there, once what was held is let go of."""

        async def be_well() -> None:
            self.engine.gate.let_go()
            self.all_are_well = True
            for flight in self.flights:
                if not flight.answer.done():
                    flight.answer.set_result(Outcome(duration_ms=1.0, status=200))
            await self.clock.run_for(2 * 3600)

        self.run(be_well())
        self.check_everything()
        for owed in self.model.owed.values():
            receiver = self.model.receivers.get(owed.endpoint_id)
            assert owed.state != "pending" or (receiver is not None and receiver.disabled), f"{owed} was never sent"
        for name, receiver in self.model.receivers.items():
            if receiver.disabled is not None:
                self.enable_now(name)
        self.run(self.clock.run_for(2 * 3600))
        self.check_everything()
        assert all(owed.state != "pending" for owed in self.model.owed.values())
        self.run(self.check_attempts())

    def check_everything(self) -> None:
        self.nothing_was_done_that_may_not_be()
        self.the_disk_holds_what_the_model_says()
        self.endpoints_are_as_the_model_says()

    async def check_attempts(self) -> None:
        for delivery_id, owed in self.model.owed.items():
            kept = [
                (attempt.number, attempt.outcome.status, attempt.trigger is Trigger.MANUAL)
                for attempt in await self.engine.attempts(delivery_id)
            ]
            assert kept == owed.log
            assert [number for number, _, _ in kept] == list(range(1, len(kept) + 1))
            for (_, status, _), (_, _, is_manual) in pairwise(kept):
                assert status != 200 or is_manual, "sent again after a recorded success"


def failure(kind: ErrorClass) -> Outcome:
    return Outcome(duration_ms=1.0, error=AttemptError(kind=kind, text="by the machine"))


def play(seed: int, *, examples: int, steps: int) -> None:
    """Let hypothesis look for a history that breaks the model, beginning at `seed`."""

    class Seeded(OutboxMachine):
        pass

    run_state_machine_as_test(
        hypothesis.seed(seed)(Seeded),
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            # Not shrunk, which takes minutes: a history can be told from the whole list of its steps.
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )


def test_the_disk_is_always_as_the_model_says(seed: int) -> None:
    play(seed, examples=25, steps=40)


@pytest.mark.long
def test_the_disk_is_always_as_the_model_says_in_many_lives(seed: int, scale: int) -> None:
    play(seed + 1000, examples=60 * scale, steps=50)
