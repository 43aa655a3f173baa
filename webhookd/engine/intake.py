"""The way from a validated draft to a committed event: match, mint ids, queue for the writer, hand over for sending."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial

from webhookd.core.delivery import Work
from webhookd.core.event import Draft, Event
from webhookd.core.ids import DeliveryId, EventId, IdGenerator
from webhookd.core.ports import Acceptance, Answer, Clock, Submission
from webhookd.core.ports import Intake as StoreIntake
from webhookd.core.services import Accepted
from webhookd.core.settings import MIB, Ingest, OnNoMatch
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.errors import Fault, InvalidRequestError, StoreUnavailableError

_REJECT = OnNoMatch.REJECT

_HandedIn = tuple[list[Submission], Accepted]

MOST_ROWS_AT_ONCE = 512
"""Events and deliveries that are committed and answered together; whoever hands in more does so alone, so that nobody
else has to wait for that."""

MOST_BYTES_AT_ONCE = 4 * MIB

MOST_AHEAD_MS = 365 * 86_400_000
"""How far from acceptance the delivery of an event may be put off."""


class Intake:
    """Fills the Acceptor port.

    What producers hand in within one turn of the loop goes to the store as one piece. Matching and queueing happen in
    one turn: whatever is queued for the store afterwards, such as the deletion of an endpoint, is carried out after the
    events that were matched with it.
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
        self._gathered: list[tuple[Sequence[Draft], Accepted]] = []
        self.settings = settings
        self.refusal: str | None = None
        """Why nothing is taken any more, None while events are welcome."""

    def accept(self, drafts: Sequence[Draft], answered: Accepted) -> None:
        """See Acceptor."""
        if self.refusal is not None:
            raise StoreUnavailableError(self.refusal)
        for draft in drafts:
            if draft.deliver_at_ms is not None:
                _refuse_too_far(drafts, self._clock.now_ms())
                break
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._dispatcher.guarded(self._hand_in))
        self._gathered.append((drafts, answered))

    def _hand_in(self) -> None:
        gathered, self._gathered = self._gathered, []
        now_ms = self._clock.now_ms()
        portion: list[_HandedIn] = []
        rows = size_bytes = 0
        for drafts, answered in gathered:
            try:
                submissions = self._submissions(drafts, now_ms)
                if self.settings.on_no_match is _REJECT:
                    _refuse_unmatched(submissions)
            except Exception as error:  # noqa: BLE001 - it is whoever handed this in that has to hear of it
                answered(error)
                continue
            its_rows = its_bytes = 0
            for submission in submissions:
                its_rows += 1 + len(submission.deliveries)
                its_bytes += len(submission.event.payload)
            if portion and (rows + its_rows > MOST_ROWS_AT_ONCE or size_bytes + its_bytes > MOST_BYTES_AT_ONCE):
                self._commit(portion)
                portion, rows, size_bytes = [], 0, 0
            portion.append((submissions, answered))
            rows += its_rows
            size_bytes += its_bytes
        if portion:
            self._commit(portion)

    def _commit(self, handed_in: list[_HandedIn]) -> None:
        # Kept by the store, which has to answer it.
        committed = asyncio.ensure_future(  # noqa: RUF006
            self._store.accept([submissions for submissions, _ in handed_in])
        )
        answer = self._dispatcher.guarded(partial(self._committed, handed_in))
        committed.add_done_callback(answer)

    def _committed(self, handed_in: list[_HandedIn], done: asyncio.Future[list[Answer]]) -> None:
        answers: Sequence[list[Acceptance] | Exception]
        try:
            answers = done.result()
        except asyncio.CancelledError:
            answers = [StoreUnavailableError("the outcome is unknown")] * len(handed_in)
        except Exception as error:  # noqa: BLE001 - it is whoever handed this in that has to hear of it
            answers = [error] * len(handed_in)
        owed: list[Work] = []
        for (submissions, _), answer in zip(handed_in, answers, strict=True):
            if not isinstance(answer, Exception):
                for submission, acceptance in zip(submissions, answer, strict=True):
                    if not acceptance.duplicate:
                        _add_work(owed, submission)
        try:
            for (_, answered), answer in zip(handed_in, answers, strict=True):
                answered(answer)
        finally:
            # Even if whoever asked has gone away, what is on disk is owed.
            self._dispatcher.offer(owed)

    def _submissions(self, drafts: Sequence[Draft], now_ms: int) -> list[Submission]:
        endpoints, mint = self._endpoints, self._ids.mint
        submissions: list[Submission] = []
        for draft in drafts:
            event = Event(
                id=EventId(mint(now_ms)),
                type=draft.type,
                tenant=draft.tenant,
                content_type=draft.content_type,
                payload=draft.payload,
                accepted_at_ms=now_ms,
                deliver_at_ms=draft.deliver_at_ms,
            )
            subscribed = endpoints.match(draft.tenant, draft.type)
            chosen = endpoints.choose(subscribed, draft.payload, draft.content_type)
            owed = tuple([(DeliveryId(mint(now_ms)), endpoint_id) for endpoint_id in chosen])
            if draft.idempotency_key is None:
                submissions.append(Submission(event=event, deliveries=owed))
            else:
                key, content = draft.idempotency_key, fingerprint(draft)
                submissions.append(Submission(event=event, deliveries=owed, idempotency_key=key, fingerprint=content))
        return submissions


def _add_work(owed: list[Work], submission: Submission) -> None:
    event = submission.event
    due_at_ms = event.due_at_ms
    for delivery_id, endpoint_id in submission.deliveries:
        owed.append(
            Work(id=delivery_id, endpoint_id=endpoint_id, event=event, due_at_ms=due_at_ms, owed_since_ms=due_at_ms)
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
