"""Builders of the values of core: each gives a valid one, and takes only what the test is about.

Ids that are not given are minted in order, so that two values never share one by accident.
"""

from __future__ import annotations

from tests.kit.clock import START_MS
from webhookd.core.attempt import NO_PHASES, Attempt, AttemptError, ErrorClass, Outcome, Phases, Trigger
from webhookd.core.delivery import DeliveryState, Work
from webhookd.core.endpoint import EndpointRecord, Health
from webhookd.core.event import DEFAULT_TENANT, JSON_CONTENT_TYPE, Draft, Event
from webhookd.core.filtering import EVERYTHING, Where
from webhookd.core.ids import DeliveryId, EndpointId, EventId, IdGenerator
from webhookd.core.ports import Settlement, Submission
from webhookd.core.settings import DeliveryRules, EndpointDefinition

PAYLOAD = b'{"order":42}'
ORDERS = EndpointId("orders")

_ids = IdGenerator(node=1)


def event_id(at_ms: int = START_MS) -> EventId:
    """Mint the next event id."""
    return EventId(_ids.mint(at_ms))


def delivery_id(at_ms: int = START_MS) -> DeliveryId:
    """Mint the next delivery id."""
    return DeliveryId(_ids.mint(at_ms))


def draft(
    type: str = "order.completed",  # noqa: A002
    *,
    payload: bytes = PAYLOAD,
    tenant: str = DEFAULT_TENANT,
    content_type: str = JSON_CONTENT_TYPE,
    deliver_at_ms: int | None = None,
    idempotency_key: str | None = None,
) -> Draft:
    """Build what a producer hands in."""
    return Draft(
        type=type,
        payload=payload,
        tenant=tenant,
        content_type=content_type,
        deliver_at_ms=deliver_at_ms,
        idempotency_key=idempotency_key,
    )


def event(
    id: int | None = None,  # noqa: A002
    *,
    type: str = "order.completed",  # noqa: A002
    tenant: str = DEFAULT_TENANT,
    content_type: str = JSON_CONTENT_TYPE,
    payload: bytes = PAYLOAD,
    accepted_at_ms: int = START_MS,
    deliver_at_ms: int | None = None,
) -> Event:
    """Build an accepted event."""
    return Event(
        id=event_id(accepted_at_ms) if id is None else EventId(id),
        type=type,
        tenant=tenant,
        content_type=content_type,
        payload=payload,
        accepted_at_ms=accepted_at_ms,
        deliver_at_ms=deliver_at_ms,
    )


def work(
    id: int | None = None,  # noqa: A002
    *,
    endpoint_id: str = ORDERS,
    of: Event | None = None,
    due_at_ms: int | None = None,
    owed_since_ms: int | None = None,
    attempt_count: int = 0,
    retries_used: int = 0,
    trigger: Trigger = Trigger.SCHEDULED,
    acknowledged: bool = False,
) -> Work:
    """Build a delivery as the engine holds it, due and owed since its event was accepted."""
    owed = of if of is not None else event()
    return Work(
        id=delivery_id(owed.accepted_at_ms) if id is None else DeliveryId(id),
        endpoint_id=EndpointId(endpoint_id),
        event=owed,
        due_at_ms=owed.accepted_at_ms if due_at_ms is None else due_at_ms,
        owed_since_ms=owed.accepted_at_ms if owed_since_ms is None else owed_since_ms,
        attempt_count=attempt_count,
        retries_used=retries_used,
        trigger=trigger,
        acknowledged=acknowledged,
    )


def endpoint(
    id: str = ORDERS,  # noqa: A002
    *,
    url: str = "https://receiver.example/hook",
    tenant: str = DEFAULT_TENANT,
    types: tuple[str, ...] = (),
    where: Where = EVERYTHING,
    profile: str | None = None,
    secret: str | None = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    previous_secret: str | None = None,
    previous_secret_until_ms: int | None = None,
    sample: bytes | None = None,
    description: str = "",
    rules: DeliveryRules | None = None,
    given: dict[str, object] | None = None,
    declared: bool = False,
) -> EndpointDefinition:
    """Build an endpoint as configured, with the default rules."""
    return EndpointDefinition(
        id=EndpointId(id),
        url=url,
        tenant=tenant,
        types=types,
        where=where,
        profile=profile,
        secret=secret,
        previous_secret=previous_secret,
        previous_secret_until_ms=previous_secret_until_ms,
        sample=sample,
        description=description,
        rules=rules if rules is not None else DeliveryRules(),
        given={"url": url} if given is None else given,
        declared=declared,
    )


