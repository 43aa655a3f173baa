"""How the text of a secret becomes a key, and the HMAC under it."""

from __future__ import annotations

import base64
import hashlib

from webhookd.core.settings import Algorithm, KeyEncoding

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret is none
GENERATED_BYTES = 32

_HASHES = {Algorithm.SHA256: hashlib.sha256, Algorithm.SHA512: hashlib.sha512, Algorithm.SHA1: hashlib.sha1}


class Mac:
    """HMAC under one key; its two halves that depend on nothing but the key are worked out once (RFC 2104)."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, algorithm: Algorithm, key: bytes) -> None:
        make = _HASHES[algorithm]
        block_bytes = make().block_size
        block = (make(key).digest() if len(key) > block_bytes else key).ljust(block_bytes, b"\0")
        self._inner = make(bytes(byte ^ 0x36 for byte in block))
        self._outer = make(bytes(byte ^ 0x5C for byte in block))

    def digest(self, *parts: bytes) -> bytes:
        """Return the HMAC of the parts, one after the other; none of them is copied."""
        inner = self._inner.copy()
        for part in parts:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def key_bytes(secret: str, encoding: KeyEncoding, *, strip_prefix: str = "") -> bytes:
    """Return the key in `secret`, without the prefix if it has it. Raises ValueError for what does not decode.

    Any key that is not empty is taken, however short, since what a receiver already uses cannot be changed from here.
    """
    text, key = secret.removeprefix(strip_prefix), b""
    before = f", with or without {strip_prefix} before it" if strip_prefix else ""
    match encoding:
        case KeyEncoding.RAW:
            key = text.encode()
        case KeyEncoding.BASE64:
            try:
                key = base64.b64decode(text, validate=True)
            except ValueError:
                raise ValueError(f"must be base64{before}") from None
        case KeyEncoding.HEX:
            try:
                # Unlike fromhex, which passes over spaces.
                key = base64.b16decode(text, casefold=True)
            except ValueError:
                raise ValueError(f"must be hexadecimal{before}") from None
    if not key:
        raise ValueError("must not be empty")
    return key


def signing_key(secret: str) -> bytes:
    """Return the key behind a Standard Webhooks secret: base64 after an optional `whsec_`. Raises ValueError."""
    return key_bytes(secret, KeyEncoding.BASE64, strip_prefix=SECRET_PREFIX)
