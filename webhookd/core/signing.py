"""The headers of a delivery: ours, the configured ones with their placeholders filled, and the signatures over it.

Signatures follow Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.payload`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import assert_never

from webhookd.core.event import Event
from webhookd.core.ids import event_text
from webhookd.core.settings import EndpointDefinition, Scheme

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret is none
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

_PLACEHOLDERS = frozenset({"secret", "event_id", "event_type", "attempt", "tenant"})
_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_ ]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLOCK_BYTES = 64


class StandardSigner:
    """Signs by one key; the two halves of HMAC that depend on nothing but the key are worked out once (RFC 2104)."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, message_id: str, timestamp_seconds: int, payload: bytes) -> str:
        """Return the signature as `webhook-signature` carries it, `v1,…`."""
        inner = self._inner.copy()
        inner.update(f"{message_id}.{timestamp_seconds}.".encode())
        inner.update(payload)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return "v1," + binascii.b2a_base64(outer.digest(), newline=False).decode()


class HeaderPlan:
    """The headers for one endpoint, prepared so that an attempt only has to fill in what is its own.

    Raises ValueError where the endpoint cannot be signed for, or its secret cannot stand in a header.
    """

    __slots__ = ("_signers", "_template")

    def __init__(self, endpoint: EndpointDefinition, *, version: str) -> None:
        self._signers = tuple(_signer(signature.scheme, endpoint.secret) for signature in endpoint.rules.signatures)
        ours = {"Content-Type": "%(content_type)s"}
        if endpoint.basic_auth is not None:
            ours["Authorization"] = f"Basic {endpoint.basic_auth.token}"
        if endpoint.rules.standard_headers:
            ours["User-Agent"] = f"webhookd/{version}"
        if endpoint.rules.standard_headers or self._signers:
            ours["webhook-id"] = "%(event_id)s"
            ours["webhook-timestamp"] = "%(timestamp)d"
        if self._signers:
            ours["webhook-signature"] = "%(signature)s"
        configured = [
            (name, _as_template(value, endpoint.secret))
            for name, value in endpoint.rules.headers
            if endpoint.secret is not None or "{secret}" not in value
        ]
        replaced = {name.lower() for name, _ in configured}
        lines = [(name, value) for name, value in ours.items() if name.lower() not in replaced] + configured
        self._template = "".join(f"{name}: {value}\r\n" for name, value in lines)

    def render(self, event: Event, *, attempt_number: int, timestamp_seconds: int) -> bytes:
        """Return the header lines of one attempt, each ended by CR LF; the client adds those that frame the message."""
        event_id = event_text(event.id)
        return (
            self._template
            % {
                "content_type": _checked(event.content_type),
                "event_id": event_id,
                "event_type": event.type,
                "tenant": event.tenant,
                "attempt": attempt_number,
                "timestamp": timestamp_seconds,
                "signature": " ".join(
                    [signer.sign(event_id, timestamp_seconds, event.payload) for signer in self._signers]
                ),
            }
        ).encode()


def signing_key(secret: str) -> bytes:
    """Return the key behind a Standard Webhooks secret: base64 after an optional `whsec_`.

    Raises ValueError for text that does not decode. The specification suggests 24 to 64 bytes; any key that is not
    empty is taken, since what a receiver already uses cannot be changed from here.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise ValueError("must be base64, with or without whsec_ before it") from None
    if not key:
        raise ValueError("must not be empty")
    return key


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
def _checked(content_type: str) -> str:
    # The way in checks it too; what would split a request is worth a second lock, and the cache makes it free.
    if _CONTROL.search(content_type):
        raise ValueError(f"{content_type!r} cannot be sent as a content type")
    return content_type


def _signer(scheme: Scheme, secret: str | None) -> StandardSigner:
    match scheme:
        case Scheme.STANDARD:
            if secret is None:
                raise ValueError("a signature needs a secret, and the endpoint has none")
            return StandardSigner(signing_key(secret))
        case _:
            assert_never(scheme)
