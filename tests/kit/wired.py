"""A front without a socket: what it writes and hands on when bytes arrive in some pieces or other."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.kit.fakes_api import FakeObserver
from webhookd.api.auth import Gate, Grant, Tokens
from webhookd.api.front import Connection
from webhookd.api.judging import Judge
from webhookd.api.lobby import Lobby, Patience
from webhookd.core.event import Draft
from webhookd.core.ids import EventId
from webhookd.core.ports import Acceptance
from webhookd.core.services import Accepted
from webhookd.core.settings import Ingest, Listen, Role, TcpAddress

INNER_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


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
    """Accepts every event as soon as it is let, and answers every other request at once."""

    drafts: list[Draft] = field(default_factory=list)
    inner: list[bytes] = field(default_factory=list)
    calls: int = 0
    front: Connection | None = None
    owed: list[tuple[int, Accepted]] = field(default_factory=list)

    def accept(self, drafts: Sequence[Draft], answered: Accepted) -> None:
        """Fill the acceptor's port."""
        self.calls += 1
        self.drafts += drafts
        self.owed.append((len(drafts), answered))

    def answer(self) -> None:
        """Accept what was handed in."""
        while self.owed:
            count, answered = self.owed.pop(0)
            answered([Acceptance(EventId(1 << 40), False, 1)] * count)

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
    """What became of the bytes of some connections; equal for equal bytes, however they came.

    `written` has a piece for each connection and is not compared: whether 100 Continue is worth sending depends on what
    has come by then.
    """

    written: tuple[bytes, ...] = field(compare=False, repr=False)
    statuses: tuple[int, ...]
    drafts: tuple[tuple[str, bytes, str | None], ...]
    inner: tuple[bytes, ...]
    calls: int


class Scene:
    """One connection after the other; what is handed in is answered at once unless `patient` is set."""

    def __init__(self, judge_of: Callable[[Lobby, Gate], Judge]) -> None:
        self.recorder = Recorder()
        self.lobby = Lobby(acceptor=self.recorder, observer=FakeObserver(), ingest=Ingest(), patience=Patience())
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            listen = Listen(address=TcpAddress("127.0.0.1", sock.getsockname()[1]), role=Role.OPERATE)
            self.gate = Gate(listen, sock, Tokens(()))
        self.patient = False
        self._judge = judge_of(self.lobby, self.gate)
        self._wires: list[Wire] = []
        self.connect()

    def connect(self) -> None:
        """Come in."""
        self._wires.append(Wire())
        self._front = self.recorder.front = Connection(self.lobby, self._judge, lambda _: self.recorder)
        self._front.connection_made(self._wires[-1])

    def receive(self, data: bytes) -> None:
        """Let these bytes arrive at once."""
        if not self._wires[-1].closed:
            self._front.data_received(data)
            if not self.patient:
                self.recorder.answer()

    def hang_up(self) -> None:
        """Say that nothing more comes, and be gone once all is answered."""
        wire = self._wires[-1]
        ended = wire.closed or not self._front.eof_received()
        self.recorder.answer()
        assert ended or wire.closed or wire.finished, "neither answered nor closed"
        self._front.connection_lost(None)

    def story(self) -> Story:
        """Tell what became of it all."""
        assert self.lobby.buffered_bytes == 0
        assert not self.lobby.guests
        assert not self.lobby.failed.done()
        self.lobby.failed.cancel()
        recorder = self.recorder
        return Story(
            tuple(wire.written for wire in self._wires),
            tuple(status for wire in self._wires for status in statuses_in(wire.written) if status >= 200),
            tuple((draft.type, draft.payload, draft.idempotency_key) for draft in recorder.drafts),
            tuple(recorder.inner),
            recorder.calls,
        )


Step = bytes | Callable[[Scene], None]
"""Bytes that arrive, or something else that happens."""


async def _story(steps: Sequence[Step], judge_of: Callable[[Lobby, Gate], Judge]) -> Story:
    scene = Scene(judge_of)
    for step in steps:
        if isinstance(step, bytes):
            scene.receive(step)
        else:
            step(scene)
    scene.hang_up()
    return scene.story()


def story(steps: Sequence[Step], judge_of: Callable[[Lobby, Gate], Judge] = Judge) -> Story:
    """Tell what becomes of connections on which all this happens, one after the other."""
    return asyncio.run(_story(steps, judge_of))


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
