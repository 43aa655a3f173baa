"""The JSON that goes out: one function for each shape, and nothing else decides what a reader sees."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable

import orjson

from webhookd.api.media import parse_media_type
from webhookd.core.attempt import Attempt, AttemptNotice, Outcome
from webhookd.core.delivery import Delivery, DeliveryState
from webhookd.core.endpoint import EndpointStatus
from webhookd.core.event import Event, EventSummary
from webhookd.core.ids import delivery_text, event_text
from webhookd.core.masking import MASK, masked_basic_auth, masked_header, masked_signatures, masked_url
from webhookd.core.services import EndpointView
from webhookd.core.signers import public_keys
from webhookd.core.times import time_text

Json = dict[str, object]

# Beside what steers a terminal, what steers a reader: marks and overrides of direction make a text look like another.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def event_json(event: EventSummary) -> Json:
    """Return an event as lists show it."""
    return {
        "id": event_text(event.id),
        "type": event.type,
        "tenant": event.tenant,
        "content_type": event.content_type,
        "size": event.size_bytes,
        "accepted_at": time_text(event.accepted_at_ms),
        "deliver_at": time_text(event.deliver_at_ms),
    }


def event_with_payload_json(event: Event) -> Json:
    """Return one event with its payload: as the JSON value it is, or in base64 where it is something else."""
    summary = EventSummary(
        id=event.id,
        type=event.type,
        tenant=event.tenant,
        content_type=event.content_type,
        size_bytes=len(event.payload),
        accepted_at_ms=event.accepted_at_ms,
        deliver_at_ms=event.deliver_at_ms,
    )
    media = parse_media_type(event.content_type)
    if media is not None and media.is_json:
        return event_json(summary) | {"payload": orjson.Fragment(event.payload)}
    return event_json(summary) | {"payload_base64": base64.b64encode(event.payload).decode()}


def delivery_json(delivery: Delivery) -> Json:
    """Return a delivery; one that is held has no next attempt."""
    waiting = delivery.state is DeliveryState.PENDING and not delivery.held
    return {
        "id": delivery_text(delivery.id),
        "event": event_text(delivery.event_id),
        "endpoint": delivery.endpoint_id,
        "tenant": delivery.tenant,
        "type": delivery.event_type,
        "state": delivery.state.value,
        "held": delivery.held,
        "reason": delivery.reason,
        "attempt_count": delivery.attempt_count,
        "created_at": time_text(delivery.created_at_ms),
        "next_attempt_at": time_text(delivery.due_at_ms) if waiting else None,
        "finished_at": time_text(delivery.finished_at_ms),
    }


def attempt_json(attempt: Attempt) -> Json:
    """Return an attempt with what came back."""
    outcome = attempt.outcome
    phases = outcome.phases
    return {
        "number": attempt.number,
        "trigger": attempt.trigger.value,
        "started_at": time_text(attempt.started_at_ms),
        "duration_ms": _milliseconds(outcome.duration_ms),
        "phases": {
            "dns_ms": _milliseconds(phases.dns_ms),
            "connect_ms": _milliseconds(phases.connect_ms),
            "tls_ms": _milliseconds(phases.tls_ms),
            "first_byte_ms": _milliseconds(phases.first_byte_ms),
        },
        "status": outcome.status,
        "error": _error_json(outcome),
        "excerpt": excerpt_text(outcome.excerpt),
    }


def notice_json(notice: AttemptNotice) -> Json:
    """Return an attempt as it is told to those who follow."""
    return {
        "delivery": delivery_text(notice.attempt.delivery_id),
        "event": event_text(notice.event_id),
        "type": notice.event_type,
        "tenant": notice.tenant,
        "endpoint": notice.endpoint_id,
        **attempt_json(notice.attempt),
        "state": notice.state.value,
        "next_attempt_at": time_text(notice.next_attempt_ms),
    }


def test_json(outcome: Outcome, *, acknowledged: bool) -> Json:
    """Return what became of a test send."""
    return {
        "acknowledged": acknowledged,
        "status": outcome.status,
        "duration_ms": _milliseconds(outcome.duration_ms),
        "error": _error_json(outcome),
        "excerpt": excerpt_text(outcome.excerpt),
    }


def endpoint_json(view: EndpointView) -> Json:
    """Return an endpoint: the keys its owner gave, then its state; never a secret."""
    record, definition = view.record, view.definition
    health = record.health
    given = record.given if definition is None else definition.given
    keys = {key: value for key, value in given.items() if key not in {"secret", "sample"}}
    if definition is not None:
        keys |= {
            "url": definition.url,
            "tenant": definition.tenant,
            "types": list(definition.types),
            "profile": definition.profile,
            "description": definition.description,
        }
    # Its numbers may be longer than those that orjson writes.
    keys["where"] = orjson.Fragment(json.dumps(keys.get("where") or {}, ensure_ascii=False))
    headers = keys.get("headers")
    if isinstance(headers, dict):
        keys["headers"] = {name: masked_header(name, str(value)) for name, value in headers.items()}
    if "signatures" in keys:
        keys["signatures"] = masked_signatures(keys["signatures"])
    if definition is not None and (public := public_keys(definition)):
        keys["public_keys"] = public
    basic_auth = keys.get("basic_auth")
    if definition is not None and definition.basic_auth is not None:
        # A declared endpoint's password may stand in a file, of which no trace is among the keys.
        basic_auth = {"username": definition.basic_auth.username, "password": MASK}
    if isinstance(basic_auth, dict):
        keys["basic_auth"] = masked_basic_auth(basic_auth)
    url = keys.get("url")
    is_secret = given.get("url_secret") is True if definition is None else definition.url_is_secret
    if is_secret:
        keys["url_secret"] = True
    held = view.pending if health.status is EndpointStatus.DISABLED else 0
    last: Json | None = None
    if view.last_attempt is not None:
        last = {"delivery": delivery_text(view.last_attempt.delivery_id)} | attempt_json(view.last_attempt)
    return {
        "id": record.id,
        **keys,
        "url": masked_url(url, is_secret=is_secret) if isinstance(url, str) else None,
        "previous_secret_until": time_text(record.previous_secret_until_ms),
        "created_at": time_text(record.created_at_ms),
        "declared": record.declared,
        "status": health.status.value,
        "disabled_reason": None if health.disabled_reason is None else health.disabled_reason.value,
        "disabled_at": time_text(health.disabled_at_ms),
        "health": {
            "failing_days": health.failing_days,
            "failed_attempts": health.failed_attempts,
            "last_success_at": time_text(health.last_success_at_ms),
            "pending": view.pending,
            "held": held,
        },
        "last_attempt": last,
    }


def list_json(items: Iterable[Json], cursor: str | None) -> Json:
    """Return part of a list, and the cursor that the next part is asked for with."""
    return {"data": list(items), "next": cursor}


def excerpt_text(excerpt: bytes) -> str:
    """Return a response body as text that cannot act on a terminal: control characters stand as escapes."""
    return _CONTROL.sub(_escaped, excerpt.decode("utf-8", "replace"))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _error_json(outcome: Outcome) -> Json | None:
    return None if outcome.error is None else {"class": outcome.error.kind.value, "text": outcome.error.text}
