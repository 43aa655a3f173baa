"""Answers as bytes: what the front writes itself, without a web framework."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from webhookd.api.problems import PROBLEM_CONTENT_TYPE, Problem
from webhookd.core.ids import event_text
from webhookd.core.ports import Acceptance

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_JSON = "Content-Type: application/json\r\nContent-Length: "
_ACCEPTED = _STATUS_LINES[202] + _JSON
_DUPLICATE = _STATUS_LINES[200] + _JSON
_CLOSE = "Connection: close\r\n"


def http_date(epoch_seconds: float) -> str:
    """Return the time as the Date header has it (RFC 9110, section 5.6.7)."""
    return formatdate(epoch_seconds, usegmt=True)


def problem_answer(problem: Problem, *, keep: bool, date: str) -> bytes:
    """Return the complete response for a problem; without `keep` it announces the end of the connection."""
    body = problem.body()
    lines = "".join([f"{name}: {value}\r\n" for name, value in problem.headers])
    head = (
        f"{_STATUS_LINES[problem.status]}Date: {date}\r\nContent-Type: {PROBLEM_CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{lines}{'' if keep else _CLOSE}\r\n"
    )
    return head.encode("latin-1", "replace") + body


def acceptance_answer(acceptances: list[Acceptance], *, keep: bool, date: str) -> bytes:
    """Return the response for one event: 202 for a new one, 200 for one that was there."""
    (acceptance,) = acceptances
    head = _DUPLICATE if acceptance.duplicate else _ACCEPTED
    return _answer(head, _acceptance_json(acceptance), keep=keep, date=date)


def batch_answer(acceptances: list[Acceptance], *, keep: bool, date: str) -> bytes:
    """Return the response for a batch, in the order of its lines."""
    body = f'{{"events":[{",".join([_acceptance_json(acceptance) for acceptance in acceptances])}]}}'
    return _answer(_ACCEPTED, body, keep=keep, date=date)


def _answer(head: str, body: str, *, keep: bool, date: str) -> bytes:
    return f"{head}{len(body)}\r\nDate: {date}\r\n{'' if keep else _CLOSE}\r\n{body}".encode("ascii")


def _acceptance_json(acceptance: Acceptance) -> str:
    duplicate = "true" if acceptance.duplicate else "false"
    return f'{{"id":"{event_text(acceptance.event_id)}","duplicate":{duplicate},"deliveries":{acceptance.deliveries}}}'
