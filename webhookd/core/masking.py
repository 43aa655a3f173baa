"""What may be shown of values that can hold a secret."""

from __future__ import annotations

MASK = "********"


def masked_url(url: str) -> str:
    """Return the URL with every value in its query masked; a part of the query without a name is taken for a value."""
    address, mark, query = url.partition("?")
    if not mark:
        return url
    parts = [part.partition("=") for part in query.split("&")]
    return f"{address}?" + "&".join(f"{name}={MASK}" if equals else MASK for name, equals, _ in parts)
