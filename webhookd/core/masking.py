"""What may be shown of values that can hold a secret."""

from __future__ import annotations

import re

MASK = "********"

_CREDENTIAL_HEADER = re.compile(r"auth|cookie|key|pass|secret|sign|token", re.IGNORECASE)


def masked_url(url: str) -> str:
    """Return the URL with every value in its query masked; a part of the query without a name is taken for a value."""
    address, mark, query = url.partition("?")
    if not mark:
        return url
    parts = [part.partition("=") for part in query.split("&")]
    return f"{address}?" + "&".join(f"{name}={MASK}" if equals else MASK for name, equals, _ in parts)


def masked_header(name: str, value: str) -> str:
    """Return the value of a header, masked where it is a credential, by its name, and written out."""
    # A credential written straight into a header is a secret that nobody declared as one.
    return MASK if _CREDENTIAL_HEADER.search(name) and "{secret}" not in value else value
