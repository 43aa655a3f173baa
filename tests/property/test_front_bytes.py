"""The front under arbitrary bytes: one answer for each request, the same ones however the bytes were split."""

from __future__ import annotations

import http.client
import io
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from tests.kit.hostile_requests import CHUNKED, CHUNKS, EVENT, TABLE, get, post
from tests.kit.wired import story

SLICES = 6


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut `data` at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


SMALL = {name: data for name, (data, _) in TABLE.items() if len(data) < 2000}
REQUESTS = [
    post(b'{"type":"a","payload":1}'),
    post(b'{"type":"a","payload":1}', b"Connection: close"),
    post(b'{"type":"a","payload":1}', b"Expect: 100-continue"),
    post(b'{"type":"a","payload":1}', b"Connection: upgrade", b"Upgrade: h2c"),
    CHUNKED + CHUNKS,
    CHUNKED + b"1;a=b\r\n{\r\n%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(EVENT) - 1, EVENT[1:]),
    get(b"/v1/status"),
    get(b"/v1/events?limit=2", b"Connection: upgrade", b"Upgrade: websocket"),
    get(b"/healthz").replace(b"GET", b"HEAD"),
    get(b"http://localhost/v1/status", b"Cookie: a", b"Cookie: b"),
    post(b"{}").replace(b"/events", b"/endpoints"),
]
whole = st.sampled_from(REQUESTS)
hostile = st.sampled_from(sorted(SMALL.values()))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Take a request and damage it in one place: drop, repeat, swap or put in a few bytes."""
    data = draw(st.one_of(whole, hostile))
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.integers(0, 12)))
    other = draw(
        st.one_of(st.binary(max_size=6), st.sampled_from([b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"\t", b","]))
    )
    return data[:start] + draw(st.sampled_from([b"", other, data[start:end] * 2])) + data[end:]


conversations = st.lists(st.one_of(whole, hostile, mutated(), st.binary(max_size=40)), min_size=1, max_size=5).map(
    b"".join
)
places = st.lists(st.integers(0, 10_000), max_size=SLICES)


def check_conversation(data: bytes, at: list[int]) -> None:
    """Hold one conversation to what is promised."""
    once = story([data])
    assert [status for status in once.statuses if status >= 500] == []
    assert len([status for status in once.statuses if status in {202, 204}]) == once.calls + len(once.inner)
    for request in once.inner:
        read_by_another_reader(request)
    assert story(cut(data, at)) == once
    if len(data) < 600:
        assert story([data[place : place + 1] for place in range(len(data))]) == once


def read_by_another_reader(request: bytes) -> None:
    """Find one request in what is handed on, with a reader of another make, and nothing left over."""
    stream = io.BytesIO(request)
    method, target, version = stream.readline().rstrip(b"\r\n").split(b" ")
    assert version == b"HTTP/1.1"
    assert method.isalpha() or b"-" in method
    assert target.startswith(b"/")
    headers = http.client.parse_headers(stream)
    assert headers.defects == []
    assert headers.get_all("transfer-encoding") is None
    (length,) = headers.get_all("content-length", [])
    assert len(stream.read()) == int(length)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=conversations, at=places)
@example(data=REQUESTS[3] * 3, at=[5, 90])
@example(data=b"\r\n\r\n" + REQUESTS[0], at=[1, 3])
@example(data=REQUESTS[7] + REQUESTS[4] + TABLE["space before the colon"][0], at=[40])
def test_the_same_bytes_have_the_same_answers_however_they_come(data: bytes, at: list[int]) -> None:
    check_conversation(data, at)


def test_what_is_told_here_is_of_a_front_that_lets_events_in() -> None:
    told = story(REQUESTS[:2])
    assert (told.statuses, told.calls) == ((202, 202), 2)


@pytest.mark.parametrize("name", SMALL)
def test_every_row_of_the_table_is_judged_alike_byte_by_byte(name: str) -> None:
    check_conversation(REQUESTS[0] + SMALL[name] + REQUESTS[0], [7])


@pytest.mark.long
def test_the_same_at_length(request: pytest.FixtureRequest, scale: int) -> None:
    examples = 3000 * scale

    @seed(request.config.getoption("--seed"))
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(data=conversations, at=places)
    def run(data: bytes, at: list[int]) -> None:
        check_conversation(data, at)

    run()
