"""Another secret for an endpoint: which one signs from now on, and how long the one before does too."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from webhookd.core.endpoint import EndpointRecord
from webhookd.core.keys import GENERATED_BYTES
from webhookd.core.recipes import wanted_secret
from webhookd.core.settings import EndpointDefinition, Signature
from webhookd.errors import ConflictError


def generated_secret(signatures: Sequence[Signature]) -> str | None:
    """Return a new secret that such signatures can be made with, None where none of them needs one."""
    return wanted_secret(signatures, secrets.token_bytes(GENERATED_BYTES))


def next_secret(record: EndpointRecord, definition: EndpointDefinition) -> str:
    """Return a generated secret to come after the present one. Raises ConflictError (`no_secret`) where there is none.

    One that only stands in headers is followed by one of the usual form.
    """
    generated = generated_secret(definition.rules.signatures)
    if generated is None and record.secret is not None:
        generated = generated_secret((Signature(),))
    if generated is None:
        raise ConflictError(
            "no_secret", f"{record.id!r} has no secret and signs by none; give one to it with the key secret"
        )
    return generated


def rotated(record: EndpointRecord, secret: str, *, overlap_ms: int, now_ms: int) -> EndpointRecord:
    """Return the record with `secret`, and the one before for `overlap_ms`; what was previous until now is over.

    To rotate to the same secret again changes nothing.
    """
    if secret == record.secret:
        return record
    keeps = overlap_ms > 0 and record.secret is not None
    return replace(
        record,
        secret=secret,
        previous_secret=record.secret if keeps else None,
        previous_secret_until_ms=now_ms + overlap_ms if keeps else None,
    )


def without_expired(record: EndpointRecord, *, now_ms: int) -> EndpointRecord:
    """Return the record without a previous secret whose time is over: what signs nothing need not be kept."""
    until_ms = record.previous_secret_until_ms
    if until_ms is None or now_ms < until_ms:
        return record
    return replace(record, previous_secret=None, previous_secret_until_ms=None)


def in_overlap(definition: EndpointDefinition, record: EndpointRecord) -> EndpointDefinition:
    """Return the definition with the previous secret of its record."""
    if record.previous_secret is None:
        return definition
    return replace(
        definition,
        previous_secret=record.previous_secret,
        previous_secret_until_ms=record.previous_secret_until_ms,
    )
