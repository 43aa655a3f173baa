"""`verify` checks the signature of a saved request and says why it does not hold."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import BinaryIO

import click

from webhookd.cli.commands import Command, Session, accepts, pass_session
from webhookd.cli.exits import Exit
from webhookd.cli.output import colored, emit, emit_json
from webhookd.cli.saved import SavedRequest, read_header, read_saved
from webhookd.cli.schemes import read_verifier, scheme_options
from webhookd.cli.text import printable

MOST_BYTES = 64 * 1024 * 1024


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    from webhookd.core.durations import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=Command)
@click.argument("file", type=click.File("rb"), default=None, required=False)
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="File with the secret; for ed25519 the public key whpk_… will do.",
)
@scheme_options
@click.option(
    "--tolerance",
    callback=_seconds,
    default="5m",
    show_default=True,
    help="How far the timestamp may be from now, either way.",
)
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request; repeatable."
)
@click.option("-d", "--data", type=click.File("rb"), help="File with the body, byte for byte, or - for stdin.")
@accepts("json")
@pass_session
def verify(
    session: Session,
    /,
    file: BinaryIO | None,
    secret_file: Path,
    scheme: str,
    rules: dict[str, str],
    tolerance: float,
    headers: tuple[str, ...],
    data: BinaryIO | None,
) -> None:
    """Check the signature of a saved request.

    FILE (default: stdin) is the request as text: headers, an empty line, the body, with or without the request line
    before it; or what `webhookd listen` printed, with --json byte for byte. Or give the headers one by one by --header,
    and the body by -d.

    The exit code is 3 when the signature does not hold.
    """
    verifier = read_verifier(secret_file, scheme, rules, tolerance_seconds=tolerance)
    request = _request(file, headers, data)
    flaw = verifier.check(request.headers, request.body, time.time())
    if session.as_json:
        emit_json(
            {
                "verified": flaw is None,
                "scheme": scheme,
                "cause": None if flaw is None else str(flaw.cause),
                "reason": None if flaw is None else flaw.text,
            }
        )
    elif flaw is None:
        emit(colored("signature holds", "delivered"))
    else:
        emit(colored("signature does not hold: ", "dead") + printable(flaw.text))
    if flaw is not None:
        raise click.exceptions.Exit(Exit.NEGATIVE)


def _request(file: BinaryIO | None, headers: tuple[str, ...], data: BinaryIO | None) -> SavedRequest:
    try:
        if not headers and data is None:
            return read_saved(_read(file if file is not None else sys.stdin.buffer))
        if file is not None:
            raise click.UsageError("give the request as FILE, or by --header and -d, not both ways")
        if not headers or data is None:
            raise click.UsageError("--header and -d belong together: the headers and the body of one request")
        found: dict[str, str] = {}
        for line in headers:
            name, value = read_header(line)
            found[name] = value
        return SavedRequest(headers=found, body=_read(data))
    except ValueError as error:
        raise click.UsageError(f"there is no request to check: {error}") from error


def _read(source: BinaryIO) -> bytes:
    content = source.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    return content
