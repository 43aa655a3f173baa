"""What readers see: ids, masked URLs, harmless excerpts."""

from __future__ import annotations

import json

import orjson
import pytest

from tests.kit.builders import endpoint, record
from tests.kit.fakes_api import FakeDirectory, a_delivery, an_event
from tests.kit.values import replace
from webhookd.api.shapes import (
    attempt_json,
    delivery_json,
    endpoint_json,
    event_with_payload_json,
    excerpt_text,
)
from webhookd.core.attempt import Attempt, AttemptError, ErrorClass, Outcome, Phases, Trigger
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.ids import EPOCH_MS, DeliveryId
from webhookd.core.services import EndpointView
from webhookd.core.settings import BasicAuth


@pytest.mark.parametrize("where", [{}, {"/n": [123456789012345678901, -1e300, None, "é"]}])
def test_a_filter_is_shown_with_numbers_of_any_length(where):
    given = {"url": "https://e.com", **({"where": where} if where else {})}
    view = EndpointView(record=record(given=given), definition=endpoint(given=given), pending=0, last_attempt=None)
    assert json.loads(orjson.dumps(endpoint_json(view)))["where"] == where


def test_a_json_payload_stands_in_the_answer_as_it_came():
    event = an_event(payload=b'{"a":1e999, "a":2}')
    assert b'"payload":{"a":1e999, "a":2}' in orjson.dumps(event_with_payload_json(event))


def test_any_other_payload_stands_there_in_base64():
    shown = event_with_payload_json(an_event(payload=b"\x00\xff", content_type="text/plain"))
    assert shown["payload_base64"] == "AP8="
    assert "payload" not in shown
    assert shown["size"] == 2


def test_the_shape_of_a_delivery():
    assert delivery_json(a_delivery()) == {
        "id": "dlv_0000ciKbTd2",
        "event": "evt_0000JMAIjoW",
        "endpoint": "orders",
        "tenant": "default",
        "type": "order.completed",
        "state": "pending",
        "held": False,
        "reason": None,
        "attempt_count": 0,
        "created_at": "2024-01-01T00:00:00.000Z",
        "next_attempt_at": "2024-01-01T00:00:05.000Z",
        "finished_at": None,
    }


@pytest.mark.parametrize("changes", [{"held": True}, {"state": DeliveryState.DEAD, "finished_at_ms": EPOCH_MS}])
def test_what_is_not_going_to_be_attempted_has_no_next_attempt(changes):
    assert delivery_json(a_delivery(**changes))["next_attempt_at"] is None


def test_the_shape_of_an_attempt():
    outcome = Outcome(
        duration_ms=12.34567,
        error=AttemptError(kind=ErrorClass.TIMEOUT, text="no answer within 15 s"),
        phases=Phases(dns_ms=0.5),
        excerpt=b"\x1b[31mred\r\n\xff",
    )
    attempt = Attempt(
        delivery_id=DeliveryId(1), number=3, trigger=Trigger.MANUAL, started_at_ms=EPOCH_MS, outcome=outcome
    )
    assert attempt_json(attempt) == {
        "number": 3,
        "trigger": "manual",
        "started_at": "2024-01-01T00:00:00.000Z",
        "duration_ms": 12.346,
        "phases": {"dns_ms": 0.5, "connect_ms": None, "tls_ms": None, "first_byte_ms": None},
        "status": None,
        "error": {"class": "timeout", "text": "no answer within 15 s"},
        "excerpt": "\\x1b[31mred\\r\\n\ufffd",
    }


def test_an_excerpt_cannot_act_on_a_terminal():
    shown = excerpt_text("a\x00b\x1b]0;x\x07\x7f\x9b\u2028é\t".encode())
    assert shown == "a\\x00b\\x1b]0;x\\x07\\x7f\\x9b\\u2028é\\t"


def test_an_endpoint_shows_its_keys_but_no_secret():
    view = FakeDirectory().add(
        "orders", url="https://e.com/?k=v", secret="whsec_y", timeout="3s", headers={"X-Key": "k", "X-A": "b"}
    )
    shown = endpoint_json(view)
    assert (shown["id"], shown["url"], shown["timeout"], shown["status"]) == (
        "orders",
        "https://e.com/?k=********",
        "3s",
        "enabled",
    )
    assert (shown["declared"], shown["disabled_reason"], shown["last_attempt"]) == (False, None, None)
    assert shown["health"] == {
        "failing_days": 0,
        "failed_attempts": 0,
        "last_success_at": None,
        "pending": 3,
        "held": 0,
    }
    assert shown["headers"] == {"X-Key": "********", "X-A": "b"}
    assert b"whsec" not in orjson.dumps(shown)


def test_what_a_disabled_endpoint_is_owed_is_held():
    view = FakeDirectory().add("orders")
    health = Health(disabled_reason=DisabledReason.GONE, disabled_at_ms=EPOCH_MS, failing_days=2)
    shown = endpoint_json(replace(view, record=replace(view.record, health=health)))
    assert (shown["status"], shown["disabled_reason"], shown["health"]["held"]) == ("disabled", "gone", 3)


def test_a_declared_endpoint_that_left_the_file_is_still_shown():
    view = FakeDirectory().add("orders")
    shown = endpoint_json(replace(view, definition=None, record=replace(view.record, declared=True, given={})))
    assert (shown["id"], shown["url"], shown["declared"]) == ("orders", None, True)


def shown(definition, given=None) -> dict[str, object]:
    """Return how the API shows an endpoint with this definition, or one without that was given these keys."""
    made = record(given=given or {})
    view = EndpointView(record=made, definition=definition, pending=0, last_attempt=None)
    return orjson.loads(orjson.dumps(endpoint_json(view)))


@pytest.mark.parametrize("declared", [True, False])
def test_basic_credentials_are_shown_without_the_password(declared):
    given = {} if declared else {"basic_auth": {"username": "u", "password": "s3cret"}}
    definition = replace(endpoint(given=given), basic_auth=BasicAuth(username="u", password="s3cret"))
    assert shown(definition)["basic_auth"] == {"username": "u", "password": "********"}
    assert "s3cret" not in str(shown(definition))


def test_of_a_secret_url_only_the_origin_is_shown():
    definition = replace(endpoint(url="https://example.com:8443/s3cret?s3cret=1"), url_is_secret=True)
    document = shown(definition)
    assert (document["url"], document["url_secret"]) == ("https://example.com:8443/…", True)
    assert "s3cret" not in str(document)


def test_an_endpoint_without_a_definition_keeps_its_secrets_too():
    document = shown(
        None,
        {
            "url": "https://example.com/s3cret",
            "url_secret": True,
            "basic_auth": {"username": "u", "password": "s3cret"},
            "headers": {"X-Api-Key": "s3cret"},
        },
    )
    assert document["url"] == "https://example.com/…"
    assert "s3cret" not in str(document)
