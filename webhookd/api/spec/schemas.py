"""The shapes that go out, as JSON Schema; `shapes.py` makes them, and a test holds the two together."""

from __future__ import annotations

from webhookd.api.spec.endpoint_keys import ENDPOINT_KEYS, GENERATED_SECRET, IN_API_ONLY
from webhookd.api.spec.shorthand import (
    ENDPOINT_ID_PATTERN,
    EVENT_TYPE_PATTERN,
    TENANT_PATTERN,
    Json,
    keys,
    listed,
    moment,
    nullable,
    ref,
    shape,
    text,
    whole,
)
from webhookd.core.attempt import ErrorClass, Trigger
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import DisabledReason, EndpointStatus

_EVENT_ID = text("Names an event.", pattern="^evt_[0-9A-Za-z]{11}$", examples=["evt_0SF4OnmcvlA"])
_DELIVERY_ID = text("Names a delivery.", pattern="^dlv_[0-9A-Za-z]{11}$", examples=["dlv_0SF4OnmcvlB"])
_ENDPOINT_ID = text("Names an endpoint.", pattern=ENDPOINT_ID_PATTERN, examples=["orders"])
_TYPE = text("Event type.", pattern=EVENT_TYPE_PATTERN, examples=["order.completed"])
_TENANT = text("Whose event it is.", pattern=TENANT_PATTERN, examples=["default"])
_MILLISECONDS: Json = {"type": "number", "minimum": 0}

_EXAMPLE_EVENT = {
    "id": "evt_0SF4OnmcvlA",
    "type": "order.completed",
    "tenant": "default",
    "content_type": "application/json",
    "size": 12,
    "accepted_at": "2026-01-02T03:04:05.678Z",
    "deliver_at": None,
}
_EXAMPLE_DELIVERY = {
    "id": "dlv_0SF4OnmcvlB",
    "event": "evt_0SF4OnmcvlA",
    "endpoint": "orders",
    "tenant": "default",
    "type": "order.completed",
    "state": "pending",
    "held": False,
    "reason": None,
    "attempt_count": 1,
    "created_at": "2026-01-02T03:04:05.678Z",
    "next_attempt_at": "2026-01-02T03:09:11.000Z",
    "finished_at": None,
}
_EXAMPLE_ATTEMPT = {
    "number": 1,
    "trigger": "scheduled",
    "started_at": "2026-01-02T03:04:05.680Z",
    "duration_ms": 15.25,
    "phases": {"dns_ms": 1.5, "connect_ms": 2.25, "tls_ms": 4.0, "first_byte_ms": 7.5},
    "status": 503,
    "error": None,
    "excerpt": "try again later",
}

_EVENT: dict[str, Json] = {
    "id": _EVENT_ID,
    "type": _TYPE,
    "tenant": _TENANT,
    "content_type": text("Content type the payload is delivered with."),
    "size": whole("Bytes of the payload."),
    "accepted_at": moment("When it was accepted."),
    "deliver_at": nullable(moment("When it was to be delivered; null for at once.")),
}

_DELIVERY: dict[str, Json] = {
    "id": _DELIVERY_ID,
    "event": _EVENT_ID,
    "endpoint": _ENDPOINT_ID,
    "tenant": _TENANT,
    "type": _TYPE,
    "state": {"type": "string", "enum": [str(state) for state in DeliveryState]},
    "held": {"type": "boolean", "description": "Pending, but its endpoint is disabled: kept, not attempted."},
    "reason": nullable(text("Why it ended without acknowledgement.", examples=["retries_exhausted"])),
    "attempt_count": whole("Attempts made so far."),
    "created_at": moment("When it came to be owed."),
    "next_attempt_at": nullable(moment("When the next attempt is due; null if none is.")),
    "finished_at": nullable(moment("When it ended.")),
}

_ERROR = shape(
    {
        "class": {"type": "string", "enum": [str(kind) for kind in ErrorClass]},
        "text": text("The same for people."),
    },
    description="Why there was no answer.",
)

_ATTEMPT: dict[str, Json] = {
    "number": {"type": "integer", "minimum": 1, "description": "Counts from 1 within the delivery."},
    "trigger": {"type": "string", "enum": [str(trigger) for trigger in Trigger]},
    "started_at": moment("When it began."),
    "duration_ms": _MILLISECONDS,
    "phases": shape(
        {name: nullable(_MILLISECONDS) for name in ("dns_ms", "connect_ms", "tls_ms", "first_byte_ms")},
        description="How long each phase took; null for one that did not happen.",
    ),
    "status": nullable({"type": "integer", "minimum": 100, "maximum": 599}),
    "error": nullable(ref("AttemptError")),
    "excerpt": text("The beginning of the answer's body, control characters escaped."),
}

