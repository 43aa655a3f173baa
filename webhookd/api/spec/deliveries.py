"""The routes of deliveries, described."""

from __future__ import annotations

from webhookd.api.spec.parameters import FILTERED, TENANT
from webhookd.api.spec.shorthand import (
    ENDPOINT_ID_PATTERN,
    GLOB_PATTERN,
    Operation,
    answer,
    in_path,
    query,
    ref,
    text,
)
from webhookd.core.delivery import DeliveryState

_DELIVERY = in_path("id", text(), "The delivery, `dlv_…`.")
DELIVERIES: dict[str, Operation] = {
    "GET /v1/deliveries": Operation(
        name="list_deliveries",
        tag="deliveries",
        summary="List deliveries, newest first",
        parameters=(
            query("endpoint", text(pattern=ENDPOINT_ID_PATTERN), "Only to this endpoint."),
            query("event", text(), "Only of this event."),
            query("state", {"type": "string", "enum": [str(state) for state in DeliveryState]}, "Only in this state."),
            *FILTERED,
        ),
        answers={200: answer("A part of the list.", ref("DeliveryList"))},
    ),
    "GET /v1/deliveries/{id}": Operation(
        name="show_delivery",
        tag="deliveries",
        summary="Show a delivery with its attempts",
        parameters=(_DELIVERY,),
        answers={200: answer("The delivery.", ref("DeliveryDetail"))},
    ),
    "POST /v1/deliveries/{id}/resend": Operation(
        name="resend_delivery",
        tag="deliveries",
        summary="Owe a delivery again",
        description="Due now, with a fresh schedule and age; attempt numbers go on. A delivered one stays delivered "
        "whatever comes of it.",
        parameters=(_DELIVERY,),
        answers={202: answer("The delivery.", ref("Delivery"))},
        problems={409: ("endpoint_gone",)},
    ),
    "POST /v1/deliveries/{id}/cancel": Operation(
        name="cancel_delivery",
        tag="deliveries",
        summary="End a pending delivery",
        parameters=(_DELIVERY,),
        answers={200: answer("The delivery.", ref("Delivery"))},
        problems={409: ("delivery_ended",)},
    ),
    "GET /v1/attempts/stream": Operation(
        name="stream_attempts",
        tag="deliveries",
        summary="Follow attempts live",
        description="Server-sent events, until the client leaves: `attempt` with an `AttemptNotice` for each attempt "
        "as it is recorded, `dropped` with a `count` of those lost because the client reads too slowly. A comment "
        "every few seconds says that the daemon is still there.",
        parameters=(
            query("endpoint", text(pattern=ENDPOINT_ID_PATTERN), "Only at this endpoint."),
            query("type", text(pattern=GLOB_PATTERN), "Only of event types this glob covers."),
            TENANT,
        ),
        answers={
            200: answer(
                "The stream.",
                text(contentMediaType="application/json", contentSchema=ref("AttemptNotice")),
                media="text/event-stream",
            )
        },
    ),
}
