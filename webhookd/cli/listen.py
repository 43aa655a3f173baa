"""`listen` is a receiver to develop against: it prints each request and says whether its signature holds."""

from __future__ import annotations

import ipaddress
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path

import click

from webhookd.cli.commands import Command, Session, accepts, pass_session
from webhookd.cli.exits import CommandFailedError
from webhookd.cli.output import colored, emit, emit_json, note
from webhookd.cli.receiver import Received, Receiver, Reply
from webhookd.cli.schemes import read_verifier, scheme_options
from webhookd.cli.text import escaped_bytes, printable
from webhookd.core.verifying import Verifier

DEFAULT_PORT = 8471


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    from webhookd.config.forms import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=Command)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on, 0 for any free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the secret to check signatures with.",
)
@scheme_options
@click.option(
    "--status",
    "statuses",
    type=click.IntRange(200, 599),
    multiple=True,
    default=(200,),
    show_default=True,
    help="Status to answer with; repeated, they are given one after the other and the last one from then on.",
)
@click.option("--delay", callback=_seconds, default="0s", show_default=True, help="Wait this long before answering.")
@accepts("json")
@pass_session
def listen(
    session: Session,
    *,
    port: int,
    host: str,
    secret_file: Path | None,
    scheme: str,
    rules: dict[str, str],
    statuses: tuple[int, ...],
    delay: float,
) -> None:
    """Receive webhooks and print them.

    Prints each request and says whether its signature holds. Ctrl-C ends it.

    `webhookd listen --secret-file orders.secret --status 500 --status 200` fails the first attempt on purpose.
    """
    verifier = None if secret_file is None else read_verifier(secret_file, scheme, rules)
    show = _Show(session.as_json, verifier=verifier, statuses=statuses, delay_seconds=delay)
    try:
        receiver = Receiver(show.answer, host=host, port=port)
    except OSError as error:
        raise CommandFailedError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    with receiver:
        if not _is_loopback(host):
            note(f"warning: {host} can be reached by other machines")
        if secret_file is None:
            note("signatures are not checked; give --secret-file for that")
        note(f"listening on {receiver.url}")
        ended.wait()


class _Show:
    """Prints requests one at a time, whichever threads they come on, and says what to answer."""

    def __init__(
        self,
        as_json: bool,  # noqa: FBT001 - one of two ways to print
        *,
        verifier: Verifier | None,
        statuses: tuple[int, ...],
        delay_seconds: float,
    ) -> None:
        self._as_json = as_json
        self._verifier = verifier
        self._statuses = list(statuses)
        self._delay_seconds = delay_seconds
        self._turn = threading.Lock()

    def answer(self, received: Received) -> Reply:
        reason = self._verify(received)
        with self._turn:
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            if self._as_json:
                emit_json(self._document(received, reason, status))
            else:
                self._print(received, reason, status)
        return Reply(status=status, delay_seconds=self._delay_seconds)

    def _verify(self, received: Received) -> str | None:
        if self._verifier is None:
            return None
        flaw = self._verifier.check(dict(received.headers), received.body, received.at_seconds)
        return None if flaw is None else flaw.text

    def _document(self, received: Received, reason: str | None, status: int) -> dict[str, object]:
        try:
            body = {"body": received.body.decode()}
        except UnicodeDecodeError:
            import base64

            body = {"body_base64": base64.b64encode(received.body).decode()}
        verified = None if self._verifier is None else reason is None
        return {
            "received_at": _time(received),
            "method": received.method,
            "path": received.path,
            "headers": [list(header) for header in received.headers],
            **body,
            "signature": {"verified": verified, "reason": reason},
            "status": status,
        }

    def _print(self, received: Received, reason: str | None, status: int) -> None:
        emit(f"{_time(received)}  {printable(received.method)} {printable(received.path)}  answered {status}")
        for name, value in received.headers:
            emit(f"  {printable(name)}: {printable(value)}")
        emit()
        for line in escaped_bytes(received.body).split("\n"):
            emit(f"  {line}")
        if self._verifier is not None:
            emit()
            emit(
                colored("  signature does not hold: ", "dead") + printable(reason)
                if reason
                else colored("  signature holds", "delivered")
            )
        emit()


def _time(received: Received) -> str:
    return datetime.fromtimestamp(received.at_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
