"""The way from a validated draft to a committed event: match, mint ids, queue for the writer, hand over for sending."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence

from webhookd.core.delivery import Work
from webhookd.core.event import Draft, Event
from webhookd.core.ids import DeliveryId, EndpointId, EventId, IdGenerator
from webhookd.core.ports import Acceptance, Clock, Submission
from webhookd.core.ports import Intake as StoreIntake
from webhookd.core.settings import Ingest, OnNoMatch
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.errors import Fault, InvalidRequestError, StoreUnavailableError

MOST_AHEAD_MS = 365 * 86_400_000
"""How far from acceptance the delivery of an event may be put off."""


class Intake:
    """Fills the Acceptor port.

    Matching and queueing happen in one turn of the loop: whatever is queued for the store afterwards, such as the
    deletion of an endpoint, is carried out after the event it was matched with.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: StoreIntake,
        endpoints: LiveEndpoints,
        dispatcher: Dispatcher,
        ids: IdGenerator,
        settings: Ingest,
    ) -> None:
        self._clock = clock
        self._store = store
        self._endpoints = endpoints
        self._dispatcher = dispatcher
        self._ids = ids
        self.settings = settings
        self.refusal: str | None = None
        """Why nothing is taken any more, None while events are welcome."""

    def accept(self, drafts: Sequence[Draft]) -> Awaitable[list[Acceptance]]:
        """See Acceptor; raises at once what can be told without the store."""
        if self.refusal is not None:
            raise StoreUnavailableError(self.refusal)
        now_ms = self._clock.now_ms()
        _refuse_too_far(drafts, now_ms)
        submissions = [self._submission(draft, now_ms) for draft in drafts]
        if self.settings.on_no_match is OnNoMatch.REJECT:
            _refuse_unmatched(submissions)
        committed = asyncio.ensure_future(self._store.accept(submissions))
        answer: asyncio.Future[list[Acceptance]] = asyncio.get_running_loop().create_future()

        def hand_over(done: asyncio.Future[list[Acceptance]]) -> None:
            # Even if whoever asked has gone away, what is on disk is owed.
            error = None if done.cancelled() else done.exception()
            if error is None and not done.cancelled():
                self._hand_over(submissions, done.result())
            if answer.done():
                return
            if done.cancelled():
                answer.cancel()
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(done.result())

        committed.add_done_callback(hand_over)
        return answer

    def _submission(self, draft: Draft, now_ms: int) -> Submission:
        event = Event(
            id=EventId(self._ids.mint(now_ms)),
            type=draft.type,
            tenant=draft.tenant,
            content_type=draft.content_type,
            payload=draft.payload,
            accepted_at_ms=now_ms,
            deliver_at_ms=draft.deliver_at_ms,
        )
        subscribed = self._endpoints.match(draft.tenant, draft.type)
        owed: tuple[tuple[DeliveryId, EndpointId], ...] = tuple(
            (DeliveryId(self._ids.mint(now_ms)), endpoint_id)
            for endpoint_id in self._endpoints.choose(subscribed, draft.payload, draft.content_type)
        )
        if draft.idempotency_key is None:
            return Submission(event=event, deliveries=owed)
        return Submission(
            event=event, deliveries=owed, idempotency_key=draft.idempotency_key, fingerprint=fingerprint(draft)
        )

    def _hand_over(self, submissions: Sequence[Submission], acceptances: Sequence[Acceptance]) -> None:
        self._dispatcher.offer(
            Work(
                id=delivery_id,
                endpoint_id=endpoint_id,
                event=submission.event,
                due_at_ms=submission.event.due_at_ms,
                owed_since_ms=submission.event.due_at_ms,
            )
            for submission, acceptance in zip(submissions, acceptances, strict=True)
            if not acceptance.duplicate
            for delivery_id, endpoint_id in submission.deliveries
        )


def fingerprint(draft: Draft) -> bytes:
    """Return 16 bytes that stand for what a key promises to be the same: type, content type, due moment, payload."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (draft.type.encode(), draft.content_type.encode(), str(draft.deliver_at_ms).encode()):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    digest.update(draft.payload)
    return digest.digest()


def _refuse_too_far(drafts: Sequence[Draft], now_ms: int) -> None:
    faults = tuple(
        Fault(f"/{line}/deliver_at" if len(drafts) > 1 else "/deliver_at", "more than 365 days ahead")
        for line, draft in enumerate(drafts, start=1)
        if draft.deliver_at_ms is not None and draft.deliver_at_ms > now_ms + MOST_AHEAD_MS
    )
    if faults:
        raise InvalidRequestError("invalid_event", "an event can wait for its delivery for a year", faults=faults)


def _refuse_unmatched(submissions: Sequence[Submission]) -> None:
    several = len(submissions) > 1
    faults = tuple(
        Fault(f"/{line}/type" if several else "/type", f"no endpoint takes {submission.event.type}")
        for line, submission in enumerate(submissions, start=1)
        if not submission.deliveries
    )
    if faults:
        raise InvalidRequestError("no_match", "no endpoint subscribes to this event", faults=faults)
