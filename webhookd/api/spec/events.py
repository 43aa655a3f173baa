"""The routes of events, described."""

from __future__ import annotations

from webhookd.api.spec.parameters import FILTERED
from webhookd.api.spec.shorthand import (
    ENDPOINT_ID_PATTERN,
    EVENT_TYPE_PATTERN,
    TENANT_PATTERN,
    Json,
    Operation,
    answer,
    body,
    in_path,
    keys,
    moment,
    query,
    ref,
    text,
)

_EVENT = in_path("id", text(), "The event, `evt_…`.")
_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same event handed in again under this key is accepted once. 1 to 255 visible ASCII characters, "
    "plain or quoted.",
    "schema": text(pattern=r"^[\x21-\x7e]{1,257}$"),
}
_INGEST_PROBLEMS = {
    409: ("idempotency_conflict",),
    413: ("payload_too_large",),
    422: (
        "invalid_event",
        "invalid_idempotency_key",
        "unknown_parameter",
        "reserved_tenant",
        "no_match",
    ),
}
_NEW = "Accepted: on disk, and owed."
_KNOWN = "Accepted earlier under the same idempotency key; nothing was added."

EVENTS: dict[str, Operation] = {
    "POST /v1/events": Operation(
        name="accept_event",
        tag="events",
        summary="Hand in an event, or a batch of them",
        description="The answer is sent once everything is on disk. The bytes of `payload` are delivered exactly as "
        "they stand in the request. A batch (`application/x-ndjson`) has one such object a line and is accepted whole "
        "or not at all; the idempotency keys then stand in the lines.",
        parameters=(_KEY,),
        body={
            "required": True,
            "content": {
                "application/json": {"schema": ref("NewEvent")},
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One `NewEvent` a line."},
                    "example": '{"type":"order.completed","payload":{"order":42}}\n'
                    '{"type":"order.completed","payload":{"order":43}}\n',
                },
            },
        },
        answers={
            202: answer(
                f"{_NEW} A batch is answered in the order of its lines.",
                {"oneOf": [ref("Accepted"), ref("AcceptedBatch")]},
            ),
            200: answer(_KNOWN, ref("Accepted")),
        },
        problems=_INGEST_PROBLEMS
        | {
            413: ("payload_too_large", "batch_too_large"),
            422: (*_INGEST_PROBLEMS[422], "empty_batch", "idempotency_key_misplaced", "idempotency_key_twice"),
        },
    ),
    "POST /v1/events/{type}": Operation(
        name="accept_payload",
        tag="events",
        summary="Hand in an event whose payload is the body",
        description="Any content type, which the payload is delivered with; a JSON one has to hold valid JSON.",
        parameters=(
            in_path("type", text(pattern=EVENT_TYPE_PATTERN), "Event type."),
            query("tenant", text(pattern=TENANT_PATTERN, default="default"), "Whose event it is."),
            query("deliver_at", moment("RFC 3339."), "When to deliver it, at most a year ahead; the past means now."),
            _KEY,
        ),
        body={"required": False, "content": {"*/*": {"schema": {}}, "application/json": {"schema": {}}}},
        answers={202: answer(_NEW, ref("Accepted")), 200: answer(_KNOWN, ref("Accepted"))},
        problems=_INGEST_PROBLEMS | {422: (*_INGEST_PROBLEMS[422], "repeated_parameter")},
    ),
    "GET /v1/events": Operation(
        name="list_events",
        tag="events",
        summary="List events, newest first",
        parameters=FILTERED,
        answers={200: answer("A part of the list.", ref("EventList"))},
    ),
    "GET /v1/events/{id}": Operation(
        name="show_event",
        tag="events",
        summary="Show an event, what it is owed as, and why not to others",
        parameters=(_EVENT,),
        answers={200: answer("The event.", ref("EventDetail"))},
    ),
    "POST /v1/events/{id}/resend": Operation(
        name="resend_event",
        tag="events",
        summary="Owe an event again",
        description="To one endpoint, also one it was not owed to before, or to all it was owed to. Due now, with a "
        "fresh schedule and age.",
        parameters=(_EVENT,),
        body=body(keys({"endpoint": text("Only to this one.", pattern=ENDPOINT_ID_PATTERN)})),
        answers={202: answer("What it is owed as.", ref("Deliveries"))},
    ),
}
