"""Why a signature does not hold, scheme by scheme, in a word for programs and in a sentence."""

import json

import pytest

from tests.unit.core.test_schemes import BODY, ED25519_PUBLIC, ED25519_SECRET, NOW, OTHER, SECRET, headers_of
from webhookd.core.settings import Encoding, Scheme, Signature
from webhookd.core.verifying import Cause, Verifier

STRIPE, GITHUB = Signature(scheme=Scheme.STRIPE), Signature(scheme=Scheme.GITHUB)
SLACK, STANDARD = Signature(scheme=Scheme.SLACK), Signature()
TEMPLATE = Signature(scheme=Scheme.TEMPLATE, header="X-Sig", value="s={signature}", content="{id}.{timestamp}.{body}")
SIGNED_LIKE_THIS = [STANDARD, STRIPE, GITHUB, Signature(scheme=Scheme.SHOPIFY), SLACK, TEMPLATE]


def request(signature, secret=SECRET, body=BODY, **more):
    from tests.kit.builders import event

    return dict(headers_of(signature, secret=secret, of=event(payload=body), **more))


def check(signature, headers, body=BODY, *, secret=SECRET, now=NOW, **more):
    return Verifier(signature, secret, **more).check(headers, body, now)


@pytest.mark.parametrize("signature", SIGNED_LIKE_THIS, ids=lambda signature: signature.scheme)
def test_another_secret_or_another_body_cannot_be_told_apart(signature):
    headers = request(signature)
    for flaw in (check(signature, headers, secret=OTHER), check(signature, headers, BODY.replace(b"1", b"2"))):
        assert flaw.cause is Cause.WRONG_SECRET_OR_CHANGED_BODY
        assert "wrong secret or changed body" in flaw.text


@pytest.mark.parametrize("signature", SIGNED_LIKE_THIS, ids=lambda signature: signature.scheme)
def test_names_of_headers_may_be_in_any_case(signature):
    assert check(signature, {name.upper(): value for name, value in request(signature).items()}) is None


@pytest.mark.parametrize(
    ("signed", "got", "words"),
    [
        (BODY, BODY + b"\n", "newline at its end was not signed (without it the signature holds)"),
        (BODY, BODY + b"\r\n", "newline at its end was not signed"),
        (BODY + b"\n", BODY, "newline at its end is gone (with it the signature holds)"),
        (BODY, b"\xef\xbb\xbf" + BODY, "byte order mark"),
        (b"a\nb", b"a\r\nb", "they were LF"),
        (b"a\r\nb", b"a\nb", "they were CR LF"),
        (b'{"a":[1,"x, y"]}', b'{ "a": [1, "x, y"] }', "JSON without spaces"),
        (b'{"a": [1, {"b": 2.50}]}', b'{"a":[1,{"b":2.50}]}', "JSON with a space after commas and colons"),
        (b'{"a":1e400}\n', b'{"a":1e400}', "with it"),
        ('{"a":"é/\U0001f600"}'.encode(), b'{"a": "\\u00e9/\\ud83d\\ude00"}', "characters beyond ASCII as they are"),
        (b'{"a":"\\u00e9"}', '{"a":"é"}'.encode(), "characters beyond ASCII as escapes"),
        (b'{"a":"x\\/y"}', b'{"a":"x/y"}', "escaped slashes"),
    ],
)
def test_a_usual_change_of_the_body_is_recognised(signed, got, words):
    for signature, secret in ((STANDARD, SECRET), (STRIPE, SECRET), (Signature(scheme=Scheme.ED25519), ED25519_SECRET)):
        flaw = check(signature, request(signature, secret, signed), got, secret=secret)
        assert flaw.cause is Cause.CHANGED_BODY
        assert words in flaw.text


def test_a_body_of_another_length_than_was_sent_has_been_changed():
    flaw = check(STANDARD, request(STANDARD) | {"Content-Length": "39"}, BODY[:-1])
    assert (flaw.cause, len(BODY)) == (Cause.CHANGED_BODY, 39)
    assert "Content-Length was 39 and here are 38 bytes" in flaw.text


def test_json_that_cannot_be_looked_into_is_only_said_not_to_match():
    for body in (b'{"a":' + b"[" * 100_000, b"\xff", b'{"a":"\\ud800"}', b""):
        assert check(STANDARD, request(STANDARD), body).cause is Cause.WRONG_SECRET_OR_CHANGED_BODY


@pytest.mark.parametrize(
    ("signature", "key", "words"),
    [
        (STANDARD, {"key_encoding": "raw"}, "plain text"),
        (STANDARD, {"key_encoding": "raw", "strip_prefix": "whsec_"}, "plain text without whsec_"),
        (STRIPE, {"key_encoding": "base64", "strip_prefix": "whsec_"}, "decoded from base64"),
    ],
)
def test_a_secret_that_was_used_in_another_way_is_recognised(signature, key, words):
    from webhookd.core.recipes import recipe_of
    from webhookd.core.settings import KeyEncoding

    recipe = recipe_of(signature)
    template = Signature(
        scheme=Scheme.TEMPLATE,
        header=recipe.header,
        value=recipe.value.replace("{signature}", recipe.label + "{signature}"),
        content=recipe.content,
        encoding=recipe.encoding,
        key_encoding=KeyEncoding(key["key_encoding"]),
        strip_prefix=key.get("strip_prefix", ""),
    )
    flaw = check(signature, request(template))
    assert flaw.cause is Cause.WRONG_SECRET
    assert words in flaw.text
    assert SECRET not in flaw.text


