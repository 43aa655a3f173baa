"""From the bytes of a request to drafts: the one place where producers' events are read and judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from webhookd.api.jsontext import (
    WHITESPACE,
    has_surrogate_escape,
    neutral_escapes,
    not_json,
    object_members,
    refuse_repeats,
    require_json,
)
from webhookd.api.media import OCTET_STREAM, MediaType, parse_media_type
from webhookd.api.problems import invalid, malformed, refuse
from webhookd.core.event import (
    DEFAULT_TENANT,
    EVENT_TYPE,
    JSON_CONTENT_TYPE,
    OPERATIONAL_TENANT,
    TENANT,
    Draft,
)
from webhookd.core.settings import KIB, Ingest
from webhookd.core.times import parse_time_ms
from webhookd.errors import Fault, InvalidRequestError

ENVELOPE_BYTES = 64 * KIB
"""What an envelope may weigh beside its payload; far more than its longest fields need."""

EVENTS_PATH = b"/v1/events"

_RAW_PREFIX = EVENTS_PATH + b"/"
_RESEND = re.compile(rb"/v1/events/[^/]*/resend\Z")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_AT = re.compile(r" - at `\$\.?([^`]*)`\Z")
_FIELD = re.compile(r"(?:required|unknown) field `([^`]*)`\Z", re.DOTALL)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    payload: msgspec.Raw
    tenant: str | None = None
    content_type: str | None = None
    deliver_at: str | None = None
    idempotency_key: str | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_KEYS = frozenset(_Envelope.__struct_fields__)
_MOST_QUOTES = 4 * len(_KEYS) - 2
"""Of an envelope with every key there is, beside its payload."""


class Form(Enum):
    """How the events of a request are written down."""

    SINGLE = "application/json"
    BATCH = "application/x-ndjson"
    RAW = "the body is the payload"


SINGLE, BATCH, RAW = Form
"""By themselves, as looking up a member costs more than most of what a request needs."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """What the head of a request says about the events in its body; `limit_bytes` bounds that body."""

    form: Form
    limit_bytes: int
    idempotency_key: str | None
    type: str = ""
    tenant: str = DEFAULT_TENANT
    deliver_at_ms: int | None = None
    media: MediaType | None = None


def takes_events(path: bytes) -> bool:
    """Say whether a POST to `path`, as it stands in the request line, hands in events.

    `/v1/events/{one segment}/resend` is the operator's route; a type that looks like it must be percent-encoded.
    """
    if path == EVENTS_PATH:
        return True
    return path.startswith(_RAW_PREFIX) and len(path) > len(_RAW_PREFIX) and _RESEND.match(path) is None


def plan_events(path: bytes, query: bytes, fields: Mapping[bytes, bytes], ingest: Ingest) -> Plan:
    """Judge the head of a request that hands in events. Raises InvalidRequestError or ProblemError."""
    key = fields.get(b"idempotency-key")
    plan = Plan(
        form=SINGLE,
        limit_bytes=min(ingest.max_request_bytes, ingest.max_payload_bytes + ENVELOPE_BYTES),
        idempotency_key=None if key is None else _header_key(key),
    )
    content_type = fields.get(b"content-type")
    if path != EVENTS_PATH:
        plan.form = RAW
        plan.limit_bytes = min(ingest.max_request_bytes, ingest.max_payload_bytes)
        plan.type = _checked_type(_plain_text(unquote_to_bytes(path[len(_RAW_PREFIX) :])))
        plan.media = _media(content_type or OCTET_STREAM.encode())
        if query:
            plan.tenant, plan.deliver_at_ms = _parameters_of(query)
        return plan
    if query:
        name = next(iter(parse_qsl(query.decode("latin-1"), keep_blank_values=True)), ("", ""))[0]
        raise invalid("unknown_parameter", "this route has no query parameters", Fault(f"/{name[:64]}", "unknown"))
    if content_type != b"application/json":
        essence = _media(content_type).essence if content_type else ""
        if essence == "application/x-ndjson":
            plan.form = BATCH
            plan.limit_bytes = ingest.max_request_bytes
            if key is not None:
                raise invalid(
                    "idempotency_key_misplaced",
                    "each line of a batch has its own idempotency key",
                    Fault("/idempotency_key", "not in the header of a batch"),
                )
        elif essence != "application/json":
            raise refuse(
                "unsupported_media_type",
                415,
                "this route takes application/json or application/x-ndjson; POST /v1/events/{type} takes anything",
            )
    return plan


def read_drafts(plan: Plan, body: bytes, ingest: Ingest) -> list[Draft]:
    """Return the drafts in `body`. Raises InvalidRequestError or ProblemError; then none of it may be accepted."""
    if plan.form is SINGLE:
        return [_single(body, plan.idempotency_key, ingest)]
    return _batch(body, ingest) if plan.form is BATCH else [_raw(plan, body)]


def _raw(plan: Plan, body: bytes) -> Draft:
    media = plan.media or MediaType(text=OCTET_STREAM, essence=OCTET_STREAM)
    if media.is_json:
        require_json(body)
    return Draft(
        type=plan.type,
        payload=body,
        tenant=plan.tenant,
        content_type=media.text,
        deliver_at_ms=plan.deliver_at_ms,
        idempotency_key=plan.idempotency_key,
    )


def _batch(body: bytes, ingest: Ingest) -> list[Draft]:
    lines = body.split(b"\n", ingest.max_batch + 1)
    if not lines[-1].strip(WHITESPACE):
        lines.pop()
    if not any(line.strip(WHITESPACE) for line in lines):
        raise invalid("empty_batch", "the batch holds no events", Fault("", "no lines"))
    if len(lines) > ingest.max_batch:
        raise refuse("batch_too_large", 413, f"a batch holds at most {ingest.max_batch} events")
    drafts: list[Draft] = []
    for number, line in enumerate(lines, 1):
        try:
            drafts.append(_single(line, None, ingest))
        except InvalidRequestError as error:
            faults = error.faults or (Fault("", error.detail),)
            moved = tuple(Fault(f"/{number}{fault.pointer}", fault.detail) for fault in faults)
            raise InvalidRequestError(
                error.slug, f"line {number}: {error.detail}", status=error.status, faults=moved
            ) from None
    return drafts


def _single(body: bytes, header_key: str | None, ingest: Ingest) -> Draft:
    payload, envelope = _open_envelope(body)
    if len(payload) > ingest.max_payload_bytes:
        raise InvalidRequestError(
            "payload_too_large",
            f"a payload holds at most {ingest.max_payload_bytes} bytes",
            status=413,
            faults=(Fault("/payload", f"{len(payload)} bytes"),),
        )
    key = envelope.idempotency_key
    if key is not None:
        if header_key is not None:
            raise invalid(
                "idempotency_key_twice",
                "the idempotency key stands in the header and in the body",
                Fault("/idempotency_key", "also in the header"),
            )
        if _IDEMPOTENCY_KEY.match(key) is None:
            raise _bad_key()
    content_type = envelope.content_type
    if content_type is None:
        content_type = JSON_CONTENT_TYPE
    elif parse_media_type(content_type) is None:
        raise invalid("invalid_event", "the content type is none", Fault("/content_type", "not a media type"))
    return Draft(
        type=_checked_type(envelope.type),
        payload=payload,
        tenant=DEFAULT_TENANT if envelope.tenant is None else _checked_tenant(envelope.tenant),
        content_type=content_type,
        deliver_at_ms=None if envelope.deliver_at is None else _moment(envelope.deliver_at),
        idempotency_key=header_key if key is None else key,
    )


def _open_envelope(body: bytes) -> tuple[bytes, _Envelope]:
    """Take the envelope off, leaving the bytes of the payload as they stood."""
    try:
        if not body.isascii():
            body.decode()
        envelope = _ENVELOPE.decode(body)
        payload = bytes(envelope.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _reopen_envelope(body, error)
    # Beside the payload, each string has two quotes, and escapes only add to them: with as few quotes as the envelope
    # needs, there is no room for another key. Only with more of them is it worth to look.
    before = len(body) - len(payload) - 1
    is_last = body.startswith(payload, before)
    quotes = body.count(b'"', 0, before) if is_last else body.count(b'"') - payload.count(b'"')
    optional = (envelope.tenant, envelope.content_type, envelope.deliver_at, envelope.idempotency_key)
    if quotes != _MOST_QUOTES - 4 * optional.count(None):
        refuse_repeats(object_members(body))
    return payload, envelope


def _reopen_envelope(body: bytes, first_error: Exception) -> tuple[bytes, _Envelope]:
    """Tell malformed from wrong, and let escapes pass that msgspec refuses though JSON has them."""
    require_json(body)
    if isinstance(first_error, msgspec.ValidationError) and not has_surrogate_escape(body):
        if body.lstrip(WHITESPACE)[:1] == b"{":
            refuse_repeats(object_members(body))
        raise _wrong_envelope(first_error)
    try:
        envelope = _ENVELOPE.decode(neutral_escapes(body))
    except msgspec.ValidationError as error:
        raise _wrong_envelope(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise not_json(error) from None
    members = object_members(body)
    refuse_repeats(members)
    for key, value in members:
        if key != "payload" and has_surrogate_escape(value):
            raise invalid("invalid_event", "the event is wrong", Fault(f"/{key}", "not made of ASCII characters"))
    return dict(members)["payload"], envelope


def _wrong_envelope(error: msgspec.ValidationError) -> InvalidRequestError:
    text = str(error)
    where = _AT.search(text)
    what = text[: where.start()] if where else text
    named = _FIELD.search(what)
    field = named.group(1) if named else where.group(1) if where else ""
    pointer = f"/{field[:64].replace('~', '~0').replace('/', '~1')}" if field else ""
    if named is not None and field not in _KEYS:
        what = "unknown key"
    return invalid("invalid_event", "the event is wrong", Fault(pointer, what))


def _header_key(value: bytes) -> str:
    text = value.strip(b" \t").decode("latin-1")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = re.sub(r"\\([\\\"])", r"\1", text[1:-1])
    if _IDEMPOTENCY_KEY.match(text) is None:
        raise _bad_key()
    return text


def _bad_key() -> InvalidRequestError:
    return invalid(
        "invalid_idempotency_key",
        "an idempotency key is 1 to 255 visible ASCII characters",
        Fault("/idempotency_key", "not 1 to 255 visible ASCII characters"),
    )


@lru_cache(maxsize=1024)
def _checked_type(text: str) -> str:
    if EVENT_TYPE.match(text) is None:
        raise invalid(
            "invalid_event",
            "the event type is wrong",
            Fault("/type", "an event type is 1 to 128 letters, digits and _ . : / -"),
        )
    return text


@lru_cache(maxsize=1024)
def _checked_tenant(text: str) -> str:
    if TENANT.match(text) is None:
        raise invalid(
            "invalid_event", "the tenant is wrong", Fault("/tenant", "a tenant is 1 to 64 letters, digits and _ . -")
        )
    if text == OPERATIONAL_TENANT:
        raise invalid(
            "reserved_tenant", "this tenant is reserved for the daemon's own events", Fault("/tenant", "reserved")
        )
    return text


def _moment(text: str, *, in_query: bool = False) -> int:
    at_ms = parse_time_ms(text, in_query=in_query)
    if at_ms is None:
        raise invalid(
            "invalid_event",
            "the time of delivery is wrong",
            Fault("/deliver_at", "must be an RFC 3339 time with its offset, such as 2026-01-02T03:04:05Z"),
        )
    # What lies in the past is due at once; far enough back there is no year to show it by.
    return max(0, at_ms)


def _parameters_of(query: bytes) -> tuple[str, int | None]:
    values: dict[str, str] = {}
    for name, value in parse_qsl(_plain_text(query), keep_blank_values=True):
        if name not in ("tenant", "deliver_at"):
            raise invalid("unknown_parameter", "there is no such parameter", Fault(f"/{name[:64]}", "unknown"))
        if name in values:
            raise invalid("repeated_parameter", f"{name} is given twice", Fault(f"/{name}", "repeated"))
        values[name] = value
    tenant, deliver_at = values.get("tenant"), values.get("deliver_at")
    return (
        DEFAULT_TENANT if tenant is None else _checked_tenant(tenant),
        None if deliver_at is None else _moment(deliver_at, in_query=True),
    )


def _media(value: bytes) -> MediaType:
    media = parse_media_type(_plain_text(value))
    if media is None:
        raise refuse("unsupported_media_type", 415, "the Content-Type header is not a content type")
    return media


def _plain_text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise malformed("the request line and the headers must be ASCII") from None
