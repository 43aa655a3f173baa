"""`deliveries`: what is owed to whom, every attempt, and deciding about single ones."""

from __future__ import annotations

from typing import Any

import click

from webhookd.cli.commands import CONNECTION, Commands, Session, accepts, pass_session
from webhookd.cli.connection import segment
from webhookd.cli.lists import Row, filtered, print_list
from webhookd.cli.output import emit, emit_answer, pairs, table
from webhookd.cli.text import milliseconds, printable

DELIVERY_HEADS = ("DELIVERY", "STATE", "TYPE", "ENDPOINT", "ATTEMPTS", "CREATED", "NEXT OR END")

EXCERPT_CHARACTERS = 80

_REASONS = {
    "retries_exhausted": "every retry failed",
    "too_old": "give_up_after has passed",
    "operator": "cancelled by request",
    "endpoint_deleted": "its endpoint was deleted",
}


@click.group(cls=Commands)
@accepts(*CONNECTION)
def deliveries() -> None:
    """Look at deliveries, resend, cancel."""


@deliveries.command("list")
@filtered("endpoint", "event", "state", "type", "tenant", "since", "until")
@accepts(*CONNECTION)
@pass_session
def list_(session: Session, /, **options: Any) -> None:  # noqa: ANN401 - filters as the user gave them
    """List deliveries, newest first."""
    print_list(session, "/v1/deliveries", "deliveries", DELIVERY_HEADS, delivery_row, options)


@deliveries.command()
@click.argument("delivery_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def show(session: Session, delivery_id: str) -> None:
    """Show a delivery with all its attempts."""
    answer = session.client().ask("GET", f"/v1/deliveries/{segment(delivery_id)}")
    if session.as_json:
        emit_answer(answer)
        return
    delivery = answer.json()
    _print_delivery(delivery)
    attempts = delivery.get("attempts")
    rows = [row for row in attempts if isinstance(row, dict)] if isinstance(attempts, list) else []
    emit()
    if rows:
        table(
            ("ATTEMPT", "TRIGGER", "STARTED", "TOOK", "RESULT", "PHASES", "ANSWER"),
            [_attempt_row(row) for row in rows],
        )
    else:
        emit("no attempt yet")


@deliveries.command()
@click.argument("delivery_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def resend(session: Session, delivery_id: str) -> None:
    """Owe a delivery again.

    It is due now, with a fresh schedule; a delivered one stays delivered whatever comes back.
    """
    _act(session, delivery_id, "resend")


@deliveries.command()
@click.argument("delivery_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def cancel(session: Session, delivery_id: str) -> None:
    """End a pending delivery."""
    _act(session, delivery_id, "cancel")


def delivery_row(delivery: Row) -> tuple[object, ...]:
    """Return the cells of a delivery under DELIVERY_HEADS."""
    reason = delivery.get("reason")
    end = delivery.get("next_attempt_at") or delivery.get("finished_at") or ""
    return (
        delivery.get("id"),
        _state(delivery),
        delivery.get("type"),
        delivery.get("endpoint"),
        delivery.get("attempt_count"),
        delivery.get("created_at"),
        f"{end} {reason}" if reason else end,
    )


def _act(session: Session, delivery_id: str, verb: str) -> None:
    answer = session.client().ask("POST", f"/v1/deliveries/{segment(delivery_id)}/{verb}")
    if session.as_json:
        emit_answer(answer)
    else:
        _print_delivery(answer.json())


def _state(delivery: Row) -> object:
    return "held" if delivery.get("held") else delivery.get("state")


def _print_delivery(delivery: Row) -> None:
    pairs(
        {
            "delivery": delivery.get("id"),
            "event": f"{delivery.get('event')} ({delivery.get('type')})",
            "endpoint": delivery.get("endpoint"),
            "tenant": delivery.get("tenant"),
            "state": _state(delivery),
            "why": _why(delivery),
            "attempts": delivery.get("attempt_count"),
            "created": delivery.get("created_at"),
            "next attempt": None if delivery.get("held") else delivery.get("next_attempt_at"),
            "ended": delivery.get("finished_at"),
        }
    )


def _why(delivery: Row) -> str | None:
    reason = delivery.get("reason")
    if delivery.get("held"):
        return f"its endpoint is disabled; webhookd endpoints enable {delivery.get('endpoint')} resumes it"
    return _REASONS.get(reason, reason) if isinstance(reason, str) else None


def _attempt_row(attempt: Row) -> tuple[object, ...]:
    return (
        attempt.get("number"),
        attempt.get("trigger"),
        attempt.get("started_at"),
        milliseconds(attempt.get("duration_ms")),
        result_of(attempt),
        _phases(attempt.get("phases")),
        _shortened(attempt.get("excerpt")),
    )


def result_of(attempt: Row) -> str:
    """Say in a few words what an attempt or a test send came to: its status, or where it broke."""
    error = attempt.get("error")
    if isinstance(error, dict):
        return f"{printable(error.get('class'))}: {printable(error.get('text'))}"
    if isinstance(error, str):
        return printable(error)
    return printable(attempt.get("status"))


def _phases(phases: object) -> str:
    if not isinstance(phases, dict):
        return ""
    named = (("dns", "dns_ms"), ("connect", "connect_ms"), ("tls", "tls_ms"), ("first byte", "first_byte_ms"))
    return ", ".join(f"{name} {took}" for name, key in named if (took := milliseconds(phases.get(key))))


def _shortened(excerpt: object) -> str:
    shown = printable(excerpt)
    return shown if len(shown) <= EXCERPT_CHARACTERS else shown[:EXCERPT_CHARACTERS] + "…"
