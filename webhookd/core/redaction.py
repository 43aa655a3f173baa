"""Takes what is secret about an endpoint out of what its receiver says: error pages like to repeat the request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

from webhookd.core.attempt import EXCERPT_BYTES
from webhookd.core.masking import MASK, masked_header
from webhookd.core.settings import EndpointDefinition

MIN_SECRET_CHARACTERS = 6
"""Shorter values are not looked for: masking every `1` would hide more than it protects."""

_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*([^?]*)(?:\?(.*))?", re.DOTALL)
_MASK = MASK.encode()


class Redactor:
    """Masks the credentials of one endpoint in bytes that came back from it.

    Looked for are the secrets it signs by, its password, literal values of credential headers, the values in its query
    and, where the URL is a secret, the path and each part of it; as sent and percent-decoded. What a receiver has
    transformed further cannot be recognised.
    """

    __slots__ = ("_shortest", "_words")

    def __init__(self, endpoint: EndpointDefinition) -> None:
        words = {word.encode() for word in _words(endpoint) if len(word) >= MIN_SECRET_CHARACTERS}
        # The longest first, so that no part of one is left standing where a shorter one was masked within it.
        self._words = sorted(words, key=lambda word: (-len(word), word))
        self._shortest = min([EXCERPT_BYTES, *map(len, self._words)])

    def clean(self, excerpt: bytes) -> bytes:
        """Return the excerpt, which has been cut at EXCERPT_BYTES, with everything secret in it masked."""
        if len(excerpt) < self._shortest:
            return excerpt
        # Where the body went on, its last word may be the beginning of a secret.
        was_cut = len(excerpt) >= EXCERPT_BYTES
        for word in self._words:
            if word in excerpt:
                excerpt = excerpt.replace(word, _MASK)
        return self._without_cut_word(excerpt)[:EXCERPT_BYTES] if was_cut else excerpt[:EXCERPT_BYTES]

    def _without_cut_word(self, excerpt: bytes) -> bytes:
        begun = 0
        for word in self._words:
            longest = min(len(word) - 1, len(excerpt))
            begun = max(begun, next((n for n in range(longest, 0, -1) if excerpt.endswith(word[:n])), 0))
        return excerpt[: len(excerpt) - begun]


def _words(endpoint: EndpointDefinition) -> Iterator[str]:
    own = (signature.secret for signature in endpoint.rules.signatures)
    for secret in (endpoint.secret, endpoint.previous_secret, *own):
        if secret is not None:
            yield secret
            yield secret.removeprefix("whsec_")
    if endpoint.basic_auth is not None:
        yield endpoint.basic_auth.password
        yield endpoint.basic_auth.token
    for name, value in endpoint.rules.headers:
        if masked_header(name, value) == MASK:
            yield value
            yield value.rpartition(" ")[2]
    parts = _PATH.match(endpoint.url)
    if parts is None:
        return
    path, query = parts[1], parts[2] or ""
    for pair in query.split("&"):
        value = pair.partition("=")[2] if "=" in pair else pair
        yield value
        yield unquote_plus(value)
    if endpoint.url_is_secret:
        for text in (path, *path.split("/")):
            yield text
            yield unquote(text)
