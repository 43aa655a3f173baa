"""`demo`: from nothing to working in one command, with the real daemon and three receivers on loopback."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import resources

import click

from webhookd.cli.commands import Command, Session, accepts, pass_session
from webhookd.cli.connection import segment
from webhookd.cli.deliveries import DELIVERY_HEADS, delivery_row
from webhookd.cli.demo_daemon import DemoDaemon, new_secret
from webhookd.cli.exits import CommandFailedError
from webhookd.cli.lists import Row
from webhookd.cli.output import emit, emit_json, note, table
from webhookd.cli.receiver import Received, Receiver, Reply
from webhookd.cli.text import counted, printable
from webhookd.core.verifying import verify_standard

ONCE_TIMEOUT_SECONDS = 30.0
ANSWER_TIMEOUT_SECONDS = 10.0
EVENT_INTERVAL_SECONDS = 4.0
FAILURES = 2
REMEMBERED_EVENTS = 1000
SHOWN_DELIVERIES = 50

_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 0.3
# In the order in which they would happen.
_SAMPLES = ("order.completed", "customer.arrived", "payment.refunded")


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Deliver one event of each kind, then end: with 0 if all were acknowledged.")
@accepts("json")
@pass_session
def demo(session: Session, *, once: bool) -> None:
    """See it work: a daemon, three receivers, every attempt.

    The daemon is the real one, with a temporary database. One receiver is healthy, one fails twice and recovers, one
    checks signatures. Ctrl-C ends it; nothing is left behind.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    lines = _Lines(session.as_json)
    with ExitStack() as stack:
        addresses = {}
        for name, behave in (("healthy", _healthy), ("flaky", _Flaky()), ("strict", None)):
            secret = new_secret()
            receiver = Receiver(lines.telling(name, behave or _Strict(secret)))
            addresses[name] = (stack.enter_context(receiver).url, secret)
        daemon = stack.enter_context(DemoDaemon(addresses, interrupted=ended.is_set))
        _introduce(daemon, once=once)
        if once:
            _deliver_once(session, daemon, ended)
        else:
            _deliver_until(daemon, ended)


Behaviour = Callable[[Received], tuple[Reply, str]]


def _healthy(_received: Received) -> tuple[Reply, str]:
    return Reply(body=b"ok\n"), ""


class _Flaky:
    """Fails twice for the first event it gets and for every fifth after that, then recovers."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bool, int]] = {}
        self._events = 0
        self._turn = threading.Lock()

    def __call__(self, received: Received) -> tuple[Reply, str]:
        event = received.header("webhook-id")
        with self._turn:
            if event not in self._seen:
                self._seen[event] = (self._events % 5 == 0, 0)
                self._events += 1
                if len(self._seen) > REMEMBERED_EVENTS:
                    del self._seen[next(iter(self._seen))]
            unlucky, earlier = self._seen[event]
            self._seen[event] = (unlucky, earlier + 1)
        if unlucky and earlier < FAILURES:
            return Reply(status=500, body=b"down for a moment\n"), "will be tried again"
        return Reply(body=b"ok\n"), "recovered" if unlucky else ""


class _Strict:
    """Takes only what is signed with its secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self, received: Received) -> tuple[Reply, str]:
        reason = verify_standard(self._secret, dict(received.headers), received.body, received.at_seconds)
        if reason is not None:
            return Reply(status=401, body=reason.encode()), reason
        return Reply(body=b"ok\n"), "signature holds"


class _Lines:
    """Prints a line for each attempt as it arrives, whichever threads they come on."""

    def __init__(self, as_json: bool) -> None:  # noqa: FBT001 - one of two ways to print
        self._as_json = as_json
        self._turn = threading.Lock()

    def telling(self, name: str, behave: Behaviour) -> Callable[[Received], Reply]:
        """Return `behave` as a Receiver wants it, with its line printed."""

        def answer(received: Received) -> Reply:
            reply, remark = behave(received)
            with self._turn:
                self._print(name, received, reply, remark)
            return reply

        return answer

    def _print(self, name: str, received: Received, reply: Reply, remark: str) -> None:
        event_type, attempt = received.header("x-event-type"), received.header("x-attempt")
        if self._as_json:
            emit_json(
                {
                    "event": received.header("webhook-id"),
                    "type": event_type,
                    "endpoint": name,
                    "attempt": int(attempt) if attempt.isdecimal() else None,
                    "status": reply.status,
                    "remark": remark,
                }
            )
            return
        at = time.strftime("%H:%M:%S", time.localtime(received.at_seconds))
        status = click.style(str(reply.status), fg="green" if reply.status < 300 else "red")
        emit(f"{at}  {printable(event_type):<16} → {name:<8} attempt {printable(attempt)}  {status}  {remark}".rstrip())


def _introduce(daemon: DemoDaemon, *, once: bool) -> None:
    note(f"webhookd runs at {daemon.url} and unix:{daemon.socket}")
    if once:
        return
    note("Try, in another terminal:")
    note(f"  webhookd --server unix:{daemon.socket} status")
    note(f"  webhookd --server unix:{daemon.socket} deliveries list")
    note(
        f"  curl --unix-socket {daemon.socket} http://localhost/v1/events/order.completed "
        "-H 'Content-Type: application/json' -d '{\"order\": 1}'"
    )
    note("Ctrl-C ends it.")


def _deliver_until(daemon: DemoDaemon, ended: threading.Event) -> None:
    for name in itertools.cycle(_SAMPLES):
        daemon.check()
        _send(daemon, name)
        if ended.wait(EVENT_INTERVAL_SECONDS):
            return


def _deliver_once(session: Session, daemon: DemoDaemon, ended: threading.Event) -> None:
    owed = 0
    for name in _SAMPLES:
        owed += _send(daemon, name)
        # Slow enough to be followed by eye.
        ended.wait(_PAUSE_SECONDS)
    deadline = time.monotonic() + ONCE_TIMEOUT_SECONDS
    while True:
        daemon.check()
        rows = _deliveries(daemon)
        left = [row for row in rows if row.get("state") != "delivered"]
        if len(rows) == owed and not left:
            break
        if time.monotonic() > deadline or ended.is_set():
            missing = [f"{row.get('type')} → {row.get('endpoint')}: {row.get('state')}" for row in left]
            why = "interrupted" if ended.is_set() else f"not all was acknowledged within {ONCE_TIMEOUT_SECONDS:g} s"
            raise CommandFailedError("\n".join([why, *missing, daemon.log_tail()]))
        ended.wait(_POLL_SECONDS)
    if not session.as_json:
        emit()
        table(DELIVERY_HEADS, [delivery_row(row) for row in rows])
    note(f"all {counted(owed, 'delivery', 'deliveries')} acknowledged")


def _send(daemon: DemoDaemon, name: str) -> int:
    payload = resources.files("webhookd.cli").joinpath("samples", f"{name}.json").read_bytes()
    headers = {"Content-Type": "application/json"}
    answer = daemon.client.ask(
        "POST", f"/v1/events/{segment(name)}", body=payload, headers=headers, timeout_seconds=ANSWER_TIMEOUT_SECONDS
    )
    deliveries = answer.json().get("deliveries")
    return deliveries if isinstance(deliveries, int) else 0


def _deliveries(daemon: DemoDaemon) -> list[Row]:
    answer = daemon.client.ask(
        "GET", "/v1/deliveries", query={"limit": str(SHOWN_DELIVERIES)}, timeout_seconds=ANSWER_TIMEOUT_SECONDS
    )
    rows = answer.json().get("data")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
