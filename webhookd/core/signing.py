"""The headers of a delivery: ours, the configured ones with their placeholders filled, and the signatures over it."""

from __future__ import annotations

import re
from functools import lru_cache

from webhookd.core.event import Event
from webhookd.core.ids import event_text
from webhookd.core.recipes import STANDARD_HEADERS, recipe_of
from webhookd.core.settings import EndpointDefinition
from webhookd.core.signers import as_format, prepare

FORBIDDEN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Names that frame the message or belong to one hop (RFC 9110 section 7.6.1); they are the client's business."""

_PLACEHOLDERS = frozenset({"secret", "event_id", "event_type", "attempt", "tenant", "timestamp"})
_SELDOM_FILLED = (b"event_type", b"tenant", b"attempt")
_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_ ]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class HeaderPlan:
    """The headers for one endpoint, prepared so that an attempt only has to fill in what is its own.

    Raises ValueError where the endpoint cannot be signed for, or its secret cannot stand in a header.
    """

    __slots__ = ("_both_until_ms", "_fills_more", "_signed", "_template")

    def __init__(self, endpoint: EndpointDefinition, *, version: str) -> None:
        signatures = endpoint.rules.signatures
        headers = prepare(signatures, endpoint.secret, endpoint.previous_secret)
        self._signed = tuple((f"signature{index}".encode(), header) for index, header in enumerate(headers))
        self._both_until_ms = endpoint.previous_secret_until_ms or 0
        ours = {"Content-Type": "%(content_type)s"}
        if endpoint.basic_auth is not None:
            ours["Authorization"] = f"Basic {endpoint.basic_auth.token}"
        if endpoint.rules.standard_headers:
            ours["User-Agent"] = f"webhookd/{version}"
            ours |= {name: as_format(value) for name, value in STANDARD_HEADERS}
        for signature in signatures:
            ours |= {name: as_format(value) for name, value in recipe_of(signature).companions}
        for slot, header in self._signed:
            ours[header.name] = as_format(header.value, signature=f"%({slot.decode()})s")
        configured = [
            (name, _as_template(value, endpoint.secret))
            for name, value in endpoint.rules.headers
            if endpoint.secret is not None or "{secret}" not in value
        ]
        replaced = {name.lower() for name, _ in configured}
        lines = [(name, value) for name, value in ours.items() if name.lower() not in replaced] + configured
        self._template = "".join(f"{name}: {value}\r\n" for name, value in lines).encode()
        self._fills_more = any(b"%%(%b)s" % word in self._template for word in _SELDOM_FILLED)

    def render(self, event: Event, *, attempt_number: int, timestamp_seconds: int) -> bytes:
        """Return the header lines of one attempt, each ended by CR LF; the client adds those that frame the message."""
        fields = {
            b"content_type": _checked(event.content_type),
            b"event_id": event_text(event.id).encode(),
            b"timestamp": b"%d" % timestamp_seconds,
        }
        if self._fills_more:
            fields[b"event_type"] = event.type.encode()
            fields[b"tenant"] = event.tenant.encode()
            fields[b"attempt"] = b"%d" % attempt_number
        with_previous = timestamp_seconds * 1000 < self._both_until_ms
        for slot, header in self._signed:
            fields[slot] = header.signatures(fields, event.payload, with_previous=with_previous)
        return self._template % fields


def check_header(name: str, value: str, *, secret: str | None = None) -> None:
    """Raise ValueError with a sentence unless the configured header may be sent.

    With a `secret`, the value is looked at as it will be once that is filled in.
    """
    if not _TOKEN.match(name):
        raise ValueError(f"{name!r} is not the name of a header")
    if name.lower() in FORBIDDEN_HEADERS:
        raise ValueError(f"{name} is set by webhookd itself")
    _as_template(value, "secret" if secret is None else secret)


def _as_template(value: str, secret: str | None) -> str:
    for word in _PLACEHOLDER.findall(value):
        if word not in _PLACEHOLDERS:
            known = " ".join(f"{{{placeholder}}}" for placeholder in sorted(_PLACEHOLDERS))
            raise ValueError(f"has an unknown placeholder {{{word}}}; there are {known}")

    def fill(match: re.Match[str]) -> str:
        word = match[1]
        return (secret or "").replace("%", "%%") if word == "secret" else f"%({word})s"

    template = _PLACEHOLDER.sub(fill, value.replace("%", "%%"))
    if _CONTROL.search(template) or template != template.strip():
        raise ValueError("must not contain control characters, or spaces at its ends")
    if any("\ud800" <= character <= "\udfff" for character in template):
        raise ValueError("contains characters that cannot be encoded as UTF-8")
    return template


@lru_cache(maxsize=256)
def _checked(content_type: str) -> bytes:
    # The way in checks it too; what would split a request is worth a second lock, and the cache makes it free.
    if _CONTROL.search(content_type):
        raise ValueError(f"{content_type!r} cannot be sent as a content type")
    return content_type.encode()
