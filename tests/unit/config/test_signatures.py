"""Signatures as they are configured: every scheme, secrets of their own, each refusal at its key, by file and API."""

import json
import sys

import pytest

from tests.unit.config.conftest import SECRET
from tests.unit.core.test_schemes import ED25519_PUBLIC, ED25519_SECRET
from webhookd.config import Schema, describe
from webhookd.core.ids import EndpointId
from webhookd.core.masking import MASK
from webhookd.core.settings import Algorithm, Encoding, KeyEncoding, Scheme, Signature
from webhookd.engine.rotation import generated_secret
from webhookd.errors import InvalidRequestError

ORDERS = EndpointId("orders")
URL = "https://example.com/hook"
TABLE = f'[endpoints.orders]\nurl = "{URL}"\n'
TEMPLATE = {"scheme": "template", "header": "X-S"}


def signatures(config, text):
    return config.endpoint(f"signatures = [{text}]").rules.signatures


def refusals(config, given, *, secret=SECRET, before="#"):
    with pytest.raises(InvalidRequestError) as caught:
        Schema(config.load(before)).resolve(ORDERS, {"url": URL} | given, secret=secret, sample=None)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize("scheme", ["standard", "stripe", "github", "shopify", "slack"])
def test_a_scheme_needs_nothing_but_its_name(config, scheme):
    assert signatures(config, f'{{ scheme = "{scheme}" }}') == (Signature(scheme=Scheme(scheme)),)


def test_a_template_has_its_keys(config):
    text = (
        'scheme = "template", header = "X-Sig", value = "t={timestamp},s={signature}", content = "{timestamp}\\n{body}"'
        ","
        ' algorithm = "sha512", encoding = "base64", key_encoding = "base64", strip_prefix = "whsec_"'
    )
    assert signatures(config, f"{{ {text} }}") == (
        Signature(
            scheme=Scheme.TEMPLATE,
            header="X-Sig",
            value="t={timestamp},s={signature}",
            content="{timestamp}\n{body}",
            algorithm=Algorithm.SHA512,
            encoding=Encoding.BASE64,
            key_encoding=KeyEncoding.BASE64,
            strip_prefix="whsec_",
        ),
    )


def test_a_template_needs_only_a_header(config):
    assert signatures(config, '{ scheme = "template", header = "X-S" }') == (
        Signature(scheme=Scheme.TEMPLATE, header="X-S"),
    )


@pytest.mark.parametrize("source", ["inline", "file", "credential"])
def test_a_signature_may_have_a_secret_of_its_own(config, tmp_path, source):
    (tmp_path / "key").write_text(ED25519_SECRET + "\n")
    (tmp_path / "key").chmod(0o600)
    given = {
        "inline": f'secret = "{ED25519_SECRET}"',
        "file": 'secret_file = "key"',
        "credential": 'secret_credential = "key"',
    }
    both = f'{{ scheme = "standard" }}, {{ scheme = "ed25519", {given[source]} }}'
    text = f'{TABLE}secret = "{SECRET}"\nsignatures = [{both}]'
    endpoint = config.load(text, CREDENTIALS_DIRECTORY=str(tmp_path)).endpoints[ORDERS]
    assert [signature.secret for signature in endpoint.rules.signatures] == [None, ED25519_SECRET]
    assert ED25519_SECRET not in repr(endpoint)


@pytest.mark.parametrize("section", ["delivery", "profiles.p"])
def test_the_secret_of_a_signature_may_stand_in_a_profile_and_among_the_defaults(config, tmp_path, section):
    (tmp_path / "key").write_text("shared")
    (tmp_path / "key").chmod(0o600)
    profile = 'profile = "p"\n' if section == "profiles.p" else ""
    text = f'[{section}]\nsignatures = [{{ scheme = "github", secret_file = "key" }}]\n{TABLE}{profile}'
    assert config.load(text).endpoints[ORDERS].rules.signatures == (Signature(scheme=Scheme.GITHUB, secret="shared"),)


def test_an_endpoint_needs_no_secret_where_every_signature_has_its_own(config):
    assert config.load(f'{TABLE}signatures = [{{ scheme = "stripe", secret = "x" }}]').endpoints[ORDERS].secret is None


