"""Every route of the API, described: what it takes, what it answers, and how it can fail."""

from __future__ import annotations

from webhookd.api.spec.daemon import DAEMON
from webhookd.api.spec.deliveries import DELIVERIES
from webhookd.api.spec.endpoints import ENDPOINTS
from webhookd.api.spec.events import EVENTS
from webhookd.api.spec.shorthand import Operation

TAGS = {
    "events": "Hand in what happened, and look at it afterwards.",
    "endpoints": "Receivers: see, make, change, delete, try, hold and resume.",
    "deliveries": "One event owed to one endpoint.",
    "daemon": "How the daemon is.",
}

COMMON_PROBLEMS: dict[int, tuple[str, ...]] = {
    400: ("malformed_request",),
    401: ("unauthorized",),
    403: ("forbidden", "host_refused", "origin_refused"),
    404: ("not_found",),
    405: ("method_not_allowed",),
    408: ("request_timeout",),
    413: ("body_too_large",),
    415: ("unsupported_media_type",),
    417: ("expectation_failed",),
    422: ("invalid_body", "invalid_query"),
    500: ("internal",),
    503: ("overloaded", "shutting_down", "store_unavailable"),
    507: ("store_full",),
}
"""Problems that any request may meet, by status."""

OPERATIONS: dict[str, Operation] = {**EVENTS, **ENDPOINTS, **DELIVERIES, **DAEMON}
"""Every route by method and path."""
