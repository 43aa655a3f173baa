"""What may be shown of values that can hold a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping

MASK = "********"
HIDDEN_PATH = "/…"
"""What stands for path and query of a URL that is a secret."""

_CREDENTIAL_HEADER = re.compile(r"auth|cookie|key|pass|secret|sign|token", re.IGNORECASE)
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#\\]*@)?([^/?#\\@]*)")


def masked_url(url: str, *, is_secret: bool = False) -> str:
    """Return the URL with every value in its query masked; a part of the query without a name is taken for a value.

    Of one that is a secret nothing is left but scheme, host and port.
    """
    if is_secret:
        origin = _ORIGIN.match(url)
        return MASK if origin is None else origin[1] + origin[2] + HIDDEN_PATH
    address, mark, query = url.partition("?")
    if not mark:
        return url
    parts = [part.partition("=") for part in query.split("&")]
    return f"{address}?" + "&".join(f"{name}={MASK}" if equals else MASK for name, equals, _ in parts)


def is_masked_url(url: str) -> bool:
    """Say whether this is a URL as `masked_url` shows it, which leads nowhere."""
    return MASK in url or url.endswith(HIDDEN_PATH)


def masked_header(name: str, value: str) -> str:
    """Return the value of a header, masked where it is a credential, by its name, and written out."""
    # A credential written straight into a header is a secret that nobody declared as one.
    return MASK if _CREDENTIAL_HEADER.search(name) and "{secret}" not in value else value


def masked_basic_auth(given: Mapping[str, object]) -> dict[str, object]:
    """Return Basic credentials as they may be shown: the user name, and that there is a password."""
    return {name: value if name == "username" else MASK for name, value in given.items()}


def masked_signatures(signatures: object) -> object:
    """Return what an owner gave as `signatures`, with the secrets that some of them have of their own masked."""
    if not isinstance(signatures, list):
        return signatures
    return [
        {**signature, "secret": MASK} if isinstance(signature, dict) and "secret" in signature else signature
        for signature in signatures
    ]
