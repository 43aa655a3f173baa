"""What webhookd tells of its own endpoints and deliveries, as events of its own tenant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from webhookd.core.attempt import Outcome
from webhookd.core.delivery import EndReason, Work
from webhookd.core.endpoint import Health
from webhookd.core.event import OPERATIONAL_TENANT
from webhookd.core.ids import DeliveryId, EndpointId, delivery_text, event_text
from webhookd.core.times import time_text

_FAILING_DATES = 2
"""One bad date is ordinary; a second one in a row of failures is worth a person's look, days before it disables."""


class NewsType(StrEnum):
    """The event types of operational events."""

    FAILING = "webhookd.endpoint.failing"
    DISABLED = "webhookd.endpoint.disabled"
    ENABLED = "webhookd.endpoint.enabled"
    DIED = "webhookd.delivery.dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The endpoint that is told of; `tenant` is None where its definition is not known any more."""

    id: EndpointId
    declared: bool
    tenant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The attempt that led to the change; `work` as it was before it."""

    work: Work
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One change worth an event: what happened at `at_ms` (UTC) to which endpoint, its health then, and by what.

    `cause` is None where a person or the configuration made the change. `end` is why the delivery is dead, else None.
    """

    type: NewsType
    at_ms: int
    subject: Subject
    health: Health
    cause: Cause | None = None
    end: EndReason | None = None

    @property
    def death_of(self) -> DeliveryId | None:
        """The delivery whose death this tells of, if it does."""
        return self.cause.work.id if self.cause is not None and self.end is not None else None

    def payload(self) -> bytes:
        """Return it as JSON: ids, reasons and counts; never a URL, a secret, a payload or what a receiver wrote."""
        health = self.health
        return json.dumps(
            {
                "type": self.type.value,
                "occurred_at": time_text(self.at_ms),
                "endpoint": {
                    "id": self.subject.id,
                    "tenant": self.subject.tenant,
                    "declared": self.subject.declared,
                    "status": health.status.value,
                    "disabled_reason": None if health.disabled_reason is None else health.disabled_reason.value,
                    "failing_days": health.failing_days,
                    "failed_attempts": health.failed_attempts,
                    "last_success_at": time_text(health.last_success_at_ms),
                },
                "delivery": None if self.cause is None else self._delivery(self.cause),
            },
            separators=(",", ":"),
        ).encode()

    def _delivery(self, cause: Cause) -> dict[str, object]:
        work, error = cause.work, cause.outcome.error
        return {
            "id": delivery_text(work.id),
            "event": event_text(work.event.id),
            "type": work.event.type,
            "tenant": work.event.tenant,
            "reason": None if self.end is None else self.end.value,
            "attempt_count": work.attempt_count + 1,
            "last_status": cause.outcome.status,
            "last_error": None if error is None else error.kind.value,
        }


def of_health(
    before: Health, after: Health, *, subject: Subject, at_ms: int, cause: Cause | None = None
) -> tuple[News, ...]:
    """Return what is to be told of a change of an endpoint's health; usually nothing."""
    if _is_ours(subject, cause):
        return ()
    types: list[NewsType] = []
    if before.disabled_reason is None and before.failing_days < _FAILING_DATES <= after.failing_days:
        types.append(NewsType.FAILING)
    if after.status is not before.status:
        types.append(NewsType.ENABLED if after.disabled_reason is None else NewsType.DISABLED)
    return tuple(News(type=type_, at_ms=at_ms, subject=subject, health=after, cause=cause) for type_ in types)


def of_death(health: Health, *, subject: Subject, at_ms: int, cause: Cause, end: EndReason) -> tuple[News, ...]:
    """Return what is to be told of a delivery that ended at `at_ms` without acknowledgement."""
    if _is_ours(subject, cause):
        return ()
    return (News(type=NewsType.DIED, at_ms=at_ms, subject=subject, health=health, cause=cause, end=end),)


def _is_ours(subject: Subject, cause: Cause | None) -> bool:
    # Else the trouble of whoever is told of trouble would be told again, without end.
    return OPERATIONAL_TENANT in (subject.tenant, cause.work.event.tenant if cause is not None else None)
