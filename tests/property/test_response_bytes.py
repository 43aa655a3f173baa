"""The reader of answers under arbitrary bytes: one verdict however they were split, and no connection kept in doubt."""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from tests.kit import builders
from tests.kit.clock import VirtualClock
from tests.kit.hostile_receivers import ROWS
from webhookd.core.attempt import EXCERPT_BYTES, ErrorClass, Outcome
from webhookd.net.attempt import Attempt, Ways
from webhookd.net.client import Connection
from webhookd.net.departures import Departures
from webhookd.net.failures import AttemptFailedError
from webhookd.net.pool import Pool
from webhookd.net.response import MAX_INTERIM, MAX_RESPONSE_BYTES, ResponseReader
from webhookd.net.retry_after import LONGEST_SECONDS, parse_retry_after

if TYPE_CHECKING:
    from webhookd.net.guard import Dialer


def read(pieces: list[bytes]) -> ResponseReader:
    """Feed a reader as a connection does: until it has had enough."""
    reader = ResponseReader()
    for piece in pieces:
        if reader.finished:
            break
        reader.feed(piece)
    return reader


Verdict = tuple[int, bool, bytes, bytes | None]


def verdict(reader: ResponseReader) -> Verdict:
    """Return what an outcome is made of; of an answer that is none, only that it is none."""
    if reader.fault is not None:
        return 0, True, b"", None
    return reader.status, False, reader.excerpt, reader.retry_after if reader.status else None


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut `data` at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A well-formed answer as bytes, and what it says."""

    raw: bytes
    status: int
    body: bytes
    is_clean: bool


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Write down an answer as a sound server might."""
    status = draw(st.sampled_from([200, 201, 202, 204, 301, 304, 400, 410, 429, 500, 503, 599]))
    body = b"" if status in {204, 304} else draw(st.one_of(st.binary(max_size=60), st.just(b"x" * 5000)))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    names = st.sampled_from([b"X-Y", b"Retry-After", b"Set-Cookie", b"Content-Encoding", b"Server"])
    values = st.sampled_from([b"", b"1", b"gzip", b"120", b"a, b", b"\xe4", b"Wed, 21 Oct 2015 07:28:00 GMT"])
    fields = draw(st.lists(st.tuples(names, values), max_size=4))
    lines = [b"%b: %b\r\n" % pair for pair in fields]
    close = draw(st.booleans())
    if close:
        lines.append(b"Connection: close\r\n")
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    content, ends_itself = body, True
    if status in {204, 304}:
        framing = "none"
    elif framing == "length":
        lines.append(b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunks" and version == b"1.1":
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:Chunked\r\n"])))
        pieces = cut(body, draw(st.lists(st.integers(0, 5000), max_size=3)))
        extension = draw(st.sampled_from([b"", b";a=b"]))
        trailer = draw(st.sampled_from([b"", b"Retry-After: 7\r\n"]))
        content = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
        content += b"0\r\n%b\r\n" % trailer
    else:
        ends_itself = False
    interim = draw(st.lists(st.sampled_from([100, 102, 103]), max_size=MAX_INTERIM))
    raw = b"".join(b"HTTP/1.1 %d Wait\r\nRetry-After: 3\r\n\r\n" % number for number in interim)
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" \xfcber"]))
    raw += b"HTTP/%b %d%b\r\n%b\r\n%b" % (version, status, reason, b"".join(draw(st.permutations(lines))), content)
    return Answer(raw=raw, status=status, body=body, is_clean=ends_itself and not close and version == b"1.1")


