"""The body that goes out: the payload, or an envelope around its bytes."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import builders
from webhookd.core.envelope import as_sent
from webhookd.core.event import EVENT_TYPE
from webhookd.core.settings import Body

ODD = b' {"a": 10.0,\t"a":2, "n":123456789012345678901234567890, "s":"\\u00e9 \\ud800 \xc3\xa9\\/" }\r\n'
AT_MS = 1_767_323_045_678


def test_a_payload_goes_out_as_it_is():
    event = builders.event(payload=b"\x00\xff", content_type="image/png")
    assert as_sent(event, Body.PAYLOAD) is event


def test_an_envelope_has_the_bytes_of_the_payload_inside():
    event = builders.event(type="order.completed", payload=ODD, accepted_at_ms=AT_MS)
    sent = as_sent(event, Body.ENVELOPE)
    assert sent.payload == b'{"type":"order.completed","timestamp":"2026-01-02T03:04:05.678Z","data":' + ODD + b"}"
    assert (sent.id, sent.content_type) == (event.id, "application/json")


def test_the_timestamp_is_that_of_acceptance_whenever_it_is_sent():
    event = builders.event(accepted_at_ms=AT_MS, deliver_at_ms=AT_MS + 86_400_000)
    assert json.loads(as_sent(event, Body.ENVELOPE).payload)["timestamp"] == "2026-01-02T03:04:05.678Z"


@given(st.from_regex(EVENT_TYPE, fullmatch=True), st.sampled_from(["1", "{}", '"x"', "[null]"]))
def test_an_envelope_is_json_for_every_type(event_type, payload):
    sent = as_sent(builders.event(type=event_type, payload=payload.encode()), Body.ENVELOPE)
    read = json.loads(sent.payload)
    assert list(read) == ["type", "timestamp", "data"]
    assert (read["type"], read["data"]) == (event_type, json.loads(payload))


@pytest.mark.parametrize("content_type", ["application/vnd.api+json; charset=utf-8", "text/json"])
def test_whatever_json_calls_itself_the_envelope_is_application_json(content_type):
    sent = as_sent(builders.event(content_type=content_type), Body.ENVELOPE)
    assert sent.content_type == "application/json"


@pytest.mark.parametrize("content_type", ["text/csv", "application/octet-stream", "text/plain; format=json"])
def test_what_is_not_json_has_no_place_in_an_envelope(content_type):
    with pytest.raises(ValueError, match=f"takes JSON payloads only, and this one is {re.escape(content_type)}"):
        as_sent(builders.event(content_type=content_type), Body.ENVELOPE)