def record(
    id: str = ORDERS,  # noqa: A002
    *,
    declared: bool = False,
    created_at_ms: int = START_MS,
    given: dict[str, object] | None = None,
    secret: str | None = None,
    sample: bytes | None = None,
    health: Health | None = None,
) -> EndpointRecord:
    """Build an endpoint as stored, healthy and made through the API."""
    default: dict[str, object] = {} if declared else {"url": "https://receiver.example/hook"}
    return EndpointRecord(
        id=EndpointId(id),
        declared=declared,
        created_at_ms=created_at_ms,
        given=default if given is None else given,
        secret=secret,
        sample=sample,
        health=health if health is not None else Health(),
    )


def outcome(
    status: int = 200,
    *,
    duration_ms: float = 12.5,
    excerpt: bytes = b"",
    retry_after_seconds: float | None = None,
    phases: Phases = NO_PHASES,
) -> Outcome:
    """Build an outcome that has an answer."""
    return Outcome(
        duration_ms=duration_ms,
        status=status,
        phases=phases,
        excerpt=excerpt,
        retry_after_seconds=retry_after_seconds,
    )


def failure(kind: ErrorClass = ErrorClass.CONNECT, text: str = "connection refused", **more: float) -> Outcome:
    """Build an outcome without an answer; `duration_ms` may be given."""
    return Outcome(duration_ms=more.get("duration_ms", 12.5), error=AttemptError(kind=kind, text=text))


def attempt(
    of: Work | None = None,
    *,
    number: int = 1,
    trigger: Trigger = Trigger.SCHEDULED,
    started_at_ms: int = START_MS,
    result: Outcome | None = None,
) -> Attempt:
    """Build an attempt of the delivery `of`, acknowledged unless `result` says otherwise."""
    return Attempt(
        delivery_id=of.id if of is not None else delivery_id(started_at_ms),
        number=number,
        trigger=trigger,
        started_at_ms=started_at_ms,
        outcome=result if result is not None else outcome(),
    )


def submission(
    of: Event | None = None,
    *,
    to: tuple[str, ...] = (ORDERS,),
    idempotency_key: str | None = None,
    fingerprint: bytes | None = None,
) -> Submission:
    """Build an event to be committed with one delivery for each endpoint in `to`."""
    submitted = of if of is not None else event()
    default = b"" if idempotency_key is None else b"fingerprint of " + submitted.payload
    return Submission(
        event=submitted,
        deliveries=tuple((delivery_id(submitted.accepted_at_ms), EndpointId(name)) for name in to),
        idempotency_key=idempotency_key,
        fingerprint=default if fingerprint is None else fingerprint,
    )


def delivered(of: Work, *, at_ms: int = START_MS, number: int | None = None) -> Settlement:
    """Build the settlement of a delivery that was acknowledged at `at_ms`."""
    return Settlement(
        attempt=attempt(of, number=number or of.attempt_count + 1, trigger=of.trigger, started_at_ms=at_ms),
        state=DeliveryState.DELIVERED,
        retries_used=of.retries_used,
        due_at_ms=None,
        finished_at_ms=at_ms,
    )


def retried(of: Work, *, due_at_ms: int, at_ms: int = START_MS, result: Outcome | None = None) -> Settlement:
    """Build the settlement of a delivery whose attempt at `at_ms` failed and which is due again at `due_at_ms`."""
    failed = result if result is not None else outcome(500)
    return Settlement(
        attempt=attempt(of, number=of.attempt_count + 1, trigger=of.trigger, started_at_ms=at_ms, result=failed),
        state=DeliveryState.PENDING,
        retries_used=of.retries_used + 1,
        due_at_ms=due_at_ms,
        finished_at_ms=None,
    )


def died(of: Work, *, reason: str = "retries_exhausted", at_ms: int = START_MS) -> Settlement:
    """Build the settlement of a delivery that ended unacknowledged at `at_ms`."""
    return Settlement(
        attempt=attempt(of, number=of.attempt_count + 1, trigger=of.trigger, started_at_ms=at_ms, result=outcome(500)),
        state=DeliveryState.DEAD,
        reason=reason,
        retries_used=of.retries_used,
        due_at_ms=None,
        finished_at_ms=at_ms,
    )
