"""Whatever is signed holds, in every scheme; and nothing else does."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.builders import endpoint, event
from webhookd.core import ed25519
from webhookd.core.keys import Mac
from webhookd.core.recipes import wanted_secret
from webhookd.core.settings import Algorithm, DeliveryRules, Encoding, KeyEncoding, Scheme, Signature
from webhookd.core.signing import HeaderPlan
from webhookd.core.verifying import Verifier

NOW = 1_700_000_000

words = st.text(st.characters(codec="utf-8", exclude_characters="{}\n\r\0"), max_size=12)


@st.composite
def templates(draw):
    parts = draw(st.permutations(["{body}", *draw(st.sets(st.sampled_from(["{id}", "{timestamp}"])))]))
    plain = st.text("abcXYZ .,:;=%|", max_size=5)
    value = (
        draw(plain) + draw(st.sampled_from(["", "{timestamp};"])) + "{signature}" + draw(st.sampled_from(["", ";x%"]))
    )
    return Signature(
        scheme=Scheme.TEMPLATE,
        header="X-Signature",
        value=value.strip(),
        content="".join(draw(words) + part for part in parts) + draw(words),
        algorithm=draw(st.sampled_from(Algorithm)),
        encoding=draw(st.sampled_from(Encoding)),
        key_encoding=draw(st.sampled_from(KeyEncoding)),
        strip_prefix=draw(st.sampled_from(["", "whsec_", "k_"])),
    )


signatures = st.one_of(
    st.sampled_from([Signature(scheme=scheme) for scheme in Scheme if scheme is not Scheme.TEMPLATE]), templates()
)
seeds = st.binary(min_size=32, max_size=32)


def signed(signature, secret, payload, *, previous=None):
    definition = endpoint(
        secret=secret,
        previous_secret=previous,
        previous_secret_until_ms=None if previous is None else (NOW + 1) * 1000,
        rules=DeliveryRules(signatures=(signature,)),
    )
    plan = HeaderPlan(definition, version="1")
    head = plan.render(event(payload=payload), attempt_number=1, timestamp_seconds=NOW).decode()
    return dict(line.split(": ", 1) for line in head.split("\r\n")[:-1])


@given(signatures, seeds, st.binary(max_size=200), st.integers(-300, 300))
def test_what_is_signed_holds_for_who_has_the_secret(signature, seed, payload, late):
    secret = wanted_secret([signature], seed)
    assert Verifier(signature, secret).check(signed(signature, secret, payload), payload, NOW + late) is None


@given(signatures, seeds, seeds, st.binary(max_size=200))
def test_it_does_not_hold_under_another_secret(signature, seed, other, payload):
    secret, wrong = wanted_secret([signature], seed), wanted_secret([signature], other)
    flaw = Verifier(signature, wrong).check(signed(signature, secret, payload), payload, NOW)
    assert (flaw is None) == (secret == wrong)


@given(signatures, seeds, st.binary(max_size=200), st.binary(max_size=200))
def test_it_does_not_hold_for_another_body(signature, seed, payload, other):
    secret = wanted_secret([signature], seed)
    flaw = Verifier(signature, secret).check(signed(signature, secret, payload), other, NOW)
    assert (flaw is None) == (payload == other)


@given(st.sampled_from([Scheme.STANDARD, Scheme.STRIPE, Scheme.ED25519]), seeds, seeds, st.binary(max_size=100))
def test_in_an_overlap_it_holds_under_either_secret(scheme, seed, other, payload):
    signature = Signature(scheme=scheme)
    new, old = wanted_secret([signature], seed), wanted_secret([signature], other)
    headers = signed(signature, new, payload, previous=old)
    for secret in (new, old):
        assert Verifier(signature, secret).check(headers, payload, NOW) is None


@given(seeds, st.binary(max_size=100))
def test_the_public_key_is_enough_to_check_ed25519(seed, payload):
    signature, secret = Signature(scheme=Scheme.ED25519), ed25519.secret_text(seed)
    headers = signed(signature, secret, payload)
    assert Verifier(signature, ed25519.public_text(secret)).check(headers, payload, NOW) is None


@given(st.sampled_from(Algorithm), st.binary(min_size=1, max_size=300), st.lists(st.binary(max_size=100)))
def test_a_mac_is_what_the_standard_library_makes_of_it(algorithm, key, parts):
    expected = hmac.new(key, b"".join(parts), getattr(hashlib, algorithm.value)).digest()
    assert Mac(algorithm, key).digest(*parts) == expected
