"""`replay` owes many ended deliveries of an endpoint again."""

from __future__ import annotations

import sys

import click

from webhookd.cli.commands import CONNECTION, Command, Session, accepts, pass_session
from webhookd.cli.connection import segment
from webhookd.cli.lists import between
from webhookd.cli.output import emit, emit_answer, note
from webhookd.cli.text import counted, printable
from webhookd.cli.waiting import waiting

REPLAY_TIMEOUT_SECONDS = 3600.0
"""A million take the daemon some ten seconds, if its disk is quick; what is cut off can be asked for again."""


@click.command(cls=Command)
@click.argument("endpoint_id", metavar="ENDPOINT")
@between
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["dead", "cancelled", "delivered"]),
    help="How they ended; repeatable. Default: dead.",
)
@click.option("--type", "types", multiple=True, metavar="GLOB", help="Only these event types; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only say how many it would be.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@accepts(*CONNECTION)
@pass_session
def replay(
    session: Session,
    /,
    endpoint_id: str,
    *,
    since: str | None,
    until: str | None,
    states: tuple[str, ...],
    types: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> None:
    """Owe ended deliveries of ENDPOINT again.

    Each is due now, with a fresh schedule, but what else the endpoint is owed goes first. Without filters these are all
    that died. What is pending is left alone.
    """
    client = session.client()
    path = f"/v1/endpoints/{segment(endpoint_id)}/replay"
    asked = {"since": since, "until": until, "states": list(states), "types": list(types)}
    document = {name: value for name, value in asked.items() if value}
    if not dry_run and not yes and sys.stdin.isatty():
        with waiting("counting"):
            answer = client.ask("POST", path, document={**document, "dry_run": True})
        count = answer.json().get("count")
        if count == 0:
            note(f"there is nothing to replay to {printable(endpoint_id)}")
            return
        owed = counted(count, "delivery", "deliveries")
        click.confirm(f"Send {owed} to {printable(endpoint_id)} again?", abort=True, err=True)
    with waiting("counting" if dry_run else "owing them again"):
        answer = client.ask(
            "POST",
            path,
            document={**document, **({"dry_run": True} if dry_run else {})},
            timeout_seconds=REPLAY_TIMEOUT_SECONDS,
        )
    if session.as_json:
        emit_answer(answer)
        return
    owed = counted(answer.json().get("count"), "delivery", "deliveries")
    emit(f"would be owed again: {owed}" if dry_run else f"owed again: {owed}")
