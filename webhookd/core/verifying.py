"""Verifying what a receiver got: whether a signature holds and, if not, why, in words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

from webhookd.core.signing import signing_key

TOLERANCE_SECONDS = 300
"""How far a timestamp may be from the receiver's clock, either way; the value of the reference libraries."""

_WANTED = ("webhook-id", "webhook-timestamp", "webhook-signature")
_TIMESTAMP = re.compile(r"-?\d{1,12}\Z", re.ASCII)


def verify_standard(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
    """Return None when a Standard Webhooks signature holds, else a sentence saying why it does not.

    The names in `headers` may be in any case; `now` is seconds since 1970. Of several signatures one has to hold, so
    that secrets can be rotated. Raises ValueError where `secret` is none.
    """
    key = signing_key(secret)
    got = {name.lower(): value.strip() for name, value in headers.items()}
    if missing := [name for name in _WANTED if not got.get(name)]:
        return f"missing {' and '.join(missing)}"
    message_id, timestamp, signatures = (got[name] for name in _WANTED)
    if not _TIMESTAMP.match(timestamp):
        return f"webhook-timestamp is not a number of seconds: {timestamp[:40]!r}"
    candidates = [value for version, comma, value in map(_split, signatures.split()) if comma and version == "v1"]
    if not candidates:
        return "webhook-signature holds no v1 signature"
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    if not any(hmac.compare_digest(wanted, value.encode("utf-8", "replace")) for value in candidates):
        return "no signature matches: the secret is another one, or the body was changed on the way"
    return _age(int(timestamp), now)


def _split(signature: str) -> tuple[str, str, str]:
    return signature.partition(",")


def _age(timestamp: int, now: float) -> str | None:
    late = now - timestamp
    if late > TOLERANCE_SECONDS:
        return f"webhook-timestamp is too old: {late:.0f} s, more than {TOLERANCE_SECONDS} s (signature itself holds)"
    if late < -TOLERANCE_SECONDS:
        return (
            f"webhook-timestamp is in the future: {-late:.0f} s, more than {TOLERANCE_SECONDS} s "
            "(signature itself holds; are both clocks right?)"
        )
    return None
