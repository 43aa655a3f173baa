"""`endpoints`: who gets events, how each one is doing, and changing that."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from webhookd.cli.commands import CONNECTION, Commands, Session, accepts, pass_session
from webhookd.cli.connection import Answer, segment
from webhookd.cli.deliveries import result_of
from webhookd.cli.exits import Exit
from webhookd.cli.lists import Row, filtered, print_list
from webhookd.cli.output import colored, emit, emit_answer, note, pairs
from webhookd.cli.text import counted, milliseconds, printable

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

TEST_TIMEOUT_SECONDS = 900.0
"""A test send lasts as long as the timeout of its endpoint, which is the daemon's to keep."""

_JSON = {"Content-Type": "application/json"}
_SHOWN_APART = {
    "id",
    "declared",
    "created_at",
    "disabled_at",
    "status",
    "disabled_reason",
    "health",
    "last_attempt",
    "url",
    "secret",
    "previous_secret_until",
}

_DISABLED = {
    "failing": "its failing streak grew too long",
    "gone": "it answered 410 Gone",
    "operator": "by request",
    "removed": "it is no longer in the configuration file",
}


@click.group(cls=Commands)
@accepts(*CONNECTION)
def endpoints() -> None:
    """Look at endpoints, add, change, test."""


def _keys(function: Decorated) -> Decorated:
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    options = [
        click.option("--tenant", help="Whose events it gets; * for every tenant's. Default: default."),
        click.option("--type", "types", multiple=True, metavar="GLOB", help="Event types it gets; repeatable."),
        click.option("--profile", help="The delivery rules it follows."),
        click.option("--secret-file", type=file, help="File with the signing secret."),
        click.option("--sample", type=file, help="File with what a test send delivers, JSON."),
        click.option("--description", help="A line for people."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_settings,
            help="Any other key of an endpoint; the value is JSON, or else text: --set timeout=5s --set ordered=true.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _settings(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> dict[str, object]:
    keys: dict[str, object] = {}
    for given in value:
        key, equals, text = given.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{given!r} is not KEY=VALUE")
        try:
            keys[key] = json.loads(text)
        except ValueError:
            keys[key] = text
    return keys


@endpoints.command("list")
@filtered()
@accepts(*CONNECTION)
@pass_session
def list_(session: Session, /, **options: Any) -> None:  # noqa: ANN401 - paging as the user gave it
    """List endpoints, newest first."""
    heads = ("ENDPOINT", "STATUS", "PENDING", "TENANT", "TYPES", "URL")
    print_list(session, "/v1/endpoints", "endpoints", heads, _row, options)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def show(session: Session, endpoint_id: str) -> None:
    """Show an endpoint, its keys and health."""
    _answer(session, session.client().ask("GET", f"/v1/endpoints/{segment(endpoint_id)}"))


@endpoints.command()
@click.argument("url")
@click.option("--id", "endpoint_id", metavar="ID", help="A name of your own, lower case. Default: a generated one.")
@_keys
@accepts(*CONNECTION)
@pass_session
def add(session: Session, /, url: str, endpoint_id: str | None, **keys: Any) -> None:  # noqa: ANN401 - see _document
    """Add an endpoint at URL.

    A secret that had to be generated is printed, this once.
    """
    document = {"url": url, **({"id": endpoint_id} if endpoint_id is not None else {}), **_document(keys)}
    answer = session.client().ask("POST", "/v1/endpoints", body=_body(document, keys["sample"]), headers=_JSON)
    _answer(session, answer)
    if not session.as_json and answer.json().get("secret"):
        note("Keep the secret: it is not shown again.")


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("--url", help="Where to deliver to.")
@_keys
@click.option("--unset", multiple=True, metavar="KEY", help="Give this key back to its default; repeatable.")
@accepts(*CONNECTION)
@pass_session
def update(session: Session, /, endpoint_id: str, url: str | None, unset: tuple[str, ...], **keys: Any) -> None:  # noqa: ANN401 - see _document
    """Change an endpoint.

    Only the keys that are named change, also for deliveries already queued. --type replaces all types.
    """
    patch = {**({"url": url} if url is not None else {}), **_document(keys), **dict.fromkeys(unset)}
    if not patch and keys["sample"] is None:
        raise click.UsageError("nothing to change; name a key, such as --url, --set or --unset")
    body = _body(patch, keys["sample"])
    _answer(session, session.client().ask("PATCH", f"/v1/endpoints/{segment(endpoint_id)}", body=body, headers=_JSON))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@accepts(*CONNECTION)
@pass_session
def remove(session: Session, endpoint_id: str, *, yes: bool) -> None:
    """Remove an endpoint.

    Its pending deliveries are cancelled.
    """
    client = session.client()
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {endpoint_id} and cancel its pending deliveries?", abort=True, err=True)
    client.ask("DELETE", f"/v1/endpoints/{segment(endpoint_id)}")
    if not session.as_json:
        note(f"removed {endpoint_id}")


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def test(session: Session, endpoint_id: str) -> None:
    """Send a sample to an endpoint now.

    It goes past the outbox, also to a disabled endpoint, and leaves no trace in health and history. The exit code is
    3 when it is not acknowledged.
    """
    answer = session.client().ask(
        "POST", f"/v1/endpoints/{segment(endpoint_id)}/test", timeout_seconds=TEST_TIMEOUT_SECONDS
    )
    result = answer.json()
    acknowledged = result.get("acknowledged") is True
    if session.as_json:
        emit_answer(answer)
    else:
        verdict = colored("acknowledged", "acknowledged") if acknowledged else colored("not acknowledged", "dead")
        emit(f"{verdict}  {result_of(result)}  {milliseconds(result.get('duration_ms'))}".rstrip())
    if not acknowledged:
        raise click.exceptions.Exit(Exit.NEGATIVE)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def enable(session: Session, endpoint_id: str) -> None:
    """Enable an endpoint.

    Its failing streak is forgotten, and its held deliveries resume gently.
    """
    _answer(session, session.client().ask("POST", f"/v1/endpoints/{segment(endpoint_id)}/enable"))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@accepts(*CONNECTION)
@pass_session
def disable(session: Session, endpoint_id: str) -> None:
    """Disable an endpoint.

    Its deliveries are held until it is enabled again.
    """
    _answer(session, session.client().ask("POST", f"/v1/endpoints/{segment(endpoint_id)}/disable"))


@endpoints.command("rotate-secret")
@click.argument("endpoint_id", metavar="ID")
@click.option("--overlap", help="How long requests are signed by the old secret as well; 0s: not at all. Default: 24h.")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the new secret. Default: one is generated.",
)
@accepts(*CONNECTION)
@pass_session
def rotate_secret(session: Session, endpoint_id: str, overlap: str | None, secret_file: Path | None) -> None:
    """Give an endpoint another signing secret.

    It is printed, this once. Until the overlap is over, requests are signed by both secrets where the scheme can carry
    two signatures, and by the new one alone where it cannot.
    """
    document = {
        **({} if overlap is None else {"overlap": overlap}),
        **({} if secret_file is None else {"secret": _read(secret_file).strip()}),
    }
    path = f"/v1/endpoints/{segment(endpoint_id)}/rotate-secret"
    answer = session.client().ask("POST", path, body=_body(document, None), headers=_JSON)
    _answer(session, answer)
    if not session.as_json and secret_file is None:
        note("Keep the secret: it is not shown again.")


def _document(keys: Mapping[str, Any]) -> dict[str, object]:
    """Return the keys of an endpoint that were given; --set comes last, so that it can say anything."""
    document: dict[str, object] = {
        name: keys[name] for name in ("tenant", "profile", "description") if keys[name] is not None
    }
    if keys["types"]:
        document["types"] = list(keys["types"])
    if keys["secret_file"] is not None:
        document["secret"] = _read(keys["secret_file"]).strip()
    return {**document, **keys["settings"]}


def _body(document: Mapping[str, object], sample: Path | None) -> bytes:
    """Return the document as JSON; the bytes of the sample stand in it as they are, since they are sent like that."""
    if sample is None:
        return json.dumps(document, ensure_ascii=False).encode()
    text = _read(sample)
    try:
        json.loads(text, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--sample: {sample} is not JSON: {error}") from error
    others = json.dumps({name: value for name, value in document.items() if name != "sample"}, ensure_ascii=False)
    return f'{others[:-1]}{", " if others != "{}" else ""}"sample": {text.strip()}}}'.encode()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from error


def _answer(session: Session, answer: Answer) -> None:
    if session.as_json:
        emit_answer(answer)
    else:
        _print_endpoint(answer.json())


def _row(endpoint: Row) -> tuple[object, ...]:
    health = endpoint.get("health")
    types = endpoint.get("types")
    return (
        endpoint.get("id"),
        f"disabled ({reason})" if (reason := endpoint.get("disabled_reason")) else endpoint.get("status"),
        health.get("pending") if isinstance(health, dict) else None,
        endpoint.get("tenant"),
        " ".join(map(str, types)) if isinstance(types, list) and types else "*",
        endpoint.get("url"),
    )


def _print_endpoint(endpoint: Row) -> None:
    said = endpoint.get("health")
    health: Row = said if isinstance(said, dict) else {}
    reason = endpoint.get("disabled_reason")
    pairs(
        {
            "endpoint": endpoint.get("id"),
            "url": endpoint.get("url"),
            "secret": endpoint.get("secret"),
            "old secret until": endpoint.get("previous_secret_until"),
            "status": endpoint.get("status"),
            "because": _DISABLED.get(reason, reason) if isinstance(reason, str) else None,
            "disabled at": endpoint.get("disabled_at"),
            "declared": "in the configuration file" if endpoint.get("declared") else None,
            "failing": _streak(health),
            "last success": health.get("last_success_at"),
            "pending": health.get("pending"),
            "held": health.get("held") or None,
            "last attempt": _last_attempt(endpoint.get("last_attempt")),
        }
    )
    if keys := {name: value for name, value in endpoint.items() if name not in _SHOWN_APART and value is not None}:
        emit()
        pairs(keys)


def _streak(health: Row) -> str | None:
    attempts = health.get("failed_attempts")
    if not attempts:
        return None
    return f"{counted(attempts, 'attempt')} in a row, on {counted(health.get('failing_days'), 'date')}"


def _last_attempt(attempt: object) -> str | None:
    if not isinstance(attempt, dict):
        return None
    return f"{printable(attempt.get('started_at'))}  {result_of(attempt)}  {milliseconds(attempt.get('duration_ms'))}"
