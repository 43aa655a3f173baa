"""The query parameters that lists share."""

from __future__ import annotations

from webhookd.api.spec.shorthand import EVENT_TYPE_PATTERN, TENANT_PATTERN, moment, query, text

LIMIT = query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}, "Most rows to return.")
CURSOR = query("cursor", text(), "`next` of the part before.")
TENANT = query("tenant", text(pattern=TENANT_PATTERN), "Only this tenant's.")
TYPE = query("type", text(pattern=EVENT_TYPE_PATTERN), "Only this event type.")
SINCE = query("since", moment("RFC 3339."), "Accepted at or after.")
UNTIL = query("until", moment("RFC 3339."), "Accepted before.")
FILTERED = (LIMIT, CURSOR, TENANT, TYPE, SINCE, UNTIL)
