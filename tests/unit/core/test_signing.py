"""The headers of a delivery and its signatures."""

import time

import pytest
from standardwebhooks.webhooks import Webhook

from tests.kit.builders import endpoint, event
from webhookd.core.ids import event_text
from webhookd.core.keys import signing_key
from webhookd.core.settings import DeliveryRules
from webhookd.core.signing import HeaderPlan, check_header

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000


def rendered(definition, *, of=None, attempt_number=1, timestamp_seconds=NOW):
    plan = HeaderPlan(definition, version="1.2.3")
    head = plan.render(of or event(), attempt_number=attempt_number, timestamp_seconds=timestamp_seconds)
    assert head.endswith(b"\r\n") or head == b""
    return [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")[:-1]]


@pytest.mark.parametrize("payload", [b"{}", b'{"a": 1}', '{"ü": "\U0001f600"}'.encode(), b"[" + b"1," * 5000 + b"1]"])
def test_the_reference_library_accepts_a_whole_request(payload):
    # It refuses what was not signed within the last minutes, so this one cannot be of a fixed moment.
    headers = dict(rendered(endpoint(secret=SECRET), of=event(payload=payload), timestamp_seconds=int(time.time())))
    Webhook(SECRET).verify(payload, headers)


def test_the_headers_of_a_plain_endpoint():
    of = event(content_type="text/plain; charset=utf-8")
    assert [name for name, _ in rendered(endpoint(), of=of)] == [
        "Content-Type",
        "User-Agent",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]
    headers = dict(rendered(endpoint(), of=of))
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["User-Agent"] == "webhookd/1.2.3"
    assert headers["webhook-id"] == event_text(of.id)
    assert headers["webhook-timestamp"] == str(NOW)


def test_without_standard_headers_and_signatures_only_the_content_type_is_sent():
    rules = DeliveryRules(standard_headers=False, signatures=())
    assert rendered(endpoint(rules=rules, secret=None)) == [("Content-Type", "application/json")]


def test_a_signature_brings_its_own_headers_even_without_the_standard_ones():
    names = [name for name, _ in rendered(endpoint(rules=DeliveryRules(standard_headers=False)))]
    assert names == ["Content-Type", "webhook-id", "webhook-timestamp", "webhook-signature"]


def test_without_signatures_no_secret_is_needed():
    names = [name for name, _ in rendered(endpoint(secret=None, rules=DeliveryRules(signatures=())))]
    assert names == ["Content-Type", "User-Agent", "webhook-id", "webhook-timestamp"]


def test_placeholders_are_filled():
    rules = DeliveryRules(
        headers=(("X-All", "{secret}|{event_id}|{event_type}|{attempt}|{tenant}"), ("X-Percent", "100% {attempt}%s"))
    )
    of = event(type="order.paid", tenant="acme")
    headers = dict(rendered(endpoint(rules=rules), of=of, attempt_number=7))
    assert headers["X-All"] == f"{SECRET}|{event_text(of.id)}|order.paid|7|acme"
    assert headers["X-Percent"] == "100% 7%s"


def test_a_secret_that_looks_like_a_template_is_sent_as_it_is():
    rules = DeliveryRules(headers=(("Authorization", "Bearer {secret}"),), signatures=())
    headers = dict(rendered(endpoint(rules=rules, secret="%(attempt)d{event_id}100%")))
    assert headers["Authorization"] == "Bearer %(attempt)d{event_id}100%"


def test_a_header_that_needs_a_secret_is_left_out_when_there_is_none():
    rules = DeliveryRules(headers=(("User-Agent", "shop {secret}"), ("X-Plain", "yes")), signatures=())
    headers = dict(rendered(endpoint(rules=rules, secret=None)))
    assert headers["User-Agent"] == "webhookd/1.2.3"
    assert headers["X-Plain"] == "yes"


def test_a_configured_header_replaces_ours_whatever_its_case():
    rules = DeliveryRules(headers=(("USER-AGENT", "shop/1"), ("content-type", "application/cloudevents+json")))
    headers = rendered(endpoint(rules=rules))
    assert [value for name, value in headers if name.lower() == "user-agent"] == ["shop/1"]
    assert [value for name, value in headers if name.lower() == "content-type"] == ["application/cloudevents+json"]


def test_braces_that_hold_no_word_are_left_alone():
    rules = DeliveryRules(headers=(("X-Json", '{"a": 1, "b": "{attempt}"}'),))
    assert dict(rendered(endpoint(rules=rules)))["X-Json"] == '{"a": 1, "b": "1"}'


def test_each_attempt_has_a_fresh_timestamp_and_signature_under_one_id():
    of = event()
    first = dict(rendered(endpoint(), of=of))
    second = dict(rendered(endpoint(), of=of, attempt_number=2, timestamp_seconds=NOW + 5))
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_content_type_cannot_split_the_request():
    with pytest.raises(ValueError, match="content type"):
        rendered(endpoint(), of=event(content_type="text/plain\r\nX-Evil: 1"))


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_the_prefix_of_a_secret_is_optional(secret):
    assert len(signing_key(secret)) == 24


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!", "whsec_abc", "whsec_ü", "AAAA\n", "whsk_AAAA"])
def test_a_secret_that_does_not_decode_is_refused(secret):
    with pytest.raises(ValueError, match="must"):
        signing_key(secret)


def test_signing_without_a_secret_is_refused():
    with pytest.raises(ValueError, match="needs a secret"):
        HeaderPlan(endpoint(secret=None), version="1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Ok", "anything goes; even \t and ü"),
        ("x_ok!#$%&'*+.^`|~", "{secret} {event_id} {event_type} {attempt} {tenant}"),
        ("Authorization", 'Token token="{secret}"'),
        ("X-Empty", ""),
    ],
)
def test_a_good_header_is_taken(name, value):
    check_header(name, value)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("", "x", "not the name"),
        ("X Bad", "x", "not the name"),
        ("X-Bad:", "x", "not the name"),
        ("X-Bad\r\n", "x", "not the name"),
        ("X-Bäd", "x", "not the name"),
        ("Host", "evil.example", "set by webhookd"),
        ("content-length", "5", "set by webhookd"),
        ("TRANSFER-ENCODING", "chunked", "set by webhookd"),
        ("Connection", "close", "set by webhookd"),
        ("X-A", "a\r\nX-B: c", "control"),
        ("X-A", "a\nb", "control"),
        ("X-A", "a\x00", "control"),
        ("X-A", " a", "spaces at its ends"),
        ("X-A", "\ud800", "UTF-8"),
        ("X-A", "{secrets}", "unknown placeholder {secrets}"),
        ("X-A", "{}", "unknown placeholder {}"),
        ("X-A", "{event id}", "unknown placeholder"),
    ],
)
def test_a_bad_header_is_refused_with_the_reason(name, value, why):
    with pytest.raises(ValueError, match=why):
        check_header(name, value)


def test_a_secret_that_would_split_a_header_is_refused():
    check_header("X-A", "{secret}", secret="fine")
    with pytest.raises(ValueError, match="control"):
        check_header("X-A", "{secret}", secret="a\r\nX-B: c")
    rules = DeliveryRules(headers=(("X-A", "{secret}"),), signatures=())
    with pytest.raises(ValueError, match="control"):
        HeaderPlan(endpoint(secret="a\r\nX-B: c", rules=rules), version="1")
