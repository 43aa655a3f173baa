"""The other body: a JSON object with type, time and data around the payload, whose bytes stand in it as they came."""

from __future__ import annotations

from msgspec.structs import replace

from webhookd.core.event import JSON_CONTENT_TYPE, Event, is_json_type
from webhookd.core.settings import Body
from webhookd.core.times import time_text

_PAYLOAD = Body.PAYLOAD


def as_sent(event: Event, body: Body) -> Event:
    """Return the event with the body and content type that a receiver gets, to be signed and sent.

    Raises ValueError with a sentence where a payload that is not JSON was to stand in an envelope.
    """
    if body is _PAYLOAD:
        return event
    if not is_json_type(event.content_type):
        raise ValueError(f"body = envelope takes JSON payloads only, and this one is {event.content_type}")
    # An event type consists of characters that stand for themselves in JSON.
    head = f'{{"type":"{event.type}","timestamp":"{time_text(event.accepted_at_ms)}","data":'.encode()
    return replace(event, payload=b"%b%b}" % (head, event.payload), content_type=JSON_CONTENT_TYPE)
