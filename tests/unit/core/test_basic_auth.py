"""HTTP Basic credentials as they are sent (RFC 7617)."""

import base64
from dataclasses import replace

import pytest

from tests.kit.builders import endpoint, event
from webhookd.core.settings import BasicAuth, DeliveryRules
from webhookd.core.signing import HeaderPlan


def authorization(auth, **rules) -> list[str]:
    definition = replace(endpoint(), basic_auth=auth, rules=DeliveryRules(**rules))
    lines = HeaderPlan(definition, version="1").render(event(), attempt_number=1, timestamp_seconds=0)
    return [line for line in lines.decode().split("\r\n") if line.lower().startswith("authorization:")]


@pytest.mark.parametrize(
    ("username", "password", "token"),
    [
        ("Aladdin", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617 section 2
        ("test", "123£", "dGVzdDoxMjPCow=="),  # RFC 7617 section 2.1
        ("key", "", "a2V5Og=="),
        ("u", "a:b%s%", base64.b64encode(b"u:a:b%s%").decode()),
    ],
)
def test_the_credentials_are_sent_in_utf_8(username, password, token):
    assert authorization(BasicAuth(username=username, password=password)) == [f"Authorization: Basic {token}"]


def test_they_are_sent_also_without_the_standard_headers():
    sent = authorization(BasicAuth(username="u", password="p"), standard_headers=False, signatures=())
    assert sent == ["Authorization: Basic dTpw"]


def test_without_them_there_is_no_such_header():
    assert authorization(None) == []


def test_the_password_is_not_in_a_representation():
    assert "s3cret" not in repr(BasicAuth(username="u", password="s3cret"))