HOSTILE = [
    b"".join(step for step in row.steps if isinstance(step, bytes))
    for row in ROWS.values()
    if not row.tls and sum(len(step) for step in row.steps if isinstance(step, bytes)) < 2000
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Take an answer and damage it in one place: drop, repeat, swap or put in a few bytes."""
    data = draw(st.one_of(answers().map(lambda answer: answer.raw), st.sampled_from(HOSTILE)))
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.integers(0, 12)))
    other = draw(
        st.one_of(st.binary(max_size=6), st.sampled_from([b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"0", b"-"]))
    )
    return data[:start] + draw(st.sampled_from([b"", other, data[start:end] * 2])) + data[end:]


streams = st.lists(
    st.one_of(damaged(), answers().map(lambda answer: answer.raw), st.binary(max_size=30)), max_size=3
).map(b"".join)
places = st.lists(st.integers(0, 10_000), max_size=6)


def final_answer(raw: bytes) -> tuple[int, bytes, bytes]:
    """Read the first final answer with a reader of another make; return status, body and what is left."""

    class Socket:
        def makefile(self, mode: str) -> io.BytesIO:
            return stream

    class Reader(http.client.HTTPResponse):
        def _read_status(self) -> Any:
            # Blank lines before an answer, an interim one as well, are nothing to us, and an error to this one.
            while stream.getvalue()[stream.tell() : stream.tell() + 1] in {b"\r", b"\n"}:
                stream.read(1)
            return super()._read_status()  # type: ignore[misc]

    stream = io.BytesIO(raw)
    while True:
        response = Reader(Socket(), method="POST")  # type: ignore[arg-type]
        # Closing is left to us: what stands behind the answer is what this is about.
        response._close_conn = lambda: None  # type: ignore[attr-defined]  # noqa: SLF001
        response.begin()
        if response.status >= 200:
            return response.status, response.read(), stream.read()


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(answer=answers(), at=places)
def test_a_sound_answer_is_read_as_another_reader_reads_it(answer: Answer, at: list[int]) -> None:
    for pieces in ([answer.raw], cut(answer.raw, at)):
        reader = read(pieces)
        assert verdict(reader)[:3] == (answer.status, False, answer.body[:EXCERPT_BYTES])
        assert not reader.reusable or answer.is_clean
        # A long body that came in pieces is left after its excerpt.
        assert reader.reusable or not answer.is_clean or len(answer.body) >= EXCERPT_BYTES
    assert final_answer(answer.raw) == (answer.status, answer.body, b"")


def check_stream(data: bytes, at: list[int]) -> None:
    """Hold whatever a server sends to what is promised of it."""
    once = read([data])
    others = [read(cut(data, at))]
    if len(data) < 800:
        others.append(read([data[place : place + 1] for place in range(len(data))]))
    for other in others:
        assert verdict(other) == verdict(once)
        # In pieces, a long body is left after its excerpt.
        assert other.reusable or not once.reusable or len(once.excerpt) == EXCERPT_BYTES
    assert len(once.excerpt) <= EXCERPT_BYTES
    if once.retry_after is not None:
        seconds = parse_retry_after(once.retry_after, now_ms=0)
        assert seconds is None or 0 <= seconds <= LONGEST_SECONDS
    if once.reusable:
        status, body, left = final_answer(data)
        assert (status, body[:EXCERPT_BYTES]) == (once.status, once.excerpt)
        # A blank line is no answer, and a reader skips it before the next.
        assert left.strip(b"\r\n") == b""


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=streams, at=places)
@example(data=b"\r\n" * 40_000 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", at=[70_000])
@example(data=b"HTTP/1.1 200 " + b"x" * MAX_RESPONSE_BYTES + b"\r\nContent-Length: 0\r\n\r\n", at=[100])
@example(data=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na\r\n", at=[])
def test_one_verdict_however_the_bytes_come(data: bytes, at: list[int]) -> None:
    check_stream(data, at)


@pytest.mark.long
def test_the_same_at_length(request: pytest.FixtureRequest, scale: int) -> None:
    @seed(request.config.getoption("--seed"))
    @settings(max_examples=3000 * scale, suppress_health_check=list(HealthCheck), database=None)
    @given(data=streams, at=places)
    def run(data: bytes, at: list[int]) -> None:
        check_stream(data, at)

    run()


# The connection around the reader.


class Wire(asyncio.Transport):
    """A transport that writes nowhere; its socket is one end of a pair, so that the kernel has something to say."""

    def __init__(self, near: socket.socket) -> None:
        super().__init__()
        self.near = near
        self.sent = b""
        self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.near if name == "socket" else default

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        assert not self.aborted, "written to a dropped connection"
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True


@dataclass
class OneDial:
    """A dialer that has one connection to give; whoever asks for another is told that there is none."""

    connection: Connection | None
    rules: object = None

    async def dial(self, *_: object) -> Connection:
        connection, self.connection = self.connection, None
        if connection is None:
            raise AttemptFailedError(ErrorClass.CONNECT, "not another")
        return connection


async def _outcome(ways: Ways, wire: Wire, connection: Connection, pieces: list[bytes], ending: str) -> Outcome:
    """Make one attempt in which `pieces` are received and then the connection ends; one to be replaced fails to."""
    told: list[Outcome | Exception] = []
    departures = Departures(ways.clock)
    departures.add(Attempt(ways, builders.work(), builders.endpoint(), told.append))
    sent = len(wire.sent)
    for _ in range(3):
        await asyncio.sleep(0)
    if len(wire.sent) > sent:
        for piece in pieces:
            if not wire.aborted:
                connection.data_received(piece)
        if not told and not wire.aborted:
            if ending == "end":
                connection.eof_received()
            connection.connection_lost(ConnectionResetError() if ending == "reset" else None)
    for _ in range(3):
        await asyncio.sleep(0)
    (outcome,) = told
    assert isinstance(outcome, Outcome)
    return outcome


async def _converse(first: list[bytes], between: bytes, second: list[bytes], ending: str) -> None:
    near, far = socket.socketpair()
    with near, far:
        wire = Wire(near)
        connection = Connection(asyncio.get_running_loop())
        connection.connection_made(wire)
        ways = Ways(clock=VirtualClock(), dialer=cast("Dialer", OneDial(connection)), pool=Pool(1))
        outcome = await _outcome(ways, wire, connection, first, ending)
        alone = read(first)
        if alone.status and alone.fault is None:
            assert (outcome.status, outcome.excerpt) == (alone.status, alone.excerpt)
        else:
            assert outcome.error is not None
            assert outcome.error.kind is ErrorClass.PROTOCOL
        if not len(ways.pool) or not connection.is_open:
            return
        if between:
            far.send(between)
        sent = len(wire.sent)
        outcome = await _outcome(ways, wire, connection, second, ending)
        was_replaced = outcome.error is not None and outcome.error.kind is ErrorClass.CONNECT
        if between:
            assert was_replaced
            assert len(wire.sent) == sent
            assert wire.aborted
        elif not second:
            assert was_replaced
        else:
            again = read(second)
            if again.status and again.fault is None:
                assert (outcome.status, outcome.excerpt) == (again.status, again.excerpt)
            else:
                assert outcome.error is not None
                assert outcome.error.kind is ErrorClass.PROTOCOL
        ways.pool.clear()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.one_of(answers().map(lambda answer: answer.raw), streams),
    between=st.one_of(st.just(b""), st.binary(min_size=1, max_size=20), answers().map(lambda answer: answer.raw)),
    second=st.one_of(st.none(), streams),
    at=places,
    ending=st.sampled_from(["end", "reset", "lost"]),
)
def test_a_connection_fails_in_declared_ways_and_never_answers_the_wrong_request(
    first: bytes, between: bytes, second: bytes | None, at: list[int], ending: str
) -> None:
    # The same once more, where there is no other.
    asyncio.run(_converse(cut(first, at), between, cut(first if second is None else second, at), ending))
