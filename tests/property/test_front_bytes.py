"""The front under arbitrary bytes: one answer for each request, the same ones however the bytes were split."""

from __future__ import annotations

import asyncio
import http.client
import io
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from tests.kit.fakes_api import FakeObserver
from tests.kit.hostile_requests import CHUNKED, CHUNKS, EVENT, TABLE, get, post
from webhookd.api.auth import Gate, Grant, Tokens
from webhookd.api.front import Connection
from webhookd.api.lobby import Lobby, Patience
from webhookd.core.event import Draft
from webhookd.core.ids import EventId
from webhookd.core.ports import Acceptance
from webhookd.core.settings import Ingest, Listen, Role, TcpAddress

INNER_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
SLICES = 6


class Wire(asyncio.Transport):
    """The other side of the connection: keeps what is written, and closes as a real one would."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.finished = False

    def write(self, data: Any) -> None:
        assert not self.closed, "written to a closed connection"
        assert not self.finished, "written after the end"
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Do nothing: all that is sent is fed."""

    def resume_reading(self) -> None:
        """Do nothing, as above."""


@dataclass(slots=True)
class Recorder:
    """Accepts every event at once, and answers every other request at once."""

    drafts: list[Draft] = field(default_factory=list)
    inner: list[bytes] = field(default_factory=list)
    calls: int = 0
    front: Connection | None = None

    def accept(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Acceptance]]:
        """Fill the acceptor's port."""
        self.calls += 1
        self.drafts += drafts
        future: asyncio.Future[list[Acceptance]] = asyncio.get_running_loop().create_future()
        future.set_result([Acceptance(EventId(1 << 40), False, 1) for _ in drafts])
        return future

    def handle(self, request: bytes, grant: Grant) -> None:
        """Fill the part of aiohttp."""
        assert self.front is not None
        self.inner.append(request)
        self.front.transport.write(INNER_ANSWER)
        self.front.answers.inner_done(keep=b"\r\nconnection: close\r\n" not in request)

    def pause_writing(self) -> None:
        """Do nothing: nobody is slow here."""

    def resume_writing(self) -> None:
        """Do nothing: nobody is slow here."""

    def peer_finished(self) -> None:
        """Do nothing: what is asked is answered at once."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Do nothing: what is asked is answered at once."""


@dataclass(frozen=True, slots=True)
class Story:
    """What became of the bytes of one connection; equal for equal bytes, however they came."""

    statuses: tuple[int, ...]
    drafts: tuple[tuple[str, bytes, str | None], ...]
    inner: tuple[bytes, ...]
    calls: int


async def _story(pieces: list[bytes]) -> Story:
    recorder, wire = Recorder(), Wire()
    lobby = Lobby(acceptor=recorder, observer=FakeObserver(), ingest=Ingest(), patience=Patience())
    address = TcpAddress("127.0.0.1", 1)
    with socket.socket() as unbound:
        gate = Gate(Listen(address=address, role=Role.OPERATE), unbound, Tokens(()))
    front = recorder.front = Connection(lobby, gate, lambda _: recorder)
    front.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            front.data_received(piece)
    if not wire.closed and not front.eof_received():
        wire.close()
    assert wire.closed or wire.finished, "neither answered nor closed"
    front.connection_lost(None)
    assert lobby.buffered_bytes == 0
    assert not lobby.guests
    assert not lobby.failed.done()
    lobby.failed.cancel()
    return Story(
        tuple(statuses_in(wire.written)),
        tuple((draft.type, draft.payload, draft.idempotency_key) for draft in recorder.drafts),
        tuple(recorder.inner),
        recorder.calls,
    )


def story(pieces: list[bytes]) -> Story:
    """Tell what becomes of a connection on which `pieces` arrive one after the other."""
    return asyncio.run(_story(pieces))


def statuses_in(written: bytes) -> list[int]:
    """Take the answers apart; whatever is no sequence of whole answers fails here."""
    found: list[int] = []
    while written:
        head, separator, rest = written.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+(?:\r\n|\Z)", head)
        assert match, written[:200]
        assert separator, written[:200]
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else 0
        # What answers a HEAD announces a body that does not come.
        written = rest if rest.startswith(b"HTTP/1.1 ") else rest[size:]
        found.append(int(match[1]))
        if b"\r\nConnection: close" in head:
            assert not written, "an answer behind the last"
    return found


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
    finals = [status for status in once.statuses if status >= 200]
    assert [status for status in finals if status >= 500] == []
    assert len([status for status in finals if status in {202, 204}]) == once.calls + len(once.inner)
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