def test_the_newline_of_a_file_in_a_key_is_recognised():
    flaw = check(GITHUB, request(GITHUB, secret=SECRET + "\n"))
    assert (flaw.cause, "newline at its end" in flaw.text) == (Cause.WRONG_SECRET, True)


@pytest.mark.parametrize("signature", [STANDARD, STRIPE, SLACK, TEMPLATE], ids=lambda signature: signature.scheme)
def test_a_timestamp_has_to_be_near(signature):
    headers = request(signature)
    assert check(signature, headers, now=NOW + 300) is None
    assert check(signature, headers, now=NOW - 300) is None
    old, early = check(signature, headers, now=NOW + 301), check(signature, headers, now=NOW - 7200)
    assert old.cause is Cause.TOO_OLD
    assert "is too old: 301 s, more than 300 s (signature itself holds)" in old.text
    assert early.cause is Cause.IN_THE_FUTURE
    assert "is in the future: 7200 s" in early.text
    assert check(signature, headers, now=NOW + 301, tolerance_seconds=400) is None


@pytest.mark.parametrize(
    "signature", [GITHUB, Signature(scheme=Scheme.SHOPIFY)], ids=lambda signature: signature.scheme
)
def test_without_a_signed_timestamp_a_request_does_not_age(signature):
    assert check(signature, request(signature), now=NOW + 10**8) is None


@pytest.mark.parametrize(
    ("wanted", "sent", "words"),
    [
        (STANDARD, STRIPE, "signed by stripe (Stripe-Signature)"),
        (STRIPE, GITHUB, "missing Stripe-Signature; wrong scheme: the request is signed by github"),
        (GITHUB, STANDARD, "signed by standard (webhook-signature)"),
        (TEMPLATE, SLACK, "signed by slack (X-Slack-Signature)"),
    ],
)
def test_a_request_of_another_scheme_is_recognised(wanted, sent, words):
    flaw = check(wanted, request(sent))
    assert flaw.cause is Cause.OTHER_SCHEME
    assert words in flaw.text


def test_standard_and_ed25519_share_a_header_and_are_told_apart():
    asymmetric = Signature(scheme=Scheme.ED25519)
    flaw = check(STANDARD, request(asymmetric, ED25519_SECRET))
    assert flaw.cause is Cause.OTHER_SCHEME
    assert (
        flaw.text == "webhook-signature holds no v1 signature; wrong scheme: it is that of ed25519 (webhook-signature)"
    )
    flaw = check(asymmetric, request(STANDARD), secret=ED25519_PUBLIC)
    assert flaw.text.endswith("it is that of standard (webhook-signature)")


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (STANDARD, "missing webhook-id, webhook-timestamp and webhook-signature"),
        (STRIPE, "missing Stripe-Signature"),
        (GITHUB, "missing X-Hub-Signature-256"),
        (SLACK, "missing x-slack-request-timestamp and X-Slack-Signature"),
        (TEMPLATE, "missing webhook-id, webhook-timestamp and X-Sig"),
    ],
)
def test_missing_headers_are_named(signature, text):
    flaw = check(signature, {"Content-Type": "application/json", signature.header or "X": ""})
    assert (flaw.cause, flaw.text) == (Cause.MISSING_HEADERS, text)


@pytest.mark.parametrize(
    ("signature", "header", "value", "words"),
    [
        (
            GITHUB,
            "X-Hub-Signature-256",
            "sha1=00",
            "X-Hub-Signature-256 is not of the form sha256={signature}: 'sha1=00'",
        ),
        (STRIPE, "Stripe-Signature", "t=1", "holds no v1 signature"),
        (STRIPE, "Stripe-Signature", "v1=00", "the timestamp in Stripe-Signature is not a number of seconds"),
        (STRIPE, "Stripe-Signature", "t=soon,v1=00", "not a number of seconds: 'soon'"),
        (SLACK, "X-Slack-Request-Timestamp", "1.5", "x-slack-request-timestamp is not a number of seconds"),
    ],
)
def test_what_cannot_be_read_is_shown(signature, header, value, words):
    flaw = check(signature, request(signature) | {header: value})
    assert flaw.cause is Cause.MALFORMED
    assert words in flaw.text


def test_other_parts_of_a_stripe_header_do_not_disturb():
    value = request(STRIPE)["Stripe-Signature"]
    t, v1 = value.split(",")
    assert check(STRIPE, {"Stripe-Signature": f"{t}, v1=00, {v1}, v0=ff"}) is None


def test_a_template_finds_id_and_timestamp_where_senders_put_them():
    headers = request(TEMPLATE)
    moved = {
        "X-Sig": headers["X-Sig"],
        "X-Request-Id": headers["webhook-id"],
        "X-Shop-Timestamp": headers["webhook-timestamp"],
    }
    assert check(TEMPLATE, moved) is None


def test_a_word_that_stands_twice_in_a_value_has_to_be_the_same_twice():
    signature = Signature(
        scheme=Scheme.TEMPLATE, header="X-S", value="{timestamp}/{signature}/{timestamp}", encoding=Encoding.BASE64
    )
    value = request(signature)["X-S"]
    assert check(signature, {"X-S": value}) is None
    assert check(signature, {"X-S": value[:-1] + "7"}).cause is Cause.MALFORMED


def test_reasons_can_be_printed_whatever_a_request_holds():
    hostile = {"webhook-id": "\x1b[2J\udcff", "webhook-timestamp": "\x1b", "webhook-signature": "v1,\udcff"}
    flaw = check(STANDARD, hostile)
    assert json.dumps(flaw.text).isprintable()
    assert "\x1b" not in flaw.text
