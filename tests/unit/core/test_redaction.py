"""What a receiver repeats of our credentials is masked before anybody sees it."""

from dataclasses import replace

import pytest

from tests.kit.builders import endpoint
from webhookd.core.attempt import EXCERPT_BYTES
from webhookd.core.redaction import Redactor
from webhookd.core.settings import BasicAuth, DeliveryRules, Signature

MASK = b"********"


def cleaned(excerpt: bytes, **keys) -> bytes:
    return Redactor(replace(endpoint(url="https://example.com/hook"), **keys)).clean(excerpt)


@pytest.mark.parametrize(
    ("keys", "said", "shown"),
    [
        ({"secret": "whsec_c2VjcmV0"}, b"got whsec_c2VjcmV0", b"got " + MASK),
        ({"secret": "whsec_c2VjcmV0"}, b"got c2VjcmV0", b"got " + MASK),
        (
            {"secret": "whsec_bmV3ZXI=", "previous_secret": "whsec_b2xkZXI=", "previous_secret_until_ms": 1},
            b"whsec_b2xkZXI= whsec_bmV3ZXI=",
            MASK + b" " + MASK,
        ),
        ({"basic_auth": BasicAuth(username="user", password="hunter2")}, b"user hunter2", b"user " + MASK),
        (
            {"basic_auth": BasicAuth(username="user", password="hunter2")},
            b"Basic dXNlcjpodW50ZXIy",
            b"Basic " + MASK,
        ),
        (
            {"rules": DeliveryRules(signatures=(Signature(secret="whsec_c2VjcmV0"),))},
            b"key c2VjcmV0",
            b"key " + MASK,
        ),
        ({"rules": DeliveryRules(headers=(("X-Api-Key", "abcdef"),))}, b"key abcdef", b"key " + MASK),
        ({"rules": DeliveryRules(headers=(("Authorization", "Bearer abcdef"),))}, b"abcdef?", MASK + b"?"),
        ({"rules": DeliveryRules(headers=(("X-Team", "abcdef"),))}, b"abcdef", b"abcdef"),
        ({"url": "https://h/hook?token=abc%2Fdef&n=1"}, b"/hook?token=abc%2Fdef&n=1", b"/hook?token=" + MASK + b"&n=1"),
        ({"url": "https://h/hook?token=abc%2Fdef"}, b"abc/def", MASK),
        ({"url": "https://h/hook/abcdef"}, b"Cannot POST /hook/abcdef", b"Cannot POST /hook/abcdef"),
        ({"url": "https://h/hook/abcdef", "url_is_secret": True}, b"Cannot POST /hook/abcdef", b"Cannot POST " + MASK),
        ({"url": "https://h/hook/abcdef", "url_is_secret": True}, rb"\/hook\/abcdef", rb"\/hook\/" + MASK),
        ({"url": "https://h/hook/abcdef"}, b"", b""),
    ],
)
def test_a_credential_is_masked_in_what_comes_back(keys, said, shown):
    assert cleaned(said, **keys) == shown


def test_a_secret_that_contains_another_is_masked_whole():
    keys = {"secret": "abcdefghi", "basic_auth": BasicAuth(username="u", password="abcdef")}
    assert cleaned(b"abcdefghi", **keys) == MASK


@pytest.mark.parametrize("left", range(1, 12))
def test_a_secret_that_the_excerpt_cuts_leaves_nothing_behind(left):
    secret = "whsec_c2VjcmV0"
    shown = cleaned(b"." * (EXCERPT_BYTES - left) + secret.encode()[:left], secret=secret)
    assert shown == b"." * (EXCERPT_BYTES - left)


def test_a_secret_that_the_excerpt_cuts_behind_a_whole_one_leaves_nothing_behind():
    secret = "whsec_c2VjcmV0"
    said = (secret.encode() + b"." * EXCERPT_BYTES)[: EXCERPT_BYTES - 6] + b"whsec_"
    assert cleaned(said, secret=secret).endswith(b"..")


def test_a_secret_that_is_longer_than_an_excerpt_leaves_nothing_behind():
    secret = "0123456789" * 500
    assert cleaned(secret.encode()[:EXCERPT_BYTES], secret=secret) == b""


@pytest.mark.parametrize("said", [b"c2VjcmV0", b"whsec_c2VjcmV0"])
def test_an_excerpt_that_is_nothing_but_a_secret_is_masked(said):
    assert cleaned(said, secret="whsec_c2VjcmV0") == MASK


def test_masking_never_makes_an_excerpt_longer_than_it_may_be():
    assert len(cleaned(b"abcdef" * 1000, secret="abcdef")) <= EXCERPT_BYTES
