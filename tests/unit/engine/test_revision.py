"""What a patch makes of an endpoint's keys, and that it brings no secret URL to light."""

import pytest

from webhookd.engine.revision import patched
from webhookd.errors import InvalidRequestError

SECRET = {"url": "https://example.com/s3cret", "url_secret": True}


@pytest.mark.parametrize(
    ("given", "patch", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": 1}, {"b": None}, {"a": 1}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"headers": {"A": "1", "B": "2"}}, {"headers": {"A": None, "C": "3"}}, {"headers": {"B": "2", "C": "3"}}),
        ({"retry": []}, {"retry": {"first": "1s", "max": None}}, {"retry": {"first": "1s"}}),
        (
            {"basic_auth": {"username": "u", "password": "p"}},
            {"basic_auth": {"password": "q"}},
            {"basic_auth": {"username": "u", "password": "q"}},
        ),
    ],
)
def test_a_merge_patch_is_applied(given, patch, merged):
    before = str(given)
    assert patched(given, patch) == merged
    assert str(given) == before


@pytest.mark.parametrize("off", [{"url_secret": False}, {"url_secret": None}])
@pytest.mark.parametrize("with_url", [{}, {"url": SECRET["url"]}])
def test_a_secret_url_does_not_come_to_light(off, with_url):
    with pytest.raises(InvalidRequestError) as caught:
        patched(SECRET, off | with_url)
    ((pointer, detail),) = [(fault.pointer, fault.detail) for fault in caught.value.faults]
    assert pointer == "/url_secret"
    assert "another url" in detail
    assert "s3cret" not in f"{caught.value}{detail}"


def test_another_url_may_be_an_ordinary_one():
    assert patched(SECRET, {"url": "https://example.com/hook", "url_secret": False}) == {
        "url": "https://example.com/hook",
        "url_secret": False,
    }


def test_another_url_stays_a_secret_where_nothing_else_is_said():
    assert patched(SECRET, {"url": "https://example.com/other"})["url_secret"] is True


def test_an_ordinary_url_may_become_a_secret():
    assert patched({"url": SECRET["url"]}, {"url_secret": True}) == SECRET
