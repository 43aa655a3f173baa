"""Signatures prepared for one endpoint, so that an attempt works out only what depends on it."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from webhookd.core import ed25519
from webhookd.core.keys import Mac
from webhookd.core.recipes import PLACEHOLDER, Recipe, can_share, key_of, recipe_of
from webhookd.core.settings import Encoding, EndpointDefinition, Signature

_FIELDS = {"id": "%(event_id)s", "timestamp": "%(timestamp)s", "type": "%(event_type)s"}

Fields = Mapping[bytes, bytes]
"""What an attempt fills in: `event_id`, `timestamp` in seconds since 1970, and `event_type`."""


def _base64(signature: bytes) -> bytes:
    return binascii.b2a_base64(signature, newline=False)


_ENCODERS: dict[Encoding, Callable[[bytes], bytes]] = {Encoding.HEX: binascii.hexlify, Encoding.BASE64: _base64}


class Signs(Protocol):
    """One key at work."""

    def digest(self, *parts: bytes) -> bytes:
        """Return the signature over the parts, one after the other."""


class _Ed25519Key:
    __slots__ = ("_sign",)

    def __init__(self, secret: str) -> None:
        self._sign: Callable[[bytes], bytes] = ed25519.private_key(secret).sign

    def digest(self, *parts: bytes) -> bytes:
        return self._sign(b"".join(parts))


def as_format(template: str, **more: str) -> str:
    """Return a template as what `%` fills from Fields, once it is bytes; its words, and those in `more`, are known."""
    words = _FIELDS | more
    return PLACEHOLDER.sub(lambda match: words[match[1]], template.replace("%", "%%"))


def encoded(signature: bytes, encoding: Encoding) -> bytes:
    """Return a signature as the text it is sent as."""
    return _ENCODERS[encoding](signature)


class Signer:
    """Makes one signature of a recipe under one secret.

    Raises ValueError, with a sentence that does not repeat it, where the recipe cannot use the secret.
    """

    __slots__ = ("_after", "_before", "_encode", "_key", "_label")

    def __init__(self, recipe: Recipe, secret: str) -> None:
        self._key: Signs = _Ed25519Key(secret) if recipe.asymmetric else Mac(recipe.algorithm, key_of(recipe, secret))
        self._before, self._after = (as_format(part).encode() for part in recipe.content.split("{body}"))
        self._encode = _ENCODERS[recipe.encoding]
        self._label = recipe.label.encode()

    def sign(self, fields: Fields, body: bytes) -> bytes:
        """Return the signature with its label, such as `v1,…`."""
        before = self._before % fields
        key = self._key
        made = key.digest(before, body, self._after % fields) if self._after else key.digest(before, body)
        return self._label + self._encode(made)


class SignatureHeader:
    """One header of signatures: a single one, or a list of them where the scheme has one.

    `value` is what `%` fills from Fields and `signature`.
    """

    __slots__ = ("_always", "_between", "_previous", "name", "value")

    def __init__(self, recipe: Recipe, always: Sequence[Signer], previous: Sequence[Signer]) -> None:
        self._always = tuple(always)
        self._previous = tuple(previous)
        self._between = (recipe.between or "").encode()
        self.name = recipe.header
        self.value = recipe.value

    def signatures(self, fields: Fields, body: bytes, *, with_previous: bool) -> bytes:
        """Return the signatures, those of the previous secret last."""
        signers = self._always + self._previous if with_previous else self._always
        if len(signers) == 1:
            return signers[0].sign(fields, body)
        return self._between.join([signer.sign(fields, body) for signer in signers])


def prepare(
    signatures: Sequence[Signature], secret: str | None, previous_secret: str | None
) -> tuple[SignatureHeader, ...]:
    """Return the headers of `signatures`, in order; those that share a header are one of them.

    Where a header carries only one signature, it is that of the present secret. Raises ValueError where one of them
    cannot be made.
    """
    groups: list[list[Signature]] = []
    for signature in signatures:
        for group in groups:
            if can_share(recipe_of(group[0]), recipe_of(signature)):
                group.append(signature)
                break
        else:
            groups.append([signature])
    return tuple(_header(group, secret, previous_secret) for group in groups)


def _header(group: Sequence[Signature], secret: str | None, previous_secret: str | None) -> SignatureHeader:
    always: list[Signer] = []
    previous: list[Signer] = []
    for signature in group:
        recipe = recipe_of(signature)
        own = signature.secret if signature.secret is not None else secret
        if own is None:
            raise ValueError("a signature needs a secret, and the endpoint has none")
        always.append(Signer(recipe, own))
        if signature.secret is None and previous_secret is not None and recipe.between is not None:
            try:
                previous.append(Signer(recipe, previous_secret))
            except ValueError:
                # It was the secret of other schemes, before the signatures were changed; no receiver knows it here.
                continue
    return SignatureHeader(recipe_of(group[0]), always, previous)


def public_keys(definition: EndpointDefinition) -> list[str]:
    """Return what receivers of the endpoint check Ed25519 signatures with, `whpk_…`; after a rotation both keys."""
    secrets: list[str] = []
    for signature in definition.rules.signatures:
        if recipe_of(signature).asymmetric:
            found = (
                (signature.secret,) if signature.secret is not None else (definition.secret, definition.previous_secret)
            )
            secrets += [secret for secret in found if secret is not None and secret.startswith(ed25519.PRIVATE_PREFIX)]
    return [ed25519.public_text(secret) for secret in secrets]
