"""`events`: what was accepted, whom it is owed to, and owing it again."""

from __future__ import annotations

from typing import Any

import click

from webhookd.cli.commands import CONNECTION, Commands, Session, accepts, pass_session
from webhookd.cli.connection import Answer, segment
from webhookd.cli.deliveries import DELIVERY_HEADS, delivery_row
from webhookd.cli.lists import Row, filtered, print_list
from webhookd.cli.output import emit, emit_answer, note, pairs, table
from webhookd.cli.text import counted, size


@click.group(cls=Commands)
@accepts(*CONNECTION)
def events() -> None:
    """Look at accepted events, resend them."""


@events.command("list")
@filtered("type", "tenant", "since", "until")
@accepts(*CONNECTION)
@pass_session
def list_(session: Session, /, **options: Any) -> None:  # noqa: ANN401 - filters as the user gave them
    """List events, newest first."""
    print_list(session, "/v1/events", "events", _HEADS, _row, options)


@events.command()
@click.argument("event_id", metavar="ID")
@click.option("--payload", is_flag=True, help="Print the payload, byte for byte, and nothing else.")
@accepts(*CONNECTION)
@pass_session
def show(session: Session, event_id: str, *, payload: bool) -> None:
    """Show an event and whom it is owed to.

    Also says why other endpoints do not get it.
    """
    answer = session.client().ask("GET", f"/v1/events/{segment(event_id)}")
    if session.as_json:
        emit_answer(answer)
        return
    event = answer.json()
    if payload:
        click.echo(_payload(answer, event), nl=False)
        return
    pairs(
        {
            "event": event.get("id"),
            "type": event.get("type"),
            "tenant": event.get("tenant"),
            "accepted": event.get("accepted_at"),
            "payload": f"{size(event.get('size'))} of {event.get('content_type')}",
        }
    )
    deliveries = _rows(event.get("deliveries"))
    emit()
    if deliveries:
        table(DELIVERY_HEADS, [delivery_row(row) for row in deliveries])
    else:
        emit("owed to no endpoint")
    if unmatched := _rows(event.get("not_matched")):
        emit()
        table(("NOT OWED TO", "BECAUSE"), [(row.get("endpoint"), row.get("reason")) for row in unmatched])


@events.command()
@click.argument("event_id", metavar="ID")
@click.option("--endpoint", metavar="ID", help="Only to this endpoint. Default: to all it was owed to.")
@accepts(*CONNECTION)
@pass_session
def resend(session: Session, event_id: str, endpoint: str | None) -> None:
    """Owe an event again.

    Its deliveries are due now, with a fresh schedule.
    """
    document = {} if endpoint is None else {"endpoint": endpoint}
    answer = session.client().ask("POST", f"/v1/events/{segment(event_id)}/resend", document=document)
    if session.as_json:
        emit_answer(answer)
        return
    deliveries = _rows(answer.json().get("deliveries"))
    note(f"owed again: {counted(len(deliveries), 'delivery', 'deliveries')}")
    if deliveries:
        table(DELIVERY_HEADS, [delivery_row(row) for row in deliveries])


_HEADS = ("EVENT", "ACCEPTED", "TYPE", "TENANT", "SIZE", "CONTENT TYPE")


def _row(event: Row) -> tuple[object, ...]:
    return (
        event.get("id"),
        event.get("accepted_at"),
        event.get("type"),
        event.get("tenant"),
        size(event.get("size")),
        event.get("content_type"),
    )


def _rows(value: object) -> list[Row]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _payload(answer: Answer, event: Row) -> bytes:
    encoded = event.get("payload_base64")
    if isinstance(encoded, str):
        import base64

        return base64.b64decode(encoded)
    return answer.member("payload")
