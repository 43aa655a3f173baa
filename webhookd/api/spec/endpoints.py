"""The routes of endpoints, described."""

from __future__ import annotations

from webhookd.api.spec.endpoint_keys import DURATION_PATTERN
from webhookd.api.spec.parameters import CURSOR, LIMIT
from webhookd.api.spec.shorthand import (
    GLOB_PATTERN,
    Operation,
    answer,
    body,
    in_path,
    keys,
    moment,
    nullable,
    ref,
    text,
)

_ENDPOINT = in_path("id", text(), "The endpoint.")
_ENDPOINT_PROBLEMS = {409: ("endpoint_declared",), 422: ("invalid_endpoint",)}

ENDPOINTS: dict[str, Operation] = {
    "GET /v1/endpoints": Operation(
        name="list_endpoints",
        tag="endpoints",
        summary="List endpoints, newest first",
        parameters=(LIMIT, CURSOR),
        answers={200: answer("A part of the list.", ref("EndpointList"))},
    ),
    "POST /v1/endpoints": Operation(
        name="create_endpoint",
        tag="endpoints",
        summary="Add an endpoint",
        body=body(ref("NewEndpoint"), required=True),
        answers={
            201: answer(
                "The endpoint. A generated secret is shown in this answer only.",
                ref("EndpointCreated"),
                headers={"Location": {"description": "Its path.", "schema": text()}},
            )
        },
        problems={409: ("endpoint_exists",), 422: ("invalid_endpoint",)},
    ),
    "GET /v1/endpoints/{id}": Operation(
        name="show_endpoint",
        tag="endpoints",
        summary="Show an endpoint",
        parameters=(_ENDPOINT,),
        answers={200: answer("The endpoint.", ref("Endpoint"))},
    ),
    "PATCH /v1/endpoints/{id}": Operation(
        name="update_endpoint",
        tag="endpoints",
        summary="Change an endpoint",
        description="Deliveries already owed go by the new rules from their next attempt on.",
        parameters=(_ENDPOINT,),
        body=body(ref("EndpointPatch"), "application/json", "application/merge-patch+json"),
        answers={200: answer("The endpoint as it is now.", ref("Endpoint"))},
        problems=_ENDPOINT_PROBLEMS,
    ),
    "DELETE /v1/endpoints/{id}": Operation(
        name="remove_endpoint",
        tag="endpoints",
        summary="Delete an endpoint",
        description="What it is owed is cancelled, with reason `endpoint_deleted`.",
        parameters=(_ENDPOINT,),
        answers={204: {"description": "Deleted."}},
        problems={409: ("endpoint_declared",)},
    ),
    "POST /v1/endpoints/{id}/test": Operation(
        name="test_endpoint",
        tag="endpoints",
        summary="Send a sample now",
        description="Outside the outbox, also to a disabled endpoint; touches neither its health nor the log.",
        parameters=(_ENDPOINT,),
        answers={200: answer("What came back.", ref("TestResult"))},
        problems={409: ("endpoint_removed",)},
    ),
    "POST /v1/endpoints/{id}/enable": Operation(
        name="enable_endpoint",
        tag="endpoints",
        summary="Enable an endpoint",
        description="Clears the failing streak and sends what was held, slowly at first.",
        parameters=(_ENDPOINT,),
        answers={200: answer("The endpoint.", ref("Endpoint"))},
        problems={409: ("endpoint_removed",)},
    ),
    "POST /v1/endpoints/{id}/disable": Operation(
        name="disable_endpoint",
        tag="endpoints",
        summary="Disable an endpoint",
        description="Its deliveries are held: kept, not attempted.",
        parameters=(_ENDPOINT,),
        answers={200: answer("The endpoint.", ref("Endpoint"))},
    ),
    "POST /v1/endpoints/{id}/rotate-secret": Operation(
        name="rotate_secret",
        tag="endpoints",
        summary="Give an endpoint another secret",
        description="The one before signs as well until `overlap` has passed.",
        parameters=(_ENDPOINT,),
        body=body(
            keys(
                {
                    "overlap": text("At most 365d.", pattern=DURATION_PATTERN, default="24h"),
                    "secret": text("The new secret; generated if there is none."),
                }
            )
        ),
        answers={
            200: answer(
                "The endpoint, with its new secret, which is shown in this answer only.",
                ref("EndpointRotated"),
            )
        },
        problems={409: ("endpoint_declared", "endpoint_removed", "no_secret"), 422: ("invalid_endpoint",)},
    ),
    "POST /v1/endpoints/{id}/replay": Operation(
        name="replay",
        tag="endpoints",
        summary="Owe many ended deliveries again",
        description="Due now, with a fresh schedule and age, and behind everything else the endpoint is owed.",
        parameters=(_ENDPOINT,),
        body=body(
            keys(
                {
                    "since": nullable(moment("Accepted at or after.")),
                    "until": nullable(moment("Accepted before.")),
                    "states": {
                        "type": "array",
                        "items": {"type": "string", "enum": ["delivered", "dead", "cancelled"]},
                        "minItems": 1,
                        "default": ["dead"],
                        "description": "How they ended.",
                    },
                    "types": {
                        "type": "array",
                        "items": text(pattern=GLOB_PATTERN),
                        "maxItems": 100,
                        "description": "Event types or globs; empty for every type.",
                    },
                    "dry_run": {"type": "boolean", "default": False, "description": "Only count."},
                }
            ),
            example={"since": "2026-01-02T00:00:00Z", "states": ["dead"]},
        ),
        answers={
            202: answer("How many are owed again.", ref("Count")),
            200: answer("How many would be, after `dry_run`.", ref("Count")),
        },
    ),
}
