"""Whether a Standard Webhooks signature holds, and why not."""

import base64
import hashlib
import hmac

import pytest
from standardwebhooks import Webhook

from webhookd.core.verifying import TOLERANCE_SECONDS, verify_standard

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"order.completed","id":"evt_1"}'
NOW = 1_700_000_000
HEADERS = {
    "webhook-id": "evt_1",
    "webhook-timestamp": "1700000000",
    "webhook-signature": "v1,zDruh8qjqfQsdxP1aWrtwKuM3AlixW2yirCcO9pD2KE=",
}


def signed_at(timestamp: int) -> dict[str, str]:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"evt_1.{timestamp}.".encode() + BODY, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {**HEADERS, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_a_correct_signature_holds():
    assert verify_standard(SECRET, HEADERS, BODY, NOW) is None


def test_the_published_vector_of_the_reference_library_holds():
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verify_standard(SECRET, headers, b'{"test": 2432232314}', 1_614_265_330) is None


def test_what_the_reference_library_signs_holds():
    from datetime import UTC, datetime

    signature = Webhook(SECRET).sign("evt_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    assert verify_standard(SECRET, {**HEADERS, "webhook-signature": signature}, BODY, NOW) is None


def test_names_of_headers_may_be_in_any_case():
    assert verify_standard(SECRET, {name.title(): value for name, value in HEADERS.items()}, BODY, NOW) is None


def test_one_of_several_signatures_is_enough():
    rotated = {**HEADERS, "webhook-signature": f"v1,AAAA v1a,xyz {HEADERS['webhook-signature']}"}
    assert verify_standard(SECRET, rotated, BODY, NOW) is None


def test_a_secret_without_its_prefix_is_the_same_secret():
    assert verify_standard(SECRET.removeprefix("whsec_"), HEADERS, BODY, NOW) is None


@pytest.mark.parametrize(
    ("secret", "body"),
    [("whsec_" + "A" * 32, BODY), (SECRET, BODY.replace(b"1", b"2"))],
    ids=["another secret", "changed body"],
)
def test_a_wrong_secret_and_a_changed_body_look_alike(secret, body):
    reason = verify_standard(secret, HEADERS, body, NOW)
    assert reason is not None
    assert "wrong secret or changed body" in reason


def test_another_id_does_not_match():
    assert verify_standard(SECRET, {**HEADERS, "webhook-id": "evt_2"}, BODY, NOW) is not None


def test_missing_headers_are_named():
    assert verify_standard(SECRET, {"webhook-id": "evt_1"}, BODY, NOW) == (
        "missing webhook-timestamp and webhook-signature"
    )


@pytest.mark.parametrize("timestamp", ["soon", "1700000000.5", "", "٣"])
def test_a_timestamp_has_to_be_a_number(timestamp):
    reason = verify_standard(SECRET, {**HEADERS, "webhook-timestamp": timestamp}, BODY, NOW)
    assert reason is not None
    assert "webhook-timestamp" in reason


def test_a_signature_of_another_version_does_not_count():
    other = {**HEADERS, "webhook-signature": HEADERS["webhook-signature"].replace("v1,", "v2,")}
    assert verify_standard(SECRET, other, BODY, NOW) == "webhook-signature holds no v1 signature"


@pytest.mark.parametrize(("age", "holds"), [(TOLERANCE_SECONDS, True), (TOLERANCE_SECONDS + 1, False)])
def test_a_timestamp_may_be_so_old(age, holds):
    assert (verify_standard(SECRET, signed_at(NOW - age), BODY, NOW) is None) is holds


def test_a_timestamp_of_long_ago_is_said_to_be_too_old():
    assert "too old: 301 s" in str(verify_standard(SECRET, signed_at(NOW - 301), BODY, NOW))


def test_a_timestamp_to_come_is_said_to_be_in_the_future():
    assert "in the future: 400 s" in str(verify_standard(SECRET, signed_at(NOW + 400), BODY, NOW))


def test_a_secret_that_is_none_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match="base64"):
        verify_standard("whsec_%%%", HEADERS, BODY, NOW)
