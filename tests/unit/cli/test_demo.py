"""How the receivers of the demo behave, and what they are sent."""

import base64
import hmac
import json
import time
from importlib import resources

import pytest

from webhookd.cli.demo import _SAMPLES, FAILURES, _Flaky, _Strict
from webhookd.cli.demo_daemon import new_secret
from webhookd.cli.receiver import Received
from webhookd.core.event import EVENT_TYPE


def request(event="evt_1", body=b"{}", **headers):
    named = tuple({"webhook-id": event, **{name.replace("_", "-"): value for name, value in headers.items()}}.items())
    return Received(method="POST", path="/", headers=named, body=body, at_seconds=time.time())


def test_the_flaky_one_fails_twice_and_recovers():
    flaky = _Flaky()
    assert [flaky(request())[0].status for _ in range(4)] == [500] * FAILURES + [200, 200]


def test_the_flaky_one_fails_for_the_first_of_five_events_only():
    flaky = _Flaky()
    statuses = [flaky(request(f"evt_{number}"))[0].status for number in range(7)]
    assert statuses == [500, 200, 200, 200, 200, 500, 200]


def test_the_strict_one_takes_what_is_signed_with_its_secret():
    secret = new_secret()
    now = int(time.time())
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = "v1," + base64.b64encode(hmac.digest(key, f"evt_1.{now}.{{}}".encode(), "sha256")).decode()
    reply, remark = _Strict(secret)(request(webhook_timestamp=str(now), webhook_signature=signature))
    assert (reply.status, remark) == (200, "signature holds")


def test_the_strict_one_says_why_it_takes_nothing_else():
    reply, remark = _Strict(new_secret())(request())
    assert reply.status == 401
    assert "missing" in remark


@pytest.mark.parametrize("name", _SAMPLES)
def test_a_sample_is_json_of_the_type_it_is_named_after(name):
    assert EVENT_TYPE.match(name)
    payload = resources.files("webhookd.cli").joinpath("samples", f"{name}.json").read_bytes()
    assert json.loads(payload)["type"] == name
