"""`status` says in words how the daemon is doing and what needs a person."""

from __future__ import annotations

import click

from webhookd.cli.commands import CONNECTION, Command, Session, accepts, pass_session
from webhookd.cli.connection import Answer, refusal
from webhookd.cli.exits import CommandFailedError, Exit
from webhookd.cli.lists import Row
from webhookd.cli.output import colored, emit, emit_json
from webhookd.cli.text import counted, printable, size


@click.command(cls=Command)
@accepts(*CONNECTION)
@pass_session
def status(session: Session) -> None:
    """Say how the daemon is doing.

    Counts, the oldest delivery that is due, and what needs attention. The exit code is 3 when the daemon is not ready.
    """
    client = session.client()
    readiness = client.request("GET", "/readyz")
    if readiness.status not in {200, 503}:
        raise refusal(readiness)
    answer = client.ask("GET", "/v1/status")
    ready = readiness.status == 200
    if session.as_json:
        emit_json({"ready": ready, **answer.json()})
    else:
        _print(answer.json(), ready=ready, why_not=_detail(readiness))
    if not ready:
        raise click.exceptions.Exit(Exit.NEGATIVE)


def _print(said: Row, *, ready: bool, why_not: str) -> None:
    emit(colored("ready") if ready else f"{colored('not ready')}: {why_not}")
    counts = _table(said, "deliveries")
    pending, held = counts.get("pending", 0), counts.get("held", 0)
    ended = ", ".join(f"{counts.get(state, 0)} {state}" for state in ("delivered", "dead", "cancelled"))
    kept = f" ({held} of them held, as their endpoint is disabled)" if held else ""
    if said.get("network_down_since"):
        since = printable(said["network_down_since"])
        emit(f"{colored('sending pauses', 'failing')}: no endpoint is reached since {since}; no retry is spent")
    emit(f"{counted(said.get('events', 0), 'event')} kept")
    emit(f"{counted(pending, 'delivery', 'deliveries')} pending{kept}, {ended}")
    oldest = said.get("oldest_due_at")
    emit(f"the oldest pending delivery is due at {printable(oldest)}" if oldest else "no delivery is due")
    in_flight = _table(said, "in_flight")
    emit(f"in flight: {in_flight.get('fast', 0)} fast, {in_flight.get('slow', 0)} slow")
    endpoints = _table(said, "endpoints")
    resting = f"; {said['resting']} of them resting after failures" if said.get("resting") else ""
    emit(f"endpoints: {endpoints.get('enabled', 0)} enabled{resting}, {endpoints.get('disabled', 0)} disabled")
    database = _table(said, "database")
    emit(
        f"database: {size(database.get('used_bytes'))} in use, {size(database.get('wal_bytes'))} of log, "
        f"{size(database.get('free_bytes'))} free on disk"
    )
    emit()
    lines = [line for endpoint in _rows(said.get("attention")) for line in _attention(endpoint)]
    emit("needs attention:" if lines else "nothing needs attention")
    for line in lines:
        emit(f"  {line}")


def _attention(endpoint: Row) -> list[str]:
    """Return what is wrong with an endpoint and what to do about it, a line each; nothing if all is well."""
    name = printable(endpoint.get("id"))
    health = _table(endpoint, "health")
    failed = health.get("failed_attempts") or 0
    streak = f"{failed} failed attempts on {counted(health.get('failing_days'), 'date')}" if failed else ""
    if endpoint.get("status") == "disabled":
        match endpoint.get("disabled_reason"):
            case "failing":
                why, then = f"it kept failing: {streak or 'see its deliveries'}", f"webhookd endpoints test {name}"
            case "gone":
                why, then = "it answered 410 Gone", f"webhookd endpoints remove {name}, or enable it if that was wrong"
            case "removed":
                why, then = "it left the configuration file", "declare it again, or cancel its deliveries"
            case _:
                why, then = "by request", f"webhookd endpoints enable {name} resumes it"
        return [f"{name} is {colored('disabled')}: {why}", f"  {then}"]
    if failed:
        since = health.get("last_success_at")
        ever = f", last success {printable(since)}" if since else ", no success yet"
        return [
            f"{name} is {colored('failing')}: {streak}{ever}",
            f"  webhookd deliveries list --endpoint {name} --state pending",
        ]
    return []


def _rows(value: object) -> list[Row]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _table(said: Row, name: str) -> Row:
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def _detail(answer: Answer) -> str:
    try:
        said = answer.json()
    except CommandFailedError:
        return "it does not say why"
    return printable(said.get("detail") or said.get("title"))
