"""How requests are signed, as it is configured: the `signatures` of delivery rules, their secrets and their headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webhookd.config.forms import BadValueError, Form, Where, kind_of, line, parse_list, quote, take_text, word
from webhookd.config.secret_sources import SECRET, SECRET_NAMES, SecretSources
from webhookd.config.tables import Key, Report, read_table, show_table
from webhookd.core import ed25519
from webhookd.core.masking import MASK
from webhookd.core.recipes import (
    CONTENT_WORDS,
    STANDARD_HEADERS,
    check_secret,
    check_template,
    double_header,
    recipe_of,
    written_names,
)
from webhookd.core.settings import Algorithm, DeliveryRules, Encoding, KeyEncoding, Scheme, Signature
from webhookd.core.signing import check_header

MOST_SIGNATURES = 8
MOST_CHARACTERS = 1024

_RESERVED = frozenset({"content-type", "user-agent", *(name for name, _ in STANDARD_HEADERS)})


def parse_scheme(value: object) -> Scheme:
    """Return the scheme of that name, if this installation can sign by it."""
    text = take_text(value)
    try:
        scheme = Scheme(text)
    except ValueError:
        raise ValueError(f"unknown signature scheme {quote(text)}; known: {', '.join(Scheme)}") from None
    if scheme is Scheme.ED25519:
        ed25519.check_available()
    return scheme


def _parse_header(value: object) -> str:
    name = take_text(value)
    check_header(name, "")
    if name.lower() in _RESERVED:
        raise ValueError(f"{name} is set by webhookd itself")
    return name


def _parse_value(value: object) -> str:
    text = line(MOST_CHARACTERS).parse(value)
    if text != text.strip():
        raise ValueError("must not have spaces at its ends")
    return text


def _parse_content(value: object) -> str:
    text = take_text(value)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"must be at most {MOST_CHARACTERS} characters long")
    # Line ends are wanted in some contracts, and nothing of it stands in a header.
    line(MOST_CHARACTERS).parse(text.replace("\n", "").replace("\r", ""))
    return text


def _parse_own_secret(value: object) -> str:
    secret = SECRET.parse(value)
    if not secret:
        raise ValueError("the secret is empty")
    if secret == MASK:
        raise ValueError("is how a secret is shown: give the secret itself")
    return secret


TEMPLATE_KEYS = (
    Key("header", "header", Form(_parse_header, str)),
    Key("value", "value", Form(_parse_value, str)),
    Key("content", "content", Form(_parse_content, str)),
    Key("algorithm", "algorithm", word(Algorithm)),
    Key("encoding", "encoding", word(Encoding)),
    Key("key_encoding", "key_encoding", word(KeyEncoding)),
    Key("strip_prefix", "strip_prefix", line(64)),
)
_SCHEME = Key("scheme", "scheme", Form(parse_scheme, str))
SIGNATURE_KEYS = (_SCHEME, Key("secret", "secret", Form(_parse_own_secret, lambda _: MASK)), *TEMPLATE_KEYS)


def parse_signature(value: object) -> Signature:
    """Return one signature; a secret of its own stands in `secret`, wherever it was read from."""
    if not isinstance(value, Mapping):
        raise ValueError(f'must be a table such as {{ scheme = "standard" }}, not {kind_of(value)}')  # noqa: TRY004
    report = Report()
    fields = read_table(SIGNATURE_KEYS, value, (), report)
    if "scheme" not in value:
        report.complain((), f"needs a scheme: {', '.join(Scheme)}")
    scheme = fields.get("scheme")
    if scheme is Scheme.TEMPLATE:
        if "header" not in value:
            report.complain((), "needs the header that a signature by template is to stand in")
    elif scheme is not None:
        for key in TEMPLATE_KEYS:
            if key.name in value:
                report.complain((key.name,), f"is for scheme template only; {scheme} says itself how it is written")
    if not report.complaints:
        _check(fields, report)
    if report.complaints:
        raise BadValueError(*report.complaints)
    return Signature(**fields)


def _check(fields: Mapping[str, Any], report: Report) -> None:
    signature = Signature(**fields)
    if signature.scheme is Scheme.TEMPLATE:
        try:
            check_template(signature)
        except ValueError as error:
            name, _, text = str(error).partition(" ")
            report.complain((name,), text)
    if signature.secret is not None:
        try:
            check_secret(signature, signature.secret)
        except ValueError as error:
            report.complain(("secret",), f"the secret {error}")


def _parse_signatures(value: object) -> tuple[Signature, ...]:
    signatures = parse_list(value, parse_signature, most=MOST_SIGNATURES)
    faults: list[tuple[Where, str]] = [
        ((index,), f"would write the header {name} of {_owner(signatures[:index], name)} a second time")
        for index in range(len(signatures))
        if (name := double_header(signatures, index)) is not None
    ]
    if faults:
        raise BadValueError(*faults)
    return signatures


def _owner(signatures: Sequence[Signature], name: str) -> Scheme:
    return next(signature.scheme for signature in signatures if name.lower() in written_names([signature]))


def show_signature(signature: Signature) -> dict[str, object]:
    """Return a signature as it could have been written, its secret masked."""
    shown: dict[str, object] = {"scheme": str(signature.scheme)}
    if signature.secret is not None:
        shown["secret"] = MASK
    if signature.scheme is Scheme.TEMPLATE:
        shown |= show_table(TEMPLATE_KEYS, signature)
    return shown


SIGNATURES: Form[tuple[Signature, ...]] = Form(_parse_signatures, lambda all_: [show_signature(one) for one in all_])


def with_secrets(
    table: Mapping[str, object], where: Where, sources: SecretSources, report: Report
) -> Mapping[str, object]:
    """Return a table of delivery rules with the secrets of its signatures read from where they are kept."""
    signatures = table.get("signatures")
    if not isinstance(signatures, list):
        return table
    return {
        **table,
        "signatures": [
            _with_secret(signature, (*where, "signatures", index), sources, report)
            for index, signature in enumerate(signatures[:MOST_SIGNATURES])
        ]
        + signatures[MOST_SIGNATURES:],
    }


def _with_secret(signature: object, where: Where, sources: SecretSources, report: Report) -> object:
    if not isinstance(signature, Mapping) or SECRET_NAMES.isdisjoint(signature):
        return signature
    rest = {name: value for name, value in signature.items() if name not in SECRET_NAMES}
    secret = sources.read(signature, where, report)
    return rest if secret is None else {**rest, "secret": secret}


def without_secrets(signatures: object) -> object:
    """Return what an owner wrote as `signatures` without the secrets in it."""
    if not isinstance(signatures, list):
        return signatures
    return [
        {name: value for name, value in signature.items() if name not in SECRET_NAMES}
        if isinstance(signature, Mapping)
        else signature
        for signature in signatures
    ]


def check_headers(rules: DeliveryRules, *, at: Where, report: Report) -> None:
    """Complain where a signature and a configured header write the same header, and warn of what nobody can check.

    Whoever checks a signature has to know what went into it besides the body.
    """
    written = written_names(rules.signatures)
    taken = [name for name, _ in rules.headers if name.lower() in written]
    if taken:
        report.complain(at, f"a signature writes {', '.join(taken)}, and so do the configured headers")
    for signature in rules.signatures:
        recipe = recipe_of(signature)
        said = [recipe.value, *(template for _, template in recipe.companions), *(value for _, value in rules.headers)]
        for name in sorted(recipe.needs & set(CONTENT_WORDS) - {"body"}):
            known = any(f"{{{name}}}" in text or f"{{event_{name}}}" in text for text in said)
            if not known and not rules.standard_headers:
                report.warn(at, f"{recipe.header} signs the {name}, which no header tells the receiver")


def check_endpoint_secret(
    rules: DeliveryRules, secret: str | None, *, refused: bool, name: str, where: Where, source: str, report: Report
) -> None:
    """Complain where the signatures without a secret of their own cannot be made with that of the endpoint `name`.

    `refused` says that there was one, with a complaint of its own; `source` is the key it came from.
    """
    for signature in rules.signatures:
        if signature.secret is not None:
            continue
        scheme = signature.scheme
        if secret is None:
            if not refused:
                text = f"endpoint {name} signs by scheme {scheme} and has no secret: give it one, or signatures = []"
                report.complain((*where, "secret"), text)
            return
        try:
            check_secret(signature, secret)
        except ValueError as error:
            more = "" if len(rules.signatures) == 1 else "; a signature may have a secret of its own"
            report.complain((*where, source), f"the secret {error} (scheme {scheme}{more})")
            return
