"""Verifying what a receiver got: whether a signature holds and, if not, why, in words."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from webhookd.core import ed25519
from webhookd.core.diagnosis import changed_body, other_key
from webhookd.core.keys import Mac
from webhookd.core.recipes import PLACEHOLDER, Recipe, key_of, recipe_of
from webhookd.core.settings import Encoding, Scheme, Signature
from webhookd.core.signers import encoded

TOLERANCE_SECONDS = 300
"""How far a timestamp may be from the receiver's clock, either way; the value of the reference libraries."""

_TIMESTAMP = re.compile(r"-?\d{1,12}\Z", re.ASCII)
_CAPTURES = {
    Encoding.HEX: "(?P<signature>[0-9A-Fa-f]+)",
    Encoding.BASE64: "(?P<signature>[A-Za-z0-9+/]+=*)",
}


class Cause(StrEnum):
    """Why a signature does not hold, for programs."""

    MISSING_HEADERS = "missing_headers"
    OTHER_SCHEME = "other_scheme"
    MALFORMED = "malformed"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - the name of a cause
    CHANGED_BODY = "changed_body"
    WRONG_SECRET_OR_CHANGED_BODY = "wrong_secret_or_changed_body"  # noqa: S105 - as above
    TOO_OLD = "too_old"
    IN_THE_FUTURE = "in_the_future"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a signature does not hold: in one word of ours, and in a sentence."""

    cause: Cause
    text: str


class _FlawedError(Exception):
    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(text)
        self.flaw = Flaw(cause, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What a request says of itself: its signatures, and the `words` that were signed with the body.

    `timestamp_name` says where its timestamp stands, empty where none is signed.
    """

    candidates: tuple[str, ...]
    words: Mapping[str, str]
    timestamp_name: str

    def around(self, recipe: Recipe) -> tuple[bytes, bytes]:
        """Return what was signed before the body, and after it."""
        before, after = (
            PLACEHOLDER.sub(lambda match: self.words[match[1]], part).encode("utf-8", "surrogateescape")
            for part in recipe.content.split("{body}")
        )
        return before, after


class Verifier:
    """Checks requests against one signature under one secret; for Ed25519 that may be the public key.

    Raises ValueError where the scheme cannot use the secret.
    """

    def __init__(self, signature: Signature, secret: str, *, tolerance_seconds: float = TOLERANCE_SECONDS) -> None:
        self._recipe = recipe_of(signature)
        self._scheme = signature.scheme
        self._secret = secret
        self._tolerance_seconds = tolerance_seconds
        if self._recipe.asymmetric:
            self._public = ed25519.public_key(secret)
        else:
            self._key = key_of(self._recipe, secret)

    def check(self, headers: Mapping[str, str], body: bytes, now: float) -> Flaw | None:
        """Return None when the signature holds, else why it does not.

        The names in `headers` may be in any case; `now` is seconds since 1970. Of several signatures one has to hold,
        so that secrets can be rotated.
        """
        got = {name.lower(): value.strip() for name, value in headers.items()}
        try:
            claim = self._read(got)
        except _FlawedError as error:
            return error.flaw
        before, after = claim.around(self._recipe)

        def holds(changed: bytes) -> bool:
            return self._holds(claim.candidates, before + changed + after)

        if not holds(body):
            return self._explain(claim, got, body, holds)
        return _age(claim, now, self._tolerance_seconds) if claim.timestamp_name else None

    def _holds(self, candidates: Sequence[str], signed: bytes) -> bool:
        if self._recipe.asymmetric:
            return any(ed25519.holds(self._public, _raw(candidate), signed) for candidate in candidates)
        return self._holds_under(self._key, candidates, signed)

    def _holds_under(self, key: bytes, candidates: Sequence[str], signed: bytes) -> bool:
        wanted = encoded(Mac(self._recipe.algorithm, key).digest(signed), self._recipe.encoding)
        return any(hmac.compare_digest(wanted, candidate.encode("utf-8", "replace")) for candidate in candidates)

    def _explain(self, claim: _Claim, got: Mapping[str, str], body: bytes, holds: Callable[[bytes], bool]) -> Flaw:
        length = got.get("content-length", "")
        if (how := changed_body(body, holds)) is not None:
            return Flaw(Cause.CHANGED_BODY, f"no signature matches: changed body, {how}")
        if length.isascii() and length.isdigit() and length != str(len(body)):
            text = (
                f"no signature matches: changed body, Content-Length was {length[:20]} and here are {len(body)} bytes"
            )
            return Flaw(Cause.CHANGED_BODY, text)
        if not self._recipe.asymmetric:
            before, after = claim.around(self._recipe)
            signed = before + body + after
            how = other_key(self._secret, self._key, lambda key: self._holds_under(key, claim.candidates, signed))
            if how is not None:
                return Flaw(
                    Cause.WRONG_SECRET, f"no signature matches: wrong secret, {how}; not as {self._scheme} has it"
                )
        return Flaw(Cause.WRONG_SECRET_OR_CHANGED_BODY, "no signature matches: wrong secret or changed body")

    def _read(self, got: Mapping[str, str]) -> _Claim:
        recipe = self._recipe
        value = got.get(recipe.header.lower(), "")
        signed: list[str] = [word for word in ("id", "timestamp") if word in recipe.needs]
        places = {word: _place(recipe, got, word) for word in signed if f"{{{word}}}" not in recipe.value}
        missing = [name for name in places.values() if not got.get(name)] + ([] if value else [recipe.header])
        if missing:
            raise _missing(missing, {} if value else got)
        found, candidates = _split(recipe, value)
        if not candidates:
            raise _malformed(recipe, value)
        words = {word: got[places[word]] if word in places else found.get(word, "") for word in signed}
        name = places.get("timestamp", f"the timestamp in {recipe.header}") if "timestamp" in words else ""
        if name and not _TIMESTAMP.match(words["timestamp"]):
            text = f"{name} is not a number of seconds: {words['timestamp'][:40]!r}"
            raise _FlawedError(Cause.MALFORMED, text)
        return _Claim(candidates=candidates, words=words, timestamp_name=name)


