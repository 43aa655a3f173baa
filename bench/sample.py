"""The events that are handed in, every one different and all of one length, and the secret they are signed with."""

from __future__ import annotations

import base64
import hashlib
import hmac

PAYLOAD_BYTES = 700
KEY = b"not a secret, only of its length"
SECRET = "whsec_" + base64.b64encode(KEY).decode()

_OPENING = b'{"sequence":"%010d",'
_ORDER = (
    b'"id":"ord_20931","placed_at":"2026-03-14T11:52:07Z","store":{"id":"st_17","name":"Caf\xc3\xa9 Z\xc3\xbcrich"},'
    b'"items":[{"sku":"ESP-250","name":"Espresso 250 g","quantity":2,"unit_price":"8.90"},'
    b'{"sku":"MUG-01","name":"Mug, blue","quantity":1,"unit_price":"12.00"}],'
    b'"total":{"amount":"29.80","currency":"EUR"},"note":"'
)
_REST = _ORDER + b"." * (PAYLOAD_BYTES - len(_OPENING % 0) - len(_ORDER) - 2) + b'"}'

TYPE = "order.completed"
_HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/%s\r\nContent-Length: %d\r\n\r\n"
_ENVELOPE = b'{"type":"%s","payload":'


def payload(sequence: int) -> bytes:
    """Return the payload of one event, PAYLOAD_BYTES long."""
    return _OPENING % sequence + _REST


def type_of(number: int) -> str:
    """Return the type of the events for endpoint `number`, where there are several; all are of one length."""
    return f"load.{number:05d}"


class Requests:
    """Builds the requests that hand in events, `batch` of them in each, of `types` types in turn.

    A single one takes a few hundred nanoseconds, so that no memory is held for a million.
    """

    def __init__(self, *, batch: int = 1, types: int = 1) -> None:
        names = [TYPE] if types == 1 else [type_of(number) for number in range(types)]
        self._openings = [_ENVELOPE % name.encode() + _OPENING for name in names]
        self._batch = batch
        length = len(self._openings[0] % 0) + len(_REST) + 1
        self._head = _HEAD % ((b"json", length) if batch == 1 else (b"x-ndjson", batch * (length + 1)))
        self._tail = _REST + (b"}" if batch == 1 else b"}\n")

    def build(self, sequence: int) -> bytes:
        """Return the request for the event `sequence`, or for the batch that begins with it."""
        openings, tail = self._openings, self._tail
        if self._batch == 1:
            return self._head + openings[sequence % len(openings)] % sequence + tail
        numbers = range(sequence, sequence + self._batch)
        return self._head + b"".join([openings[number % len(openings)] % number + tail for number in numbers])


def complaint(message_id: bytes, timestamp: bytes, signature: bytes, body: bytes) -> str | None:
    """Return what is wrong with a delivery of one of these events, or None (Standard Webhooks 1.0)."""
    digest = hmac.digest(KEY, message_id + b"." + timestamp + b"." + body, hashlib.sha256)
    if signature != b"v1," + base64.b64encode(digest):
        return "the signature does not hold"
    sequence = body[len(b'{"sequence":"') : len(b'{"sequence":"') + 10]
    if not sequence.isdigit() or body != payload(int(sequence)):
        return "the payload is not what was handed in"
    return None
