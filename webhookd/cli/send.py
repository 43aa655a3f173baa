"""`send` hands in an event, its payload untouched."""

from __future__ import annotations

import io
import os
import stat
import sys
import time
from pathlib import Path
from typing import BinaryIO

import click

from webhookd.cli.commands import CONNECTION, Command, Session, accepts, pass_session
from webhookd.cli.connection import segment
from webhookd.cli.exits import CommandFailedError
from webhookd.cli.output import emit, emit_answer
from webhookd.cli.text import counted, printable
from webhookd.core.times import parse_time_ms, time_text

_KEY_CHARACTERS = 255
_MOST_AHEAD_SECONDS = 366 * 86_400
"""The daemon is stricter; this only keeps to years that there are."""


def _header_text(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (value and value.isascii() and value.isprintable()):
        raise click.BadParameter("must be visible ASCII")
    return value


def _idempotency_key(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and (" " in value or len(value) > _KEY_CHARACTERS):
        raise click.BadParameter(f"must be up to {_KEY_CHARACTERS} visible ASCII characters")
    return _header_text(_ctx, _param, value)


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return what the daemon takes: an RFC 3339 time as it is, a duration as the time that is so far from now."""
    from webhookd.config.forms import parse_duration

    if value is None or parse_time_ms(value) is not None:
        return value
    try:
        ahead_seconds = parse_duration(value)
    except ValueError:
        raise click.BadParameter(
            "must be a time with its offset, such as 2026-01-02T03:04:05Z, or how far ahead, such as 10m"
        ) from None
    if ahead_seconds > _MOST_AHEAD_SECONDS:
        raise click.BadParameter("must be at most a year ahead")
    return time_text(time.time_ns() // 1_000_000 + round(1000 * ahead_seconds))


@click.command(cls=Command)
@click.argument("event_type", metavar="TYPE")
@click.option(
    "-d",
    "--data",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="File with the payload, - for stdin. Default: stdin, or {} where that is a terminal.",
)
@click.option("--tenant", help="Whose event it is. Default: default.")
@click.option(
    "--key",
    callback=_idempotency_key,
    help="Idempotency key: the same event sent again with it is accepted once.",
)
@click.option("--content-type", callback=_header_text, help="What the payload is. Default: application/json.")
@click.option(
    "--deliver-at",
    metavar="TIME",
    callback=_moment,
    help="Deliver no earlier: a time such as 2026-01-02T03:04:05Z, or how far ahead, such as 10m. With --key give a "
    "time: so far ahead is another moment at each repetition.",
)
@accepts(*CONNECTION)
@pass_session
def send(
    session: Session,
    *,
    event_type: str,
    data: str | None,
    tenant: str | None,
    key: str | None,
    content_type: str | None,
    deliver_at: str | None,
) -> None:
    """Hand in an event of TYPE.

    Prints its id once it is on disk.
    The payload is sent byte for byte: `webhookd send order.completed -d order.json`.
    """
    client = session.client("ingest", "operate")
    headers = {"Content-Type": content_type or "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    query = {"tenant": tenant, "deliver_at": deliver_at}
    answer = client.ask("POST", f"/v1/events/{segment(event_type)}", query=query, body=_payload(data), headers=headers)
    if session.as_json:
        emit_answer(answer)
        return
    accepted = answer.json()
    owed = counted(accepted.get("deliveries"), "delivery", "deliveries")
    already = ", already accepted under this key" if accepted.get("duplicate") else ""
    emit(f"{printable(accepted.get('id'))}  {owed}{already}")


def _payload(data: str | None) -> bytes:
    try:
        if data is not None and data != "-":
            return Path(data).read_bytes()
        stdin = sys.stdin.buffer
        return b"{}" if data is None and _nobody_writes(stdin) else stdin.read()
    except OSError as error:
        raise CommandFailedError(f"{data or 'stdin'} cannot be read: {error.strerror or error}") from error


def _nobody_writes(stdin: BinaryIO) -> bool:
    """Say whether stdin is a terminal or /dev/null; from a pipe or a file even nothing is a payload."""
    try:
        return stat.S_ISCHR(os.fstat(stdin.fileno()).st_mode)
    except (OSError, io.UnsupportedOperation):
        return False
