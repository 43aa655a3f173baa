"""What stands in the body of a request, and that it is what was signed."""

import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from tests.kit.builders import endpoint, event, work
from tests.kit.receiver import Receiver
from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import Body, DeliveryRules

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVELOPE = DeliveryRules(body=Body.ENVELOPE)
AT_MS = 1_767_323_045_678
HEAD = b'{"type":"order.completed","timestamp":"2026-01-02T03:04:05.678Z","data":'

JSON_PAYLOADS = [
    b'{"amount": 10.0}',
    b'{"n":123456789012345678901234567890, "e":1e999}',
    b'{"s":"Zo\\u00eb \xc3\xab \\/ \\ud800"}',
    b'{\r\n\t"crlf": "\\r\\n"\r\n}\r\n',
    b'{"a":1, "a":2 }',
    b" null ",
    b'"' + b"x" * (256 * 1024 - 2) + b'"',
]
OTHER_PAYLOADS = [b"", b"a,b\r\n1,2\r\n", bytes(range(256)) * 1024, b"HTTP/1.1 200 OK\r\n\r\n", b'{"broken": ']


async def attempt(sender, receiver, payload, *, content_type="application/json", rules=None):
    """Make one attempt; return the outcome and the requests that arrived."""
    sent = event(payload=payload, content_type=content_type, accepted_at_ms=AT_MS)
    to = endpoint(url=f"{receiver.url}/hook", secret=SECRET, rules=rules)
    outcome = await sender.send(work(of=sent), to)
    return outcome, list(receiver.requests)


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [(payload, "application/json") for payload in JSON_PAYLOADS]
    + [(payload, "application/x-thing; v=1") for payload in OTHER_PAYLOADS],
)
async def test_a_payload_is_sent_and_signed_byte_for_byte(sender, payload, content_type):
    async with Receiver() as receiver:
        outcome, (request,) = await attempt(sender, receiver, payload, content_type=content_type)
    assert outcome.status == 200
    assert request.body == payload
    assert request.header("content-type") == content_type
    assert request.header("content-length") == str(len(payload))
    if content_type == "application/json":
        verify(request)


@pytest.mark.parametrize("payload", JSON_PAYLOADS)
@pytest.mark.parametrize("content_type", ["application/json", "application/vnd.api+json; charset=utf-8"])
async def test_an_envelope_is_sent_around_the_very_bytes_and_signed_as_sent(sender, payload, content_type):
    async with Receiver() as receiver:
        outcome, (request,) = await attempt(sender, receiver, payload, content_type=content_type, rules=ENVELOPE)
    assert outcome.status == 200
    assert request.body == HEAD + payload + b"}"
    assert request.header("content-type") == "application/json"
    assert request.header("content-length") == str(len(request.body))
    verify(request)


@pytest.mark.parametrize("payload", OTHER_PAYLOADS)
async def test_what_cannot_stand_in_an_envelope_is_a_failed_attempt_and_no_request(sender, payload):
    async with Receiver() as receiver:
        outcome, requests = await attempt(sender, receiver, payload, content_type="text/csv", rules=ENVELOPE)
        assert receiver.connections == 0
    assert requests == []
    assert outcome.status is None
    assert outcome.error is not None
    assert outcome.error.kind is ErrorClass.INTERNAL
    assert outcome.error.text == "body = envelope takes JSON payloads only, and this one is text/csv"


async def test_the_same_endpoint_gets_what_its_rules_say_at_each_attempt(sender):
    async with Receiver() as receiver:
        await attempt(sender, receiver, b"[1]")
        await attempt(sender, receiver, b"[1]", rules=ENVELOPE)
        _, requests = await attempt(sender, receiver, b"[1]")
    assert [request.body for request in requests] == [b"[1]", HEAD + b"[1]}", b"[1]"]


def verify(request):
    """Raise unless the signature is the one that the reference library makes of the bytes that arrived."""
    headers = {name.decode(): value.decode() for name, value in request.headers}
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=UTC)
    signed = Webhook(SECRET).sign(msg_id=headers["webhook-id"], timestamp=at, data=request.body.decode())
    assert headers["webhook-signature"] == signed
    json.loads(request.body)
