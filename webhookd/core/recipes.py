"""What each signature scheme writes and over which bytes: all of them, published or configured, in one form."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from webhookd.core import ed25519
from webhookd.core.keys import SECRET_PREFIX, key_bytes
from webhookd.core.settings import Algorithm, Encoding, KeyEncoding, Scheme, Signature

VALUE_WORDS = ("signature", "id", "timestamp")
CONTENT_WORDS = ("id", "timestamp", "body")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one scheme signs.

    `value` and `content` are templates over `VALUE_WORDS` and `CONTENT_WORDS`; `label` stands before each signature,
    and `between` parts several of them, None where the header can carry only one. `companions` are the other headers
    the scheme writes, over {id}, {timestamp} and {type}; `asymmetric` stands for Ed25519 in place of an HMAC.
    """

    header: str
    value: str = "{signature}"
    content: str = "{body}"
    algorithm: Algorithm = Algorithm.SHA256
    encoding: Encoding = Encoding.HEX
    key_encoding: KeyEncoding = KeyEncoding.RAW
    strip_prefix: str = ""
    label: str = ""
    between: str | None = None
    companions: tuple[tuple[str, str], ...] = ()
    asymmetric: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every header it writes, as written."""
        return (*(name for name, _ in self.companions), self.header)

    @property
    def needs(self) -> frozenset[str]:
        """The words that its content is made of."""
        return frozenset(PLACEHOLDER.findall(self.content))


STANDARD_HEADERS = (("webhook-id", "{id}"), ("webhook-timestamp", "{timestamp}"))

_STANDARD = Recipe(
    header="webhook-signature",
    content="{id}.{timestamp}.{body}",
    encoding=Encoding.BASE64,
    key_encoding=KeyEncoding.BASE64,
    strip_prefix=SECRET_PREFIX,
    label="v1,",
    between=" ",
    companions=STANDARD_HEADERS,
)
_ED25519 = Recipe(
    header=_STANDARD.header,
    content=_STANDARD.content,
    encoding=Encoding.BASE64,
    label="v1a,",
    between=" ",
    companions=STANDARD_HEADERS,
    asymmetric=True,
)
_STRIPE = Recipe(
    header="Stripe-Signature",
    value="t={timestamp},{signature}",
    content="{timestamp}.{body}",
    label="v1=",
    between=",",
)
_GITHUB = Recipe(
    header="X-Hub-Signature-256",
    value="sha256={signature}",
    companions=(("X-GitHub-Event", "{type}"), ("X-GitHub-Delivery", "{id}")),
)
_SHOPIFY = Recipe(header="X-Shopify-Hmac-SHA256", encoding=Encoding.BASE64)
_SLACK = Recipe(
    header="X-Slack-Signature",
    value="v0={signature}",
    content="v0:{timestamp}:{body}",
    companions=(("X-Slack-Request-Timestamp", "{timestamp}"),),
)


def recipe_of(signature: Signature) -> Recipe:
    """Return how `signature` is made."""
    match signature.scheme:
        case Scheme.STANDARD:
            return _STANDARD
        case Scheme.STRIPE:
            return _STRIPE
        case Scheme.GITHUB:
            return _GITHUB
        case Scheme.SHOPIFY:
            return _SHOPIFY
        case Scheme.SLACK:
            return _SLACK
        case Scheme.ED25519:
            return _ED25519
        case Scheme.TEMPLATE:
            return Recipe(
                header=signature.header,
                value=signature.value,
                content=signature.content,
                algorithm=signature.algorithm,
                encoding=signature.encoding,
                key_encoding=signature.key_encoding,
                strip_prefix=signature.strip_prefix,
            )
        case _:
            assert_never(signature.scheme)


def key_of(recipe: Recipe, secret: str) -> bytes:
    """Return the bytes of an HMAC key. Raises ValueError, with a sentence that does not repeat the secret."""
    return key_bytes(secret, recipe.key_encoding, strip_prefix=recipe.strip_prefix)


def check_secret(signature: Signature, secret: str) -> None:
    """Raise ValueError unless `signature` can be made with `secret`."""
    recipe = recipe_of(signature)
    if recipe.asymmetric:
        ed25519.private_key(secret)
    else:
        key_of(recipe, secret)


def check_template(signature: Signature) -> None:
    """Raise ValueError unless the templates make a signature that depends on the body and reaches the receiver."""
    _check_words(signature.value, VALUE_WORDS, "value")
    _check_words(signature.content, CONTENT_WORDS, "content")
    if signature.value.count("{signature}") != 1:
        raise ValueError("value must hold {signature} once: without it nothing is proven")
    if signature.content.count("{body}") != 1:
        raise ValueError("content must hold {body} once: a signature that leaves it out would fit any other body")


def _check_words(template: str, words: Sequence[str], name: str) -> None:
    for word in PLACEHOLDER.findall(template):
        if word not in words:
            known = " ".join(f"{{{placeholder}}}" for placeholder in words)
            raise ValueError(f"{name} has an unknown placeholder {{{word[:40]}}}; there are {known}")


def can_share(one: Recipe, other: Recipe) -> bool:
    """Say whether two signatures can stand in one header, one beside the other."""
    return one.between is not None and (one.header, one.value, one.between) == (
        other.header,
        other.value,
        other.between,
    )


def written_names(signatures: Iterable[Signature]) -> dict[str, str]:
    """Return every header that the signatures write, by its name in lower case."""
    return {name.lower(): name for signature in signatures for name in recipe_of(signature).names}


def double_header(signatures: Sequence[Signature], index: int) -> str | None:
    """Return the header of the signature at `index` that one before it writes already, None where all is well.

    Signatures of the same header may stand in it side by side if it is a list and their secrets differ: that of the
    endpoint, or one of their own.
    """
    mine = recipe_of(signatures[index])
    for other in signatures[:index]:
        theirs = recipe_of(other)
        if can_share(mine, theirs) and (mine != theirs or signatures[index].secret != other.secret):
            continue
        taken = {name.lower() for name in theirs.names}
        for name in reversed(mine.names):
            if name.lower() in taken:
                return name
    return None


def wanted_secret(signatures: Sequence[Signature], random_bytes: bytes) -> str | None:
    """Return a secret made of `GENERATED_BYTES` random bytes that all signatures without their own can be made with.

    None where none of them needs it.
    """
    needing = [recipe_of(signature) for signature in signatures if signature.secret is None]
    if not needing:
        return None
    if all(recipe.asymmetric for recipe in needing):
        return ed25519.secret_text(random_bytes)
    encodings = {recipe.key_encoding for recipe in needing}
    if KeyEncoding.HEX in encodings:
        # 64 hexadecimal digits are base64 and plain text as well.
        return random_bytes.hex()
    prefix = SECRET_PREFIX
    if any(recipe.key_encoding is KeyEncoding.BASE64 and recipe.strip_prefix != prefix for recipe in needing):
        prefix = ""
    return prefix + base64.b64encode(random_bytes).decode()
