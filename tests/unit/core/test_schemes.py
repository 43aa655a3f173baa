"""Every signature scheme, held to published vectors, to the libraries of those who check, and to its own headers."""

import base64
import hashlib
import hmac
import re
import sys
import time

import pytest
import stripe
from standardwebhooks.webhooks import Webhook

from tests.kit.builders import endpoint, event
from webhookd.core import ed25519
from webhookd.core.ids import event_text
from webhookd.core.keys import key_bytes
from webhookd.core.recipes import check_secret, check_template, double_header, recipe_of, wanted_secret
from webhookd.core.settings import Algorithm, DeliveryRules, Encoding, KeyEncoding, Scheme, Signature
from webhookd.core.signers import Signer, public_keys
from webhookd.core.signing import HeaderPlan

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret, 24 bytes").decode()
BODY = b'{"type":"order.completed","id":"evt_1"}'
NOW = 1_700_000_000
AT = {b"event_id": b"evt_1", b"timestamp": b"%d" % NOW, b"event_type": b"order.completed"}

ED25519_SECRET = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
ED25519_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="


def signature_of(scheme, secret=SECRET, body=BODY, at=AT, **template):
    return Signer(recipe_of(Signature(scheme=scheme, **template)), secret).sign(at, body).decode()


def headers_of(*signatures, of=None, secret=SECRET, at=NOW, previous=None, until_ms=None, **rules):
    definition = endpoint(
        secret=secret,
        previous_secret=previous,
        previous_secret_until_ms=until_ms,
        rules=DeliveryRules(signatures=signatures, **rules),
    )
    head = HeaderPlan(definition, version="1").render(of or event(payload=BODY), attempt_number=1, timestamp_seconds=at)
    return [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")[:-1]]


def own(scheme, secret=None, **template):
    return Signature(scheme=scheme, secret=secret, **template)


@pytest.mark.parametrize(
    ("scheme", "signature"),
    [
        (Scheme.STANDARD, "v1,zDruh8qjqfQsdxP1aWrtwKuM3AlixW2yirCcO9pD2KE="),
        (Scheme.STRIPE, "v1=fb02492fd2329cb0edf8c7a3f6826f3f0187712a682998f563269fcfa3659824"),
        (Scheme.GITHUB, "f207bc20598d1c232c4f19abc14955c0d36cabeddc1d99ac2659c38025f6aa04"),
        (Scheme.SHOPIFY, "8ge8IFmNHCMsTxmrwUlVwNNsq+3cHZmsJlnDgCX2qgQ="),
        (Scheme.SLACK, "eef6b0a88a50dd1d8035a4146888cd570aadc0fe650291d3d230ebe525dc1ede"),
    ],
)
def test_each_scheme_signs_one_request_in_its_own_way(scheme, signature):
    assert signature_of(scheme) == signature


def test_the_vector_of_the_standard_webhooks_library_holds():
    at = {b"event_id": b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"timestamp": b"1614265330"}
    signature = signature_of(Scheme.STANDARD, body=b'{"test": 2432232314}', at=at)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_documented_example_of_github_holds():
    signature = signature_of(Scheme.GITHUB, "It's a Secret to Everybody", b"Hello, World!")
    assert signature == "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_a_published_vector_of_another_ed25519_sender_holds():
    at = {b"event_id": b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"timestamp": b"1614265330"}
    assert signature_of(Scheme.ED25519, ED25519_SECRET, b'{"test": 2432232314}', at) == (
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    )
    assert ed25519.public_text(ED25519_SECRET) == ED25519_PUBLIC


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(("encoding", "write"), [(Encoding.HEX, bytes.hex), (Encoding.BASE64, None)])
@pytest.mark.parametrize(
    ("key_encoding", "secret", "strip_prefix", "key"),
    [
        (KeyEncoding.RAW, "hush", "", b"hush"),
        (KeyEncoding.RAW, "sk_hush", "sk_", b"hush"),
        (KeyEncoding.RAW, "hush", "sk_", b"hush"),
        (KeyEncoding.HEX, "00ffA0", "", b"\x00\xff\xa0"),
        (KeyEncoding.BASE64, "sk_AP+g", "sk_", b"\x00\xff\xa0"),
        (KeyEncoding.RAW, "k" * 100, "", b"k" * 100),
        (KeyEncoding.RAW, "k" * 200, "", b"k" * 200),
    ],
)
def test_a_template_signs_as_its_keys_say(algorithm, encoding, write, key_encoding, secret, strip_prefix, key):
    signature = signature_of(
        Scheme.TEMPLATE,
        secret,
        header="X-S",
        content="{id}|100%|{body}|{timestamp}\n",
        algorithm=algorithm,
        encoding=encoding,
        key_encoding=key_encoding,
        strip_prefix=strip_prefix,
    )
    digest = hmac.digest(key, b"evt_1|100%|" + BODY + b"|1700000000\n", algorithm.value)
    assert signature == (digest.hex() if write else base64.b64encode(digest).decode())


def test_the_header_lines_of_each_scheme_are_exactly_these():
    of = event(payload=BODY, type="order.paid")
    name = event_text(of.id)

    def mac(text):
        return hmac.new(SECRET.encode(), text, hashlib.sha256)

    bare = {"of": of, "standard_headers": False}
    content_type = ("Content-Type", "application/json")
    assert headers_of(own(Scheme.STRIPE), **bare) == [
        content_type,
        ("Stripe-Signature", f"t={NOW},v1={mac(b'%d.' % NOW + BODY).hexdigest()}"),
    ]
    assert headers_of(own(Scheme.GITHUB), **bare) == [
        content_type,
        ("X-GitHub-Event", "order.paid"),
        ("X-GitHub-Delivery", name),
        ("X-Hub-Signature-256", f"sha256={mac(BODY).hexdigest()}"),
    ]
    assert headers_of(own(Scheme.SHOPIFY), **bare) == [
        content_type,
        ("X-Shopify-Hmac-SHA256", base64.b64encode(mac(BODY).digest()).decode()),
    ]
    assert headers_of(own(Scheme.SLACK), **bare) == [
        content_type,
        ("X-Slack-Request-Timestamp", str(NOW)),
        ("X-Slack-Signature", f"v0={mac(b'v0:%d:' % NOW + BODY).hexdigest()}"),
    ]
    template = own(Scheme.TEMPLATE, header="X-S", value="{id} 5% {timestamp}={signature}")
    assert headers_of(template, **bare) == [content_type, ("X-S", f"{name} 5% {NOW}={mac(BODY).hexdigest()}")]
    for scheme, secret in ((Scheme.STANDARD, SECRET), (Scheme.ED25519, ED25519_SECRET)):
        assert [line[0] for line in headers_of(own(scheme), secret=secret, **bare)] == [
            "Content-Type",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        ]


def test_all_of_them_stand_on_one_request():
    schemes = (Scheme.STANDARD, Scheme.STRIPE, Scheme.GITHUB, Scheme.SHOPIFY, Scheme.SLACK)
    template = own(Scheme.TEMPLATE, header="X-S")
    together = headers_of(*(own(scheme) for scheme in schemes), own(Scheme.ED25519, ED25519_SECRET), template)
    names = [name.lower() for name, _ in together]
    assert len(set(names)) == len(names)
    assert {"x-s", "stripe-signature", "x-hub-signature-256", "x-shopify-hmac-sha256"} < set(names)
    labels = [part.split(",")[0] for part in dict(together)["webhook-signature"].split()]
    assert labels == ["v1", "v1a"]


def test_the_standard_library_accepts_its_signature_beside_that_of_ed25519():
    now = int(time.time())
    headers = dict(headers_of(own(Scheme.STANDARD), own(Scheme.ED25519, ED25519_SECRET), at=now))
    Webhook(SECRET).verify(BODY, headers)


def test_stripes_library_accepts_a_signature_and_refuses_another_body():
    now = int(time.time())
    value = dict(headers_of(own(Scheme.STRIPE), at=now))["Stripe-Signature"]
    assert stripe.WebhookSignature.verify_header(BODY.decode(), value, SECRET, tolerance=60)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(BODY.decode() + " ", value, SECRET, tolerance=60)


UNTIL_MS = (NOW + 100) * 1000


def test_in_an_overlap_both_secrets_sign_where_the_header_is_a_list():
    signatures, of = (own(Scheme.STANDARD), own(Scheme.STRIPE)), event(payload=BODY)
    both = dict(headers_of(*signatures, of=of, previous=OTHER, until_ms=UNTIL_MS))
    new = dict(headers_of(*signatures, of=of))
    old = dict(headers_of(*signatures, of=of, secret=OTHER))
    assert both["webhook-signature"] == f"{new['webhook-signature']} {old['webhook-signature']}"
    t, first, second = both["Stripe-Signature"].split(",")
    assert (f"{t},{first}", f"{t},{second}") == (new["Stripe-Signature"], old["Stripe-Signature"])


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_in_an_overlap_the_libraries_accept_with_either_secret(secret):
    now = int(time.time())
    signatures = (own(Scheme.STANDARD), own(Scheme.STRIPE))
    headers = dict(headers_of(*signatures, at=now, previous=OTHER, until_ms=(now + 5) * 1000))
    Webhook(secret).verify(BODY, headers)
    assert stripe.WebhookSignature.verify_header(BODY.decode(), headers["Stripe-Signature"], secret, tolerance=60)


@pytest.mark.parametrize(("at", "signatures"), [(NOW + 99, 2), (NOW + 100, 1), (NOW + 101, 1)])
def test_the_timestamp_of_an_attempt_decides_whether_the_previous_secret_signs(at, signatures):
    headers = dict(headers_of(own(Scheme.STANDARD), at=at, previous=OTHER, until_ms=UNTIL_MS))
    assert len(headers["webhook-signature"].split()) == signatures


@pytest.mark.parametrize("scheme", [Scheme.GITHUB, Scheme.SHOPIFY, Scheme.SLACK, Scheme.TEMPLATE])
def test_a_header_for_one_signature_has_that_of_the_new_secret(scheme):
    signature = own(scheme, header="X-S") if scheme is Scheme.TEMPLATE else own(scheme)
    of = event(payload=BODY)
    in_overlap = headers_of(signature, of=of, previous=OTHER, until_ms=UNTIL_MS)
    assert in_overlap == headers_of(signature, of=of)


def test_a_previous_secret_of_another_scheme_is_passed_over():
    headers = dict(headers_of(own(Scheme.STANDARD), previous="not base64!", until_ms=UNTIL_MS))
    assert len(headers["webhook-signature"].split()) == 1


def test_a_signature_with_a_secret_of_its_own_takes_no_part_in_the_rotation_of_the_endpoints():
    headers = dict(headers_of(own(Scheme.STRIPE, "own"), previous=OTHER, until_ms=UNTIL_MS))
    assert headers["Stripe-Signature"] == dict(headers_of(own(Scheme.STRIPE), secret="own"))["Stripe-Signature"]


def test_two_secrets_of_one_scheme_stand_side_by_side_for_as_long_as_both_are_configured():
    headers = dict(headers_of(own(Scheme.STRIPE), own(Scheme.STRIPE, OTHER)))
    assert headers["Stripe-Signature"].count("v1=") == 2


@pytest.mark.parametrize(
    ("signatures", "double"),
    [
        ([own(Scheme.STANDARD), own(Scheme.STANDARD)], "webhook-signature"),
        ([own(Scheme.STRIPE, "a"), own(Scheme.STRIPE, "a")], "Stripe-Signature"),
        ([own(Scheme.GITHUB), own(Scheme.GITHUB, "other")], "X-Hub-Signature-256"),
        ([own(Scheme.GITHUB), own(Scheme.TEMPLATE, header="x-github-event")], "x-github-event"),
        ([own(Scheme.TEMPLATE, header="Webhook-Signature"), own(Scheme.STANDARD)], "webhook-signature"),
        ([own(Scheme.STANDARD), own(Scheme.ED25519, ED25519_SECRET)], None),
        ([own(Scheme.STANDARD), own(Scheme.STANDARD, OTHER)], None),
        ([own(Scheme.TEMPLATE, header="X-A"), own(Scheme.TEMPLATE, header="X-B")], None),
    ],
)
def test_a_header_is_written_by_one_signature_or_as_a_list(signatures, double):
    assert double_header(signatures, 1) == double


@pytest.mark.parametrize(
    ("scheme", "secret", "why"),
    [
        (Scheme.STANDARD, "not base64!", "must be base64, with or without whsec_"),
        (Scheme.STANDARD, "whsec_", "must not be empty"),
        (Scheme.STANDARD, ED25519_SECRET, "must be base64"),
        (Scheme.ED25519, SECRET, "must be whsk_"),
        (Scheme.ED25519, ED25519_PUBLIC, "is a public key"),
        (Scheme.ED25519, "whsk_AAAA", "32 bytes"),
        (Scheme.ED25519, "whsk_%", "must be base64"),
        (Scheme.ED25519, ED25519_SECRET[:-8] + "AAAAAA==", "does not belong"),
    ],
)
def test_a_secret_that_a_scheme_cannot_use_is_refused_and_not_repeated(scheme, secret, why):
    with pytest.raises(ValueError, match=why) as caught:
        check_secret(Signature(scheme=scheme), secret)
    assert secret.partition("_")[2] == "" or secret.partition("_")[2] not in str(caught.value)


@pytest.mark.parametrize(
    ("secret", "encoding"), [("abc", KeyEncoding.HEX), ("0g", KeyEncoding.HEX), ("a b ", KeyEncoding.BASE64)]
)
def test_a_key_that_does_not_decode_is_refused(secret, encoding):
    with pytest.raises(ValueError, match="must be"):
        key_bytes(secret, encoding)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ({"value": "t={timestamp}"}, r"value must hold \{signature\}"),
        ({"value": "{signature}{signature}"}, r"value must hold \{signature\} once"),
        ({"value": "{signature}{secret}"}, r"value has an unknown placeholder \{secret\}"),
        ({"value": "{signature}{body}"}, r"value has an unknown placeholder \{body\}"),
        ({"content": "{timestamp}"}, r"content must hold \{body\}"),
        ({"content": "{body}{body}"}, r"content must hold \{body\} once"),
        ({"content": "{body}{event-id}"}, r"content has an unknown placeholder \{event-id\}"),
        ({"content": "{body}{}"}, r"content has an unknown placeholder \{\}"),
        ({"content": "{body}{signature}"}, r"content has an unknown placeholder \{signature\}"),
    ],
)
def test_a_template_that_proves_nothing_is_refused(template, why):
    with pytest.raises(ValueError, match=why):
        check_template(Signature(scheme=Scheme.TEMPLATE, header="X-S", **template))


