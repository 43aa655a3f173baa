"""Answers as bytes: what the front writes itself, without a web framework."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from webhookd.api.problems import PROBLEM_CONTENT_TYPE, Problem
from webhookd.core.ids import event_text
from webhookd.core.ports import Acceptance

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_ACCEPTED = _STATUS_LINES[202]
_DUPLICATE = _STATUS_LINES[200]
_JSON_HEAD = b"Content-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n"
_CLOSE = b"Connection: close\r\n"


def http_date(epoch_seconds: float) -> bytes:
    """Return the time as the Date header has it (RFC 9110, section 5.6.7)."""
    return formatdate(epoch_seconds, usegmt=True).encode()


def problem_answer(problem: Problem, *, keep: bool, date: bytes) -> bytes:
    """Return the complete response for a problem; without `keep` it announces the end of the connection."""
    body = problem.body()
    lines = "".join(f"{name}: {value}\r\n" for name, value in problem.headers)
    head = (
        f"Content-Type: {PROBLEM_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n{lines}"
    ).encode("latin-1", "replace")
    return b"%bDate: %b\r\n%b%b\r\n%b" % (_STATUS_LINES[problem.status], date, head, b"" if keep else _CLOSE, body)


def acceptance_answer(acceptance: Acceptance, *, keep: bool, date: bytes) -> bytes:
    """Return the response for one event: 202 for a new one, 200 for one that was there."""
    body = _acceptance_json(acceptance).encode()
    head = _JSON_HEAD % (len(body), date, b"" if keep else _CLOSE)
    return (_DUPLICATE if acceptance.duplicate else _ACCEPTED) + head + body


def batch_answer(acceptances: list[Acceptance], *, keep: bool, date: bytes) -> bytes:
    """Return the response for a batch, in the order of its lines."""
    body = ('{"events":[' + ",".join(map(_acceptance_json, acceptances)) + "]}").encode()
    return _ACCEPTED + _JSON_HEAD % (len(body), date, b"" if keep else _CLOSE) + body


def _acceptance_json(acceptance: Acceptance) -> str:
    duplicate = "true" if acceptance.duplicate else "false"
    identity = event_text(acceptance.event_id)
    return f'{{"id":"{identity}","duplicate":{duplicate},"deliveries":{acceptance.deliveries}}}'