def test_secrets_of_signatures_are_masked(config):
    text = f'[delivery]\nsignatures = [{{ scheme = "stripe", secret = "hush-hush" }}]\n{TABLE}'
    text += 'signatures = [{ scheme = "github", secret = "hush-hush" }]'
    settings = config.load(text)
    shown = describe(settings)
    assert "hush-hush" not in str(shown)
    assert "hush-hush" not in repr(dict(shown))
    assert shown["delivery"]["signatures"] == [{"scheme": "stripe", "secret": MASK}]
    assert "hush-hush" not in repr(settings.endpoints[ORDERS].given)


@pytest.mark.parametrize(
    ("signature", "key", "word"),
    [
        ({"scheme": "hmac"}, "scheme", "known: standard, stripe, github, shopify, slack, template, ed25519"),
        ({"scheme": "stripe", "value": "x"}, "value", "for scheme template only"),
        ({"scheme": "template"}, "", "needs the header"),
        (TEMPLATE | {"header": "X S"}, "header", "not the name of a header"),
        (TEMPLATE | {"header": "X-S\r\nX-Evil"}, "header", "not the name of a header"),
        (TEMPLATE | {"header": "X-S\0"}, "header", "not the name of a header"),
        (TEMPLATE | {"header": ""}, "header", "not the name of a header"),
        (TEMPLATE | {"header": "Content-Length"}, "header", "set by webhookd itself"),
        (TEMPLATE | {"header": "content-type"}, "header", "set by webhookd itself"),
        (TEMPLATE | {"header": "Webhook-Id"}, "header", "set by webhookd itself"),
        (TEMPLATE | {"value": "{signature}\r\nX-Evil: 1"}, "value", "control"),
        (TEMPLATE | {"value": "{signature}\0"}, "value", "control"),
        (TEMPLATE | {"value": " {signature}"}, "value", "spaces at its ends"),
        (TEMPLATE | {"value": "t={timestamp}"}, "value", "must hold {signature}"),
        (TEMPLATE | {"value": "{signature}{secret}"}, "value", "unknown placeholder {secret}"),
        (TEMPLATE | {"value": "x" * 1025}, "value", "at most 1024"),
        (TEMPLATE | {"content": "{timestamp}"}, "content", "must hold {body}"),
        (TEMPLATE | {"content": "{body}{event_id}"}, "content", "unknown placeholder {event_id}"),
        (TEMPLATE | {"content": "{body}\0"}, "content", "control"),
        (TEMPLATE | {"algorithm": "md5"}, "algorithm", "none of sha256, sha512, sha1"),
        (TEMPLATE | {"encoding": "base32"}, "encoding", "none of hex, base64"),
        (TEMPLATE | {"key_encoding": "utf8"}, "key_encoding", "none of raw, base64, hex"),
        (TEMPLATE | {"secret": ""}, "secret", "empty"),
        (TEMPLATE | {"secret": MASK}, "secret", "how a secret is shown"),
        (TEMPLATE | {"key_encoding": "hex", "secret": "hush"}, "secret", "the secret must be hexadecimal"),
        ({"scheme": "ed25519", "secret": ED25519_PUBLIC}, "secret", "public key"),
        (TEMPLATE | {"headers": "X"}, "headers", "unknown key; did you mean header?"),
    ],
)
def test_a_bad_signature_is_refused_by_file_and_api_alike(config, signature, key, word):
    inline = ", ".join(f"{name} = {json.dumps(value)}" for name, value in signature.items())
    found, sentence = config.complaint(f'{TABLE}secret = "{SECRET}"\nsignatures = [{{ {inline} }}]')
    assert found == "endpoints.orders.signatures[0]" + (f".{key}" if key else "")
    assert word in sentence
    assert "hush" not in sentence
    ((pointer, detail),) = refusals(config, {"signatures": [signature]})
    assert pointer == "/signatures/0" + (f"/{key}" if key else "")
    assert sentence.startswith(detail)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"scheme": "standard"}, {"scheme": "standard"}),
        ({"scheme": "github"}, {"scheme": "github", "secret": "x"}),
        ({"scheme": "slack"}, TEMPLATE | {"header": "x-slack-signature"}),
        ({"scheme": "github"}, TEMPLATE | {"header": "X-GitHub-Delivery"}),
        (TEMPLATE, TEMPLATE | {"header": "x-s", "encoding": "base64"}),
    ],
)
def test_two_signatures_do_not_write_one_header(config, first, second):
    ((pointer, detail),) = refusals(config, {"signatures": [first, second]})
    assert pointer == "/signatures/1"
    assert "a second time" in detail


