"""Cursors and JSON objects that callers send."""

from __future__ import annotations

import pytest

from webhookd.api.jsontext import read_object
from webhookd.api.media import parse_media_type
from webhookd.api.params import cursor_text, parse_cursor, plain_value
from webhookd.errors import InvalidRequestError


@pytest.mark.parametrize("before", [0, 1, -7, 2**63 - 1, -(2**63)])
def test_a_cursor_leads_back_to_its_position(before):
    assert parse_cursor(cursor_text(before) or "") == before


@pytest.mark.parametrize(
    "text", ["", "x", "AAAAAAAAAAB", "AAAAAAAAAAA=", "AAAAAAAAAAAA", "AAAA AAAAAA", "é", "+AAAAAAAAAA"]
)
def test_a_cursor_that_was_not_given_out_is_none(text):
    assert parse_cursor(text) is None


def test_the_members_of_an_object_keep_their_bytes():
    body = ' {"é" : {"x": [1 , 2]} ,\n"b\\u0061":"\\ud800", "n":1e999}'.encode()
    assert read_object(body) == {"é": b'{"x": [1 , 2]}', "ba": b'"\\ud800"', "n": b"1e999"}
    assert read_object(b"{ }") == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b"1", 422),
        (b"", 400),
        (b"{", 400),
        (b'{"a":1,"\\u0061":2}', 400),
        (b'{"a":NaN}', 400),
        (b'\xff{"a":1}', 400),
        (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", 400),
    ],
)
def test_what_is_not_an_object_with_each_key_once_is_refused(body, status):
    with pytest.raises(InvalidRequestError) as caught:
        read_object(body)
    assert caught.value.status == status


@pytest.mark.parametrize(("text", "status"), [(b"1e999", 422), (b"9" * 5000, 422), (b'"\\ud800"', 400)])
def test_values_no_computer_counts_in_are_refused(text, status):
    with pytest.raises(InvalidRequestError) as caught:
        plain_value("rate", text)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("text", "essence"),
    [
        ("application/json", "application/json"),
        ("Application/JSON ; charset=utf-8", "application/json"),
        ("text/plain;", "text/plain"),
        ("a/b/c", None),
        ("json", None),
        ("", None),
        ("a/b\r\nx: y", None),
        ("a/b; é=1", None),
        ("a/" + "b" * 300, None),
    ],
)
def test_content_types(text, essence):
    media = parse_media_type(text)
    assert (media and media.essence) == essence
