"""The events handed in, and how a delivery of one is judged."""

import json
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from bench import sample
from bench.framing import measure


def test_every_payload_is_different_json_of_one_length():
    payloads = [sample.payload(sequence) for sequence in (0, 1, 999_999)]
    assert {len(payload) for payload in payloads} == {sample.PAYLOAD_BYTES}
    assert [int(json.loads(payload)["sequence"]) for payload in payloads] == [0, 1, 999_999]


def test_a_request_carries_its_payload_and_ends_where_it_says():
    request = sample.Requests().build(7)
    begin, end = measure(request)
    assert end == len(request)
    assert request[begin:end] == b'{"type":"order.completed","payload":' + sample.payload(7) + b"}"


def test_a_batch_is_one_envelope_a_line_of_types_in_turn():
    request = sample.Requests(batch=3, types=2).build(10)
    begin, end = measure(request)
    assert end == len(request)
    assert b"Content-Type: application/x-ndjson\r\n" in request[:begin]
    types, payloads = zip(
        *((event["type"], event["payload"]) for event in map(json.loads, request[begin:].splitlines())), strict=True
    )
    assert types == ("load.00000", "load.00001", "load.00000")
    assert [int(payload["sequence"]) for payload in payloads] == [10, 11, 12]


def signed(body):
    now = int(time.time())
    signature = Webhook(sample.SECRET).sign("evt_1", datetime.fromtimestamp(now, UTC), body.decode())
    return b"evt_1", b"%d" % now, signature.encode(), body


def test_a_delivery_that_a_standard_webhooks_receiver_would_take_is_fine():
    assert sample.complaint(*signed(sample.payload(3))) is None


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_signature_of_anything_else_is_seen(part):
    parts = list(signed(sample.payload(3)))
    parts[part] += b"1"
    assert sample.complaint(*parts) == "the signature does not hold"


@pytest.mark.parametrize("body", [sample.payload(3)[:-1] + b" }", sample.payload(3).replace(b"12.00", b"12.0 "), b"{}"])
def test_a_payload_that_was_changed_is_seen(body):
    assert sample.complaint(*signed(body)) == "the payload is not what was handed in"