_ENDPOINT_STATE: dict[str, Json] = {
    "previous_secret_until": nullable(moment("Until when the secret before the last rotation signs as well.")),
    "created_at": moment("When it was made, or first declared."),
    "declared": {"type": "boolean", "description": "Stands in the configuration file, and is changed there only."},
    "status": {"type": "string", "enum": [str(status) for status in EndpointStatus]},
    "disabled_reason": nullable({"type": "string", "enum": [str(reason) for reason in DisabledReason]}),
    "disabled_at": nullable(moment("Since when it is disabled.")),
    "health": shape(
        {
            "failing_days": whole("UTC dates with a failure in the present streak."),
            "failed_attempts": whole("Failed attempts in the present streak."),
            "last_success_at": nullable(moment("The last acknowledged attempt.")),
            "pending": whole("Deliveries owed."),
            "held": whole("Those of them that wait for it to be enabled."),
        }
    ),
    "last_attempt": nullable(ref("LastAttempt")),
}

_ALWAYS_SHOWN = ("id", "url", "where", *_ENDPOINT_STATE)
_SHOWN_KEYS: dict[str, Json] = {
    "id": _ENDPOINT_ID,
    **ENDPOINT_KEYS,
    **{name: schema for name, schema in IN_API_ONLY.items() if name not in {"secret", "sample"}},
    "url": nullable(text("Query values are masked; of a secret URL, only scheme and host are shown.")),
    "profile": nullable(text("The profile whose rules it builds on.")),
    "public_keys": {
        "type": "array",
        "items": text(),
        "description": "What receivers check asymmetric signatures with; only where there are any.",
    },
    **_ENDPOINT_STATE,
}
_NOT_ALWAYS_SHOWN = tuple(name for name in _SHOWN_KEYS if name not in _ALWAYS_SHOWN)

