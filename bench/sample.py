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

_ENVELOPE = b'{"type":"order.completed","payload":'


def payload(sequence: int) -> bytes:
    """Return the payload of one event, PAYLOAD_BYTES long."""
    return _OPENING % sequence + _REST


def request_parts() -> tuple[bytes, bytes]:
    """Return what stands before and after the opening of the payload in a request that hands it in."""
    length = len(_ENVELOPE) + PAYLOAD_BYTES + 1
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )
    return head + _ENVELOPE, _REST + b"}"


def request(sequence: int, parts: tuple[bytes, bytes]) -> bytes:
    """Return the whole request for one event; a few hundred nanoseconds, so that no memory is held for a million."""
    before, after = parts
    return before + _OPENING % sequence + after


def complaint(message_id: bytes, timestamp: bytes, signature: bytes, body: bytes) -> str | None:
    """Return what is wrong with a delivery of one of these events, or None (Standard Webhooks 1.0)."""
    digest = hmac.digest(KEY, message_id + b"." + timestamp + b"." + body, hashlib.sha256)
    if signature != b"v1," + base64.b64encode(digest):
        return "the signature does not hold"
    sequence = body[len(b'{"sequence":"') : len(b'{"sequence":"') + 10]
    if not sequence.isdigit() or body != payload(int(sequence)):
        return "the payload is not what was handed in"
    return None
