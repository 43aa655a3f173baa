"""`backup` has the daemon copy its live database."""

from __future__ import annotations

import os

import click

from webhookd.cli.commands import CONNECTION, Command, Session, accepts, pass_session
from webhookd.cli.exits import CommandFailedError
from webhookd.cli.output import emit, emit_answer
from webhookd.cli.text import counted, milliseconds, printable, size
from webhookd.cli.waiting import waiting

BACKUP_TIMEOUT_SECONDS = 6 * 3600.0
"""Far above what the largest database takes on a slow disk, and still an end."""


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, readable=False))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@accepts(*CONNECTION)
@pass_session
def backup(session: Session, file: str, *, force: bool) -> None:
    """Copy the live database to FILE.

    The daemon does it, as its own user and on its own machine; deliveries go on meanwhile. The copy is of one moment,
    is checked, and appears under its name only when it is whole. It holds payloads and secrets.
    """
    document = {"path": os.path.abspath(file), "overwrite": force}  # noqa: PTH100 - resolve() would follow links
    try:
        with waiting("copying and checking"):
            answer = session.client().ask(
                "POST", "/v1/backup", document=document, timeout_seconds=BACKUP_TIMEOUT_SECONDS
            )
    except CommandFailedError as failure:
        kind = str((failure.problem or {}).get("type", "")).rpartition(":")[2]
        if kind == "backup_exists" and not failure.hint:
            failure.hint = "Replace it with --force."
        elif kind == "backup_refused" and not failure.hint:
            failure.hint = (
                "The daemon writes it: name a directory that its user, and its service unit, let it write to."
            )
        raise
    if session.as_json:
        emit_answer(answer)
        return
    made = answer.json()
    held = f"{counted(made.get('events'), 'event')}, {counted(made.get('deliveries'), 'delivery', 'deliveries')}"
    took = milliseconds(made.get("duration_ms"))
    emit(f"{printable(made.get('path'))}  {size(made.get('size'))}  {held}  checked, {took}")
