"""Ed25519 keys and signatures as Standard Webhooks writes them; they need the extra `webhookd[ed25519]`.

A private key is `whsk_` and base64 of the 32 bytes of its seed, or of the seed and the public key after it, which is
how other senders write it; a public one is `whpk_` and base64 of its 32 bytes.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
SEED_BYTES = 32


def check_available() -> None:
    """Raise ValueError naming the extra unless the package that signs is installed."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401, PLC0415 - an extra; most never need it
    except ImportError:
        raise ValueError(
            "scheme ed25519 needs the package cryptography, which the extra installs: pip install 'webhookd[ed25519]'"
        ) from None


def private_key(secret: str) -> Ed25519PrivateKey:
    """Return the key in a `whsk_…` text. Raises ValueError with a sentence that does not repeat it."""
    check_available()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above

    if secret.startswith(PUBLIC_PREFIX):
        raise ValueError("is a public key, which cannot sign; scheme ed25519 needs the private one, whsk_…")
    if not secret.startswith(PRIVATE_PREFIX):
        raise ValueError("must be whsk_ and base64 after it for scheme ed25519")
    raw = _decoded(secret.removeprefix(PRIVATE_PREFIX))
    if len(raw) not in {SEED_BYTES, 2 * SEED_BYTES}:
        raise ValueError("must be whsk_ and base64 of 32 bytes, or of 64 with the public key after them")
    key = Ed25519PrivateKey.from_private_bytes(raw[:SEED_BYTES])
    if raw[SEED_BYTES:] not in {b"", key.public_key().public_bytes_raw()}:
        raise ValueError("holds a public key that does not belong to its private one")
    return key


def public_key(text: str) -> Ed25519PublicKey:
    """Return the key in a `whpk_…` text, or the public one of a `whsk_…` text. Raises ValueError."""
    if not text.startswith(PUBLIC_PREFIX):
        return private_key(text).public_key()
    check_available()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    raw = _decoded(text.removeprefix(PUBLIC_PREFIX))
    if len(raw) != SEED_BYTES:
        raise ValueError("must be whpk_ and base64 of 32 bytes")
    return Ed25519PublicKey.from_public_bytes(raw)


def secret_text(seed: bytes) -> str:
    """Return the `whsk_…` text of the key that grows from 32 random bytes."""
    key = private_key(PRIVATE_PREFIX + base64.b64encode(seed).decode())
    return PRIVATE_PREFIX + base64.b64encode(seed + key.public_key().public_bytes_raw()).decode()


def public_text(secret: str) -> str:
    """Return the `whpk_…` text that receivers check with. Raises ValueError where `secret` is no key."""
    return PUBLIC_PREFIX + base64.b64encode(public_key(secret).public_bytes_raw()).decode()


def holds(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    """Say whether `signature` was made over `signed` by the owner of `key`."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be base64 after its prefix") from None