@pytest.mark.parametrize(
    ("signatures", "form"),
    [
        ([own(Scheme.STANDARD)], r"whsec_[A-Za-z0-9+/]{43}=\Z"),
        ([own(Scheme.GITHUB), own(Scheme.STRIPE)], r"whsec_"),
        ([own(Scheme.ED25519)], r"whsk_[A-Za-z0-9+/]{86}==\Z"),
        ([own(Scheme.STANDARD), own(Scheme.ED25519, ED25519_SECRET)], r"whsec_"),
        ([own(Scheme.TEMPLATE, header="X", key_encoding=KeyEncoding.HEX)], r"[0-9a-f]{64}\Z"),
        ([own(Scheme.TEMPLATE, header="X", key_encoding=KeyEncoding.HEX), own(Scheme.STANDARD)], r"[0-9a-f]{64}\Z"),
        ([own(Scheme.TEMPLATE, header="X", key_encoding=KeyEncoding.BASE64)], r"[A-Za-z0-9+/]{43}=\Z"),
    ],
)
def test_a_generated_secret_fits_every_scheme_that_needs_it(signatures, form):
    secret = wanted_secret(signatures, bytes(range(32)))
    assert re.match(form, secret)
    for signature in signatures:
        if signature.secret is None:
            check_secret(signature, secret)


@pytest.mark.parametrize("signatures", [[], [own(Scheme.STRIPE, "own")]])
def test_where_nothing_needs_a_secret_none_is_generated(signatures):
    assert wanted_secret(signatures, bytes(32)) is None


def test_the_public_keys_of_an_endpoint_are_known_both_in_an_overlap():
    other = ed25519.secret_text(bytes(32))
    definition = endpoint(
        secret=other,
        previous_secret=ED25519_SECRET,
        previous_secret_until_ms=UNTIL_MS,
        rules=DeliveryRules(signatures=(own(Scheme.ED25519),)),
    )
    assert public_keys(definition) == [ed25519.public_text(other), ED25519_PUBLIC]


def test_a_key_of_32_bytes_is_the_same_as_that_of_64():
    seed = base64.b64decode(ED25519_SECRET.removeprefix("whsk_"))[:32]
    assert ed25519.public_text("whsk_" + base64.b64encode(seed).decode()) == ED25519_PUBLIC
    assert ed25519.secret_text(seed) == ED25519_SECRET


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ValueError, match=r"webhookd\[ed25519\]"):
        check_secret(Signature(scheme=Scheme.ED25519), ED25519_SECRET)