@pytest.mark.parametrize(
    ("scheme", "header"),
    [
        ("standard", "Webhook-Signature"),
        ("standard", "webhook-id"),
        ("stripe", "stripe-signature"),
        ("github", "X-GitHub-Event"),
        ("slack", "X-Slack-Request-Timestamp"),
    ],
)
def test_a_configured_header_is_not_that_of_a_signature(config, scheme, header):
    given = {"signatures": [{"scheme": scheme}], "headers": {header: "x"}}
    assert [pointer for pointer, _ in refusals(config, given)] == ["/headers"]


def test_basic_credentials_and_a_signature_do_not_both_write_authorization(config):
    given = {
        "signatures": [TEMPLATE | {"header": "authorization"}],
        "basic_auth": {"username": "u", "password": "p-p-p-p"},
    }
    assert "Authorization" in refusals(config, given)[0][1]


def test_what_another_scheme_would_write_is_free(config):
    endpoint = config.endpoint('signatures = [{ scheme = "stripe" }]\nheaders = { X-GitHub-Event = "push" }')
    assert endpoint.rules.headers == (("X-GitHub-Event", "push"),)


@pytest.mark.parametrize(
    ("scheme", "secret", "word"),
    [
        ({"scheme": "standard"}, "not base64!", "must be base64, with or without whsec_ before it (scheme standard)"),
        ({"scheme": "ed25519"}, SECRET, "must be whsk_"),
        (TEMPLATE | {"key_encoding": "hex"}, SECRET, "must be hexadecimal (scheme template)"),
    ],
)
def test_a_secret_that_the_scheme_cannot_use_is_refused_at_the_secret(config, scheme, secret, word):
    ((pointer, detail),) = refusals(config, {"signatures": [scheme]}, secret=secret)
    assert pointer == "/secret"
    assert word in detail
    assert secret not in detail


def test_one_secret_for_standard_and_ed25519_is_refused_with_the_way_out(config):
    ((pointer, detail),) = refusals(config, {"signatures": [{"scheme": "standard"}, {"scheme": "ed25519"}]})
    assert (pointer, "may have a secret of its own" in detail) == ("/secret", True)


def test_a_secret_file_of_a_signature_is_not_for_the_api(config):
    ((pointer, _),) = refusals(config, {"signatures": [{"scheme": "stripe", "secret_file": "x"}]})
    assert pointer == "/signatures/0/secret_file"


def test_a_secret_file_of_a_signature_that_is_not_there_is_one_complaint(config):
    key, sentence = config.complaint(f'{TABLE}signatures = [{{ scheme = "stripe", secret_file = "gone" }}]')
    assert key == "endpoints.orders.signatures[0].secret_file"
    assert "cannot be read" in sentence


def test_ed25519_without_its_package_names_the_extra(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    key, sentence = config.complaint(f'{TABLE}secret = "{ED25519_SECRET}"\nsignatures = [{{ scheme = "ed25519" }}]')
    assert key == "endpoints.orders.signatures[0].scheme"
    assert "pip install 'webhookd[ed25519]'" in sentence


@pytest.mark.parametrize(
    ("headers", "standard_headers", "warned"),
    [("", "false", True), ("", "true", False), ('headers = { X-T = "{timestamp}" }', "false", False)],
)
def test_a_signed_timestamp_that_no_header_tells_draws_a_warning(config, headers, standard_headers, warned):
    signature = 'signatures = [{ scheme = "template", header = "X-S", content = "{timestamp}.{body}" }]'
    text = f'{TABLE}secret = "x"\n{signature}\nstandard_headers = {standard_headers}\n{headers}'
    assert bool(config.load(text).warnings) is warned


@pytest.mark.parametrize(
    ("given", "begins"),
    [
        ({}, "whsec_"),
        ({"signatures": [{"scheme": "ed25519"}]}, "whsk_"),
        ({"profile": "p"}, "whsk_"),
        ({"signatures": []}, None),
        ({"signatures": [{"scheme": "stripe", "secret": "x"}]}, None),
    ],
)
def test_a_secret_is_made_for_the_signatures_in_force(config, given, begins):
    schema = Schema(config.load('[profiles.p]\nsignatures = [{ scheme = "ed25519" }]'))
    definition = schema.resolve(ORDERS, {"url": URL} | given, secret=None, sample=None, make_secret=generated_secret)
    assert (definition.secret or "").startswith(begins or "")
    assert (definition.secret is None) == (begins is None)
