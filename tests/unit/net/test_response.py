"""The reader of responses: what counts as an answer, and what a hostile one can make of it (nothing)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.attempt import EXCERPT_BYTES
from webhookd.net.response import MAX_HEADERS, MAX_INTERIM, MAX_RESPONSE_BYTES, ResponseReader

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def read(*chunks):
    reader = ResponseReader()
    for chunk in chunks:
        if reader.finished:
            break
        reader.feed(chunk)
    return reader


@pytest.mark.parametrize(
    ("raw", "status", "excerpt", "reusable"),
    [
        (OK, 200, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n", 202, b"", True),
        (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", 599, b"", True),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 301, b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
            200,
            b"\x1f\x8b\x08",
            True,
        ),
    ],
)
def test_an_answer_is_read(raw, status, excerpt, reusable):
    for chunks in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        reader = read(*chunks)
        assert reader.finished
        assert reader.fault is None
        assert (reader.status, reader.excerpt, reader.reusable) == (status, excerpt, reusable)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"hello there\r\n", "not HTTP"),
        (b"<html><body>HTTP/0.9</body></html>", "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "not HTTP"),
        (b"RTSP/1.0 200 OK\r\n\r\n", "not HTTP"),
        (b"ICE/1.0 200 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/0.9 200 OK\r\n\r\n", "HTTP/0.9"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP/2.0"),
        (b"HTTP/1.2 200 OK\r\n\r\n", "not"),
        (b"HTTP/1.1 000 Zero\r\n\r\n", "status 0"),
        (b"HTTP/1.1 99 Low\r\n\r\n", "not valid"),
        (b"HTTP/1.1 600 High\r\n\r\n", "status 600"),
        (b"HTTP/1.1 999 High\r\n\r\n", "status 999"),
        (b"HTTP/1.1 2000 Long\r\n\r\n", "not valid"),
        (b"HTTP/1.1 OK\r\n\r\n", "not valid"),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", "not valid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", "not valid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "not valid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not valid"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n\x00\x00", "switches protocols"),
        (b"HTTP/1.1 101 Switching\r\n\r\n" + OK, "switches protocols"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM + 1) + OK, "interim"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n", "too large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", "too large"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_reason(raw, why):
    reader = read(raw)
    assert reader.finished
    assert reader.status == 0
    assert why in reader.fault
    assert not reader.reusable


def test_as_many_interim_answers_as_allowed_are_skipped():
    assert read(b"HTTP/1.1 102 Processing\r\n\r\n" * MAX_INTERIM + OK).status == 200


def test_headers_that_never_end_are_cut_off():
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nX: ")
    fed = 0
    while not reader.finished and fed <= MAX_RESPONSE_BYTES:
        reader.feed(b"a" * 1024)
        fed += 1024
    assert "too large" in reader.fault


@pytest.mark.parametrize(
    "behind",
    [
        OK,
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"garbage",
        b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n",
        b"\x00",
    ],
)
def test_bytes_behind_the_answer_change_nothing_but_that_it_is_not_reused(behind):
    reader = read(OK + behind)
    assert (reader.status, reader.excerpt, reader.fault) == (200, b"ok", None)
    assert not reader.reusable


@pytest.mark.parametrize(
    "body",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    ],
)
def test_a_broken_body_leaves_the_status_standing(body):
    reader = read(b"HTTP/1.1 200 OK\r\n" + body)
    assert reader.finished
    assert (reader.status, reader.fault) == (200, None)
    assert not reader.reusable


def test_an_endless_body_is_read_as_far_as_the_excerpt():
    reader = read(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1000] * 100)
    assert reader.finished
    assert reader.excerpt == b"x" * EXCERPT_BYTES
    assert not reader.reusable


def test_a_body_longer_than_the_excerpt_that_came_whole_leaves_the_connection_clean():
    body = b"x" * (EXCERPT_BYTES + 100)
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert reader.excerpt == body[:EXCERPT_BYTES]
    assert reader.reusable


@pytest.mark.parametrize("filler", [b"1;" + b"e" * 1022, b"T: " + b"t" * 1021])
def test_a_body_that_sends_everything_but_content_is_cut_off(filler):
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"0\r\n" if filler[:1] == b"T" else b"")
    reader = read(start, *[filler] * 1000)
    assert reader.finished
    assert reader.status == 200


def test_retry_after_is_that_of_the_answer_itself():
    raw = (
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n"
        b"HTTP/1.1 503 Busy\r\nrEtry-aFter: 120\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 9\r\n\r\n"
    )
    assert read(raw).retry_after == b"120"
    assert read(b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n" + OK).retry_after is None


def test_a_reader_serves_one_answer_after_another():
    reader = read(b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\nbusy")
    reader.begin()
    reader.feed(OK)
    assert (reader.status, reader.excerpt, reader.retry_after, reader.reusable) == (200, b"ok", None, True)


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_no_bytes_whatever_make_it_raise_or_grow(chunks, begins_well):
    reader = read(*([OK[:-2]] if begins_well else [b"HTTP/1.1 "]), *chunks)
    assert len(reader.excerpt) <= EXCERPT_BYTES
    assert reader.status == 0 or 200 <= reader.status <= 599
    if begins_well:
        assert reader.status == 200
