"""What callers may ask for: query parameters and bodies of the operating routes, checked before anything is done."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection

import msgspec
from aiohttp import web

from webhookd.api.jsontext import read_object
from webhookd.api.media import parse_media_type
from webhookd.api.problems import invalid, malformed, refuse
from webhookd.core.delivery import DeliveryState
from webhookd.core.event import EVENT_TYPE, TENANT
from webhookd.core.ids import DeliveryId, EndpointId, EventId, is_endpoint_id, parse_delivery_id, parse_event_id
from webhookd.core.queries import DeliveryFilter, EventFilter
from webhookd.core.services import NoticeFilter
from webhookd.core.times import parse_time_ms
from webhookd.errors import Fault, InvalidRequestError, NotFoundError

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

TYPE_GLOB = re.compile(r"[A-Za-z0-9_.:/*?\[\]-]{1,256}\Z")
MERGE_PATCH = "application/merge-patch+json"

_LIMIT = re.compile(r"[0-9]{1,4}\Z")


class Query:
    """The query of a request; every parameter has to be known, stand once and be valid, or `check` raises them all."""

    def __init__(self, request: web.Request, known: Collection[str]) -> None:
        self._faults: list[Fault] = []
        self._values: dict[str, str] = {}
        for name, value in request.query.items():
            if name not in known:
                self._faults.append(Fault(_pointer(name), "unknown parameter"))
            elif name in self._values:
                self._faults.append(Fault(_pointer(name), "given twice"))
            else:
                self._values[name] = value

    def check(self) -> None:
        """Raise InvalidRequestError for what was wrong so far."""
        if self._faults:
            raise InvalidRequestError("invalid_query", "the query is wrong", faults=tuple(self._faults))

    def page(self) -> tuple[int, int | None]:
        """Return `limit`, and the position that `cursor` stands for."""
        text = self._values.get("limit")
        limit = DEFAULT_LIMIT
        if text is not None:
            limit = int(text) if _LIMIT.match(text) else 0
            if not 1 <= limit <= MAX_LIMIT:
                self._fault("limit", f"must be a number from 1 to {MAX_LIMIT}")
        cursor = self._values.get("cursor")
        before = None if cursor is None else parse_cursor(cursor)
        if cursor is not None and before is None:
            self._fault("cursor", "is not one that was given out")
        return limit, before

    def matching(self, name: str, pattern: re.Pattern[str], wanted: str) -> str | None:
        """Return a parameter that has to match; `wanted` says what is right."""
        text = self._values.get(name)
        if text is not None and pattern.match(text) is None:
            self._fault(name, wanted)
        return text

    def time_ms(self, name: str) -> int | None:
        """Return a moment as UTC milliseconds."""
        text = self._values.get(name)
        if text is None:
            return None
        at_ms = parse_time_ms(text, in_query=True)
        if at_ms is None:
            self._fault(name, "must be an RFC 3339 time such as 2026-01-02T03:04:05Z")
        return at_ms

    def state(self) -> DeliveryState | None:
        """Return a delivery state."""
        text = self._values.get("state")
        if text is None:
            return None
        try:
            return DeliveryState(text)
        except ValueError:
            self._fault("state", f"must be one of {', '.join(state.value for state in DeliveryState)}")
            return None

    def event_id(self) -> EventId | None:
        """Return the event that is asked about."""
        text = self._values.get("event")
        if text is None:
            return None
        try:
            return parse_event_id(text)
        except NotFoundError:
            self._fault("event", "must be an event id, evt_…")
            return None

    def endpoint_id(self) -> EndpointId | None:
        """Return the endpoint that is asked about."""
        text = self._values.get("endpoint")
        if text is None:
            return None
        if not is_endpoint_id(text):
            self._fault("endpoint", "must be an endpoint id")
        return EndpointId(text)

    def _fault(self, name: str, detail: str) -> None:
        self._faults.append(Fault(_pointer(name), detail))


def page_only(request: web.Request) -> tuple[int, int | None]:
    """Return limit and position of a list without filters."""
    query = Query(request, {"limit", "cursor"})
    page = query.page()
    query.check()
    return page


def event_query(request: web.Request) -> tuple[EventFilter, int, int | None]:
    """Return filter, limit and position of a list of events."""
    query = Query(request, {"limit", "cursor", "tenant", "type", "since", "until"})
    limit, before = query.page()
    which = EventFilter(
        tenant=query.matching("tenant", TENANT, "must be a tenant"),
        type=query.matching("type", EVENT_TYPE, "must be an event type"),
        since_ms=query.time_ms("since"),
        until_ms=query.time_ms("until"),
    )
    query.check()
    return which, limit, before


def delivery_query(request: web.Request) -> tuple[DeliveryFilter, int, int | None]:
    """Return filter, limit and position of a list of deliveries."""
    query = Query(request, {"limit", "cursor", "endpoint", "event", "state", "type", "tenant", "since", "until"})
    limit, before = query.page()
    which = DeliveryFilter(
        endpoint_id=query.endpoint_id(),
        event_id=query.event_id(),
        state=query.state(),
        type=query.matching("type", EVENT_TYPE, "must be an event type"),
        tenant=query.matching("tenant", TENANT, "must be a tenant"),
        since_ms=query.time_ms("since"),
        until_ms=query.time_ms("until"),
    )
    query.check()
    return which, limit, before


def notice_query(request: web.Request) -> NoticeFilter:
    """Return which attempts to tell of."""
    query = Query(request, {"endpoint", "type", "tenant"})
    which = NoticeFilter(
        endpoint_id=query.endpoint_id(),
        type=query.matching("type", TYPE_GLOB, "must be an event type or a glob"),
        tenant=query.matching("tenant", TENANT, "must be a tenant"),
    )
    query.check()
    return which


def no_query(request: web.Request) -> None:
    """Refuse every query parameter."""
    Query(request, ()).check()


def path_event_id(request: web.Request) -> EventId:
    """Return the event the path names. Raises NotFoundError."""
    return parse_event_id(request.match_info["id"])


def path_delivery_id(request: web.Request) -> DeliveryId:
    """Return the delivery the path names. Raises NotFoundError."""
    return parse_delivery_id(request.match_info["id"])


def path_endpoint_id(request: web.Request) -> EndpointId:
    """Return the endpoint the path names. Raises NotFoundError."""
    text = request.match_info["id"]
    if not is_endpoint_id(text):
        raise NotFoundError("there is no endpoint of this name")
    return EndpointId(text)


async def body_members(
    request: web.Request, *, content_types: Collection[str] = ("application/json",)
) -> dict[str, bytes]:
    """Return the members of the JSON object in the body, each as the bytes that stand there; empty without a body."""
    body = await request.read()
    if not body:
        return {}
    media = parse_media_type(request.headers.get("Content-Type", ""))
    if media is None or media.essence not in content_types:
        raise refuse("unsupported_media_type", 415, f"this route takes {' or '.join(content_types)}")
    return read_object(body)


async def nothing_in_body(request: web.Request) -> None:
    """Refuse every key."""
    refuse_unknown(await body_members(request), ())


def refuse_unknown(members: Collection[str], known: Collection[str]) -> None:
    """Refuse keys that mean nothing here."""
    faults = tuple(Fault(_pointer(key), "unknown key") for key in members if key not in known)
    if faults:
        raise invalid("invalid_body", "the body has unknown keys", *faults)


def plain_value(key: str, text: bytes) -> object:
    """Return a JSON value as Python has it. Raises InvalidRequestError for numbers beyond what a computer counts in."""
    try:
        return msgspec.json.decode(text)
    except msgspec.ValidationError as error:
        raise invalid("invalid_body", "a number is out of range", Fault(_pointer(key), str(error))) from None
    except (msgspec.DecodeError, RecursionError):
        raise malformed("a text holds half of a surrogate pair, or the nesting is too deep") from None


def cursor_text(before: int | None) -> str | None:
    """Return a position as the opaque text that callers give back."""
    if before is None:
        return None
    return base64.urlsafe_b64encode(before.to_bytes(8, "big", signed=True)).decode().rstrip("=")


def parse_cursor(text: str) -> int | None:
    """Return the position behind a cursor, None where we cannot have given it out."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=", altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    before = int.from_bytes(raw, "big", signed=True)
    return before if len(raw) == 8 and cursor_text(before) == text else None


def _pointer(name: str) -> str:
    return f"/{name[:64].replace('~', '~0').replace('/', '~1')}"