def verify_standard(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
    """Return None when a Standard Webhooks signature holds, else a sentence saying why it does not.

    See Verifier.check. Raises ValueError where `secret` is none.
    """
    flaw = Verifier(Signature(), secret).check(headers, body, now)
    return None if flaw is None else flaw.text


def _split(recipe: Recipe, value: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the words that stand in the value of the header, and its signatures without their labels."""
    if recipe.between is None:
        match = re.fullmatch(_pattern(recipe), value)
        return (match.groupdict(), (match["signature"],)) if match is not None else ({}, ())
    items = [item.strip() for item in (value.split(recipe.between) if recipe.between.strip() else value.split())]
    found = {"timestamp": item[2:] for item in items if item.startswith("t=")}  # noqa: B035 - the last one counts
    return found, tuple(item.removeprefix(recipe.label) for item in items if item.startswith(recipe.label))


def _pattern(recipe: Recipe) -> str:
    """Return what the value of a header that carries one signature has to match."""
    captures = {
        "signature": _CAPTURES[recipe.encoding],
        "id": r"(?P<id>\S+?)",
        "timestamp": r"(?P<timestamp>-?\d{1,12})",
    }
    pattern, end = "", 0
    for match in PLACEHOLDER.finditer(recipe.value):
        # A word that stands there again has to be the same again.
        pattern += re.escape(recipe.value[end : match.start()]) + captures.get(match[1], f"(?P={match[1]})")
        captures.pop(match[1], None)
        end = match.end()
    return pattern + re.escape(recipe.value[end:])


def _place(recipe: Recipe, got: Mapping[str, str], word: str) -> str:
    """Return the header that carries the id or the timestamp beside the signature."""
    for name, template in recipe.companions:
        if template == f"{{{word}}}":
            return name.lower()
    usual = f"webhook-{word}"
    ending = "timestamp" if word == "timestamp" else "-id"
    return usual if usual in got else next((name for name in got if name.endswith(ending)), usual)


def _missing(missing: Sequence[str], got: Mapping[str, str]) -> _FlawedError:
    *first, last = missing
    text = f"missing {', '.join(first)} and {last}" if first else f"missing {last}"
    if others := _signed_by(got):
        return _FlawedError(
            Cause.OTHER_SCHEME, f"{text}; wrong scheme: the request is signed by {' and '.join(others)}"
        )
    return _FlawedError(Cause.MISSING_HEADERS, text)


def _malformed(recipe: Recipe, value: str) -> _FlawedError:
    if recipe.between is None:
        return _FlawedError(Cause.MALFORMED, f"{recipe.header} is not of the form {recipe.value}: {value[:60]!r}")
    text = f"{recipe.header} holds no {recipe.label.rstrip(',=')} signature"
    if others := _signed_by({recipe.header.lower(): value}):
        return _FlawedError(Cause.OTHER_SCHEME, f"{text}; wrong scheme: it is that of {' and '.join(others)}")
    return _FlawedError(Cause.MALFORMED, text)


def _signed_by(got: Mapping[str, str]) -> list[str]:
    """Return the schemes whose headers are there, with the header that tells."""
    recipes = {scheme: recipe_of(Signature(scheme=scheme)) for scheme in Scheme if scheme is not Scheme.TEMPLATE}
    return [
        f"{scheme} ({recipe.header})"
        for scheme, recipe in recipes.items()
        if _split(recipe, got.get(recipe.header.lower(), ""))[1]
    ]


def _raw(signature: str) -> bytes:
    try:
        return b64decode(signature, validate=True)
    except ValueError:
        return b""


def _age(claim: _Claim, now: float, tolerance_seconds: float) -> Flaw | None:
    late = now - int(claim.words["timestamp"])
    limit = f"more than {tolerance_seconds:g} s"
    if late > tolerance_seconds:
        text = f"{claim.timestamp_name} is too old: {late:.0f} s, {limit} (signature itself holds)"
        return Flaw(Cause.TOO_OLD, text)
    if late < -tolerance_seconds:
        text = f"{claim.timestamp_name} is in the future: {-late:.0f} s, {limit}"
        return Flaw(Cause.IN_THE_FUTURE, f"{text} (signature itself holds; are both clocks right?)")
    return None