SCHEMAS: dict[str, Json] = {
    "Event": shape(_EVENT, description="Something that happened.", example=_EXAMPLE_EVENT),
    "EventList": listed("Event", "Events"),
    "EventDetail": shape(
        _EVENT
        | {
            "payload": {"description": "The payload, where its content type is JSON."},
            "payload_base64": text("The payload, where its content type is not JSON.", contentEncoding="base64"),
            "deliveries": {"type": "array", "items": ref("Delivery"), "maxItems": 500},
            "delivery_count": whole("How many deliveries there are, listed here or not."),
            "not_matched": {
                "type": "array",
                "maxItems": 100,
                "items": shape({"endpoint": _ENDPOINT_ID, "reason": text("Why it is not owed the event.")}),
            },
        },
        optional=("payload", "payload_base64"),
        description="An event with its payload, what it is owed as, and why not to others.",
    ),
    "NewEvent": keys(
        {
            "type": _TYPE,
            "payload": {"description": "Any JSON; delivered exactly as it stands in the request, byte for byte."},
            "tenant": text("Whose event it is.", pattern=TENANT_PATTERN, default="default"),
            "content_type": text("What it is delivered as.", default="application/json"),
            "deliver_at": moment("When to deliver it, at most a year ahead; the past means now."),
            "idempotency_key": text(
                "The same event handed in again under it is accepted once.", pattern=r"^[\x21-\x7e]{1,255}$"
            ),
        },
        required=("type", "payload"),
        example={"type": "order.completed", "payload": {"order": 42}},
    ),
    "Accepted": shape(
        {
            "id": _EVENT_ID,
            "duplicate": {"type": "boolean", "description": "Accepted earlier, under the same idempotency key."},
            "deliveries": whole("How many endpoints it is owed to."),
        },
        example={"id": "evt_0SF4OnmcvlA", "duplicate": False, "deliveries": 2},
    ),
    "AcceptedBatch": shape(
        {"events": {"type": "array", "items": ref("Accepted"), "description": "In the order of the lines."}}
    ),
    "Delivery": shape(_DELIVERY, description="One event owed to one endpoint.", example=_EXAMPLE_DELIVERY),
    "DeliveryList": listed("Delivery", "Deliveries"),
    "DeliveryDetail": shape(
        _DELIVERY | {"attempts": {"type": "array", "items": ref("Attempt"), "description": "Oldest first."}}
    ),
    "Deliveries": shape({"deliveries": {"type": "array", "items": ref("Delivery")}}),
    "Attempt": shape(_ATTEMPT, description="One HTTP request for a delivery.", example=_EXAMPLE_ATTEMPT),
    "LastAttempt": shape({"delivery": _DELIVERY_ID} | _ATTEMPT),
    "AttemptError": _ERROR,
    "AttemptNotice": shape(
        {"delivery": _DELIVERY_ID, "event": _EVENT_ID, "type": _TYPE, "tenant": _TENANT, "endpoint": _ENDPOINT_ID}
        | _ATTEMPT
        | {"state": _DELIVERY["state"], "next_attempt_at": _DELIVERY["next_attempt_at"]},
        description="An attempt as it is told to those who follow, with what became of its delivery.",
    ),
    "Endpoint": shape(
        _SHOWN_KEYS,
        optional=_NOT_ALWAYS_SHOWN,
        description="A receiver: the keys its owner gave, and its state. Secrets are never shown.",
    ),
    "EndpointCreated": shape(_SHOWN_KEYS | {"secret": GENERATED_SECRET}, optional=(*_NOT_ALWAYS_SHOWN, "secret")),
    "EndpointRotated": shape(_SHOWN_KEYS | {"secret": GENERATED_SECRET}, optional=_NOT_ALWAYS_SHOWN),
    "EndpointList": listed("Endpoint", "Endpoints"),
    "NewEndpoint": keys(
        {"id": _ENDPOINT_ID} | ENDPOINT_KEYS | IN_API_ONLY,
        required=("url",),
        example={"url": "https://example.com/hook", "types": ["order.*"]},
    ),
    "EndpointPatch": keys(
        {name: nullable(schema) for name, schema in (ENDPOINT_KEYS | IN_API_ONLY).items()},
        description="A JSON merge patch (RFC 7396): null restores a default.",
        example={"description": "the shop", "rate": None},
    ),
    "TestResult": shape(
        {
            "acknowledged": {"type": "boolean"},
            "status": _ATTEMPT["status"],
            "duration_ms": _MILLISECONDS,
            "error": _ATTEMPT["error"],
            "excerpt": _ATTEMPT["excerpt"],
        }
    ),
    "Status": shape(
        {
            "version": text("Of the daemon."),
            "state": {"type": "string", "enum": ["ok", "stuck", "refusing", "draining"]},
            "reason": nullable(text("Why it is not ready.")),
            "events": whole("Events kept."),
            "deliveries": shape({name: whole() for name in ("pending", "held", "delivered", "dead", "cancelled")}),
            "held": whole("Pending deliveries of disabled endpoints."),
            "oldest_due_at": nullable(moment("Earliest due moment at an enabled endpoint.")),
            "in_flight": shape({"fast": whole(), "slow": whole()}),
            "resting": whole("Endpoints that are left alone for a while after failures."),
            "network_down_since": nullable(moment("Since when nothing is sent because nobody at all is reached.")),
            "endpoints": shape({"enabled": whole(), "disabled": whole()}),
            "attention": {"type": "array", "items": ref("Endpoint"), "maxItems": 100},
            "database": shape({"used_bytes": whole(), "wal_bytes": whole(), "free_bytes": whole()}),
        }
    ),
    "Count": shape({"count": whole("Deliveries.")}),
    "Backup": shape(
        {
            "path": text("Where it is."),
            "size": whole("Bytes of the file."),
            "duration_ms": _MILLISECONDS,
            "events": whole("Events in it."),
            "deliveries": whole("Deliveries in it."),
        }
    ),
    "Well": shape({"status": {"const": "ok"}}),
    "Problem": shape(
        {
            "type": text("Stable; ends in the slug.", pattern="^urn:webhookd:problem:[a-z_]+$"),
            "title": text("The slug in words."),
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": text("A sentence for people."),
            "errors": {
                "type": "array",
                "items": shape(
                    {"pointer": text("JSON pointer (RFC 6901) to the field."), "detail": text("What is wrong there.")}
                ),
            },
        },
        optional=("errors",),
        description="An error (RFC 9457).",
        example={
            "type": "urn:webhookd:problem:not_found",
            "title": "There is no such thing",
            "status": 404,
            "detail": "there is no endpoint 'orders'",
        },
    ),
}
