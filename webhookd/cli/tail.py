"""`tail` follows attempts as they are recorded."""

from __future__ import annotations

import json

import click

from webhookd.cli.commands import CONNECTION, Command, Session, accepts, pass_session
from webhookd.cli.deliveries import result_of
from webhookd.cli.exits import CommandFailedError, Exit
from webhookd.cli.lists import Row
from webhookd.cli.output import colored, emit, note
from webhookd.cli.text import counted, milliseconds, printable

SILENCE_SECONDS = 60.0
"""Without a word for so long, the daemon is gone: it says every 15 seconds that it is there."""


@click.command(cls=Command)
@click.option("--endpoint", metavar="ID", help="Only to this endpoint.")
@click.option("--type", "event_type", metavar="GLOB", help="Only of this event type, or glob of types.")
@click.option("--tenant", help="Only of this tenant.")
@accepts(*CONNECTION)
@pass_session
def tail(session: Session, endpoint: str | None, event_type: str | None, tenant: str | None) -> None:
    """Follow attempts live, until Ctrl-C.

    Ends with exit code 69 when the daemon goes away. Attempts that come faster than they can be shown are left out,
    and counted on stderr.
    """
    client = session.client("read", "operate")
    query = {"endpoint": endpoint, "type": event_type, "tenant": tenant}
    try:
        for name, data in client.follow("/v1/attempts/stream", query=query, silence_seconds=SILENCE_SECONDS):
            if name == "dropped":
                _tell_of_loss(session, data)
            elif name == "attempt":
                emit(data if session.as_json else _line(_object(data)))
    except KeyboardInterrupt:
        return
    raise CommandFailedError("the daemon has stopped, and the attempts with it", code=Exit.UNREACHABLE)


def _line(attempt: Row) -> str:
    state = attempt.get("state")
    status = attempt.get("status")
    good = state == "delivered" and not (isinstance(status, int) and status >= 400) and attempt.get("error") is None
    parts = [
        printable(attempt.get("started_at")),
        f"{printable(attempt.get('type'))} → {printable(attempt.get('endpoint'))}",
        f"attempt {printable(attempt.get('number'))}",
        colored(result_of(attempt), "delivered" if good else "dead"),
        milliseconds(attempt.get("duration_ms")),
    ]
    if not good:
        at = attempt.get("next_attempt_at")
        parts.append(f"next {printable(at)}" if at else printable(state))
    return "  ".join(part for part in parts if part)


def _tell_of_loss(session: Session, data: str) -> None:
    count = _object(data).get("count")
    note(
        json.dumps({"dropped": count}) if session.as_json else f"{counted(count, 'attempt')} left out: too many at once"
    )


def _object(data: str) -> Row:
    try:
        decoded = json.loads(data)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise CommandFailedError("what the daemon tells cannot be understood; is that a webhookd?")
    return decoded
