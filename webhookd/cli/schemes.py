"""The options that say how requests are signed, and the secret in a file, made into something that checks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from webhookd.core.settings import Scheme, Signature
from webhookd.core.verifying import TOLERANCE_SECONDS, Verifier

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SCHEMES = [str(scheme) for scheme in Scheme]


def _pairs(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in value:
        key, equals, given = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        found[key] = given
    return found


def scheme_options(function: Decorated) -> Decorated:
    """Add --scheme and --set, which `read_signature` takes."""
    function = click.option(
        "--set",
        "rules",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_pairs,
        help="With --scheme template, a key of it as in the configuration: --set header=X-Signature --set "
        "'content={timestamp}.{body}' --set encoding=base64.",
    )(function)
    return click.option("--scheme", type=click.Choice(SCHEMES), default="standard", show_default=True)(function)


def read_verifier(
    secret_file: Path, scheme: str, rules: dict[str, str], *, tolerance_seconds: float = TOLERANCE_SECONDS
) -> Verifier:
    """Return what checks by the secret in `secret_file`. Raises UsageError."""
    signature = read_signature(scheme, rules)
    try:
        # As the daemon reads it: the newline that ends the file is none of the secret.
        secret = secret_file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        return Verifier(signature, secret, tolerance_seconds=tolerance_seconds)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else f"not a secret of the {scheme} scheme, {error}"
        raise click.UsageError(f"--secret-file: {secret_file}: {said}") from error


def read_signature(scheme: str, rules: dict[str, str]) -> Signature:
    """Return the signature of that scheme and, for a template, those keys. Raises UsageError."""
    from webhookd.config.forms import faults_of
    from webhookd.config.signatures import parse_signature

    if "secret" in rules or "scheme" in rules:
        raise click.UsageError("--set: the secret is given by --secret-file, the scheme by --scheme")
    try:
        return parse_signature({"scheme": scheme, **rules})
    except ValueError as error:
        said = "; ".join(f"{where[0]} {text}" if where else text for where, text in faults_of(error))
        raise click.UsageError(f"--scheme {scheme}: {said}") from error
