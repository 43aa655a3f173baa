"""One accepted connection: reads requests within bounds, checks who sends them and has them answered in order.

The front stays at the door for as long as the connection lives. Whatever is behind it sees complete requests that have
been checked, authorised and written out anew, so nothing a client sends reaches a second HTTP parser as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import cast

from httptools import HttpParserCallbackError, HttpParserError

from webhookd.api.answers import Answers, Exchange, Inner
from webhookd.api.heads import HEAD_BYTES, LINE_BYTES, Head, check_framing, too_large
from webhookd.api.judging import Caller, Judge, Judged
from webhookd.api.lobby import CHUNK_OVERHEAD_BYTES, DISCARDED_BYTES, PIPELINE, Lobby
from webhookd.api.parsing import Parser
from webhookd.api.problems import ProblemError, body_too_large, malformed, refuse
from webhookd.api.wire import CONTINUE
from webhookd.errors import WebhookdError


class Phase(Enum):
    """Where in a request the reading is."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


IDLE, HEAD, BODY = Phase


class Connection(asyncio.Protocol):
    """A connection from its acceptance to its end; `on_…` are what httptools calls while it reads."""

    def __init__(self, lobby: Lobby, judge: Judge, make_inner: Callable[[Connection], Inner]) -> None:
        self.idle_since: float | None = lobby.now
        self.transport: asyncio.Transport
        self.answers = Answers(lobby, self, lambda: make_inner(self))
        self._lobby = lobby
        self._judge = judge
        self._caller = Caller()
        self._parser = Parser(self)
        self._phase = IDLE
        self._phase_since = lobby.now
        self._patience_seconds = lobby.patience.head_seconds
        self.head = Head(b"", {}, 0, 0)
        self._exchange: Exchange | None = None
        self._beginning = b""
        self._missing = 0
        self._unmeasured = -1
        self._measured_size = 0
        self.upgrading = False
        self._last = False
        self._deaf = False
        self.peer_done = False
        self._throttled = False
        self._stalled_since: float | None = None
        self._ended: tuple[float, float] | None = None

    @property
    def slow_since(self) -> float | None:
        return self._stalled_since if self._phase is IDLE or self._throttled else self._phase_since

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("sockname")
        self._caller.local_address = name[0] if isinstance(name, tuple) else None
        if not self._lobby.enter(self):
            self._stop(refuse("overloaded", 503, "every connection is busy", retry_after_seconds=1))

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._missing or self._phase is IDLE:
            data = self._read_known(data)
            if not data or self._deaf:
                return
            self._beginning = data
        try:
            self._parser.feed(data)
        except HttpParserError as error:
            self._parser_stopped(error)
        except WebhookdError as error:
            self._stop(error)
        self._beginning = b""
        if self._phase is not IDLE:
            self._measure(len(data))

    def eof_received(self) -> bool:
        self.peer_done = self._last = True
        if self._phase is not IDLE:
            self._stop(malformed("the connection ended before the request did"))
        if self.answers.inner is not None:
            self.answers.inner.peer_finished()
        return self.answers.owed > 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._lobby.leave(self)
        if self._exchange is not None:
            self._lobby.buffered_bytes -= self._exchange.size
            self._exchange = None
        self.answers.connection_lost(exc)

    def pause_writing(self) -> None:
        self._stalled_since = self._lobby.now
        self._throttle()
        if self.answers.inner is not None:
            self.answers.inner.pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self.answers.inner is not None:
            self.answers.inner.resume_writing()
        self._unthrottle()

    # What the parser calls. An error raised here ends the connection, after an answer that says why.

    def on_message_begin(self) -> None:
        if self._last:
            raise malformed("this comes after the last request")
        self.head = Head(b"", {}, 0, 0)
        self._phase = HEAD
        self._phase_since = self._lobby.now
        self._patience_seconds = self._lobby.patience.head_seconds
        self._unmeasured = -1
        self.idle_since = None

    def on_url(self, part: bytes) -> None:
        head = self.head
        head.target += part
        if len(head.target) > LINE_BYTES:
            raise too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer means nothing to us; `_measure` bounds them.
        if self._phase is HEAD:
            self.head.add(name, value)

    def on_headers_complete(self) -> None:
        parser = self._parser.now
        beginning, self._beginning = self._beginning, b""
        if parser.should_upgrade():
            self.upgrading = True
            return
        head = self.head
        version = parser.get_http_version()
        # Clients of HTTP/1.0 keep a connection only when told so in words that this front does not speak.
        keep = parser.should_keep_alive() and version != "1.0" and not self._lobby.draining
        judged = Judged(parser.get_method(), head)
        exchange = self._begin_body(judged, keep=keep)
        self._unmeasured = -1
        length: int | None = 0
        try:
            length = check_framing(head, version)
            self._judge.judge(judged, self._caller)
            if length is not None and length > judged.limit_bytes:
                raise body_too_large(judged.limit_bytes)
            if keep:
                self._judge.remember(beginning, judged)
        except WebhookdError as error:
            self._refuse(exchange, error, length)
        if b"expect" in head.fields and exchange.problem is None:
            if head.fields[b"expect"].lower() != b"100-continue":
                raise refuse("expectation_failed", 417, "the only expectation that is met is 100-continue")
            if not self.answers.owed:
                self.transport.write(CONTINUE)

    def on_body(self, part: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        size = exchange.size = exchange.size + len(part)
        lobby = self._lobby
        lobby.buffered_bytes += len(part)
        if exchange.problem is not None:
            if size > DISCARDED_BYTES:
                raise ProblemError(exchange.problem)
        elif size > exchange.judged.limit_bytes:
            raise body_too_large(exchange.judged.limit_bytes)
        elif lobby.buffered_bytes > lobby.patience.buffered_bytes:
            raise refuse("overloaded", 503, "too many requests are being read at once", retry_after_seconds=1)
        else:
            exchange.add(part)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if self.upgrading or exchange is None:
            return
        self._phase = IDLE
        self._exchange = None
        if not exchange.keep:
            self._last = True
        self.answers.take(exchange)
        if self.answers.owed >= PIPELINE:
            self._throttle()

    # What the lobby and the answers call.

    def watch(self, now: float) -> None:
        if self._ended is not None:
            ended_at, patience_seconds = self._ended
            if now - ended_at > patience_seconds:
                self.abort()
        elif self._stalled_since is not None:
            if now - self._stalled_since > self._lobby.patience.write_seconds:
                self.abort()
        elif self._phase is not IDLE:
            if now - self._phase_since > self._patience_seconds and not self._throttled:
                detail = f"the {self._phase.name.lower()} of the request took over {self._patience_seconds:g} seconds"
                self._stop(refuse("request_timeout", 408, detail))
        elif self.idle_since is not None and now - self.idle_since > self._patience_seconds:
            self._end()

    def dismiss(self) -> None:
        self._last = True
        if self._phase is IDLE and not self.answers.owed:
            self._end()

    def abort(self) -> None:
        self.transport.abort()

    def answered(self, *, keep: bool) -> None:
        owed = self.answers.owed
        if not keep or (self._last and not owed and self._phase is IDLE):
            self._end()
            return
        if self._throttled and owed <= PIPELINE // 2:
            self._unthrottle()
        if not owed and self._phase is IDLE:
            self.idle_since = self._lobby.now
            self._patience_seconds = self._lobby.patience.idle_seconds

    # Reading.

    def _read_known(self, data: bytes) -> bytes:
        """Read bodies behind heads that are known; return what is left for the parser, which then begins a message."""
        at = 0
        try:
            while at < len(data):
                if self._missing:
                    part = data[at : at + self._missing]
                    at += len(part)
                    self._missing -= len(part)
                    self.on_body(part)
                    if not self._missing:
                        self.on_message_complete()
                    continue
                if self._last or self._lobby.draining or (found := self._judge.find(data, at)) is None:
                    break
                judged, at, self._missing = found
                self.idle_since = None
                self._begin_body(judged, keep=True)
        except WebhookdError as error:
            self._stop(error)
        return data[at:]

    def _begin_body(self, judged: Judged, *, keep: bool) -> Exchange:
        self._phase = BODY
        self._phase_since = self._lobby.now
        self._patience_seconds = self._lobby.patience.body_seconds
        self._exchange = exchange = Exchange(judged, keep)
        return exchange

    def _refuse(self, exchange: Exchange, error: WebhookdError, length: int | None) -> None:
        """Answer at the end of a short body, so that the connection can be kept; otherwise now, and close."""
        problem = self._lobby.explain(error)
        expects = b"expect" in exchange.judged.head.fields
        if problem.status == 400 or length is None or length > DISCARDED_BYTES or expects:
            raise error
        exchange.problem = problem

    def _parser_stopped(self, error: HttpParserError) -> None:
        if self._deaf or (self._last and self._phase is IDLE):
            return
        if isinstance(error, HttpParserCallbackError):
            self._stop(error.__context__ or error)
        else:
            self._stop(malformed(f"this is not HTTP/1.1 as it should be: {error}"))

    def _measure(self, size: int) -> None:
        """Bound what the parser holds without telling: unfinished lines, trailers and chunk extensions.

        The read in which a head or a body began, for which `_unmeasured` is -1, also held what came before.
        """
        exchange = self._exchange
        if self._unmeasured < 0 or (exchange is not None and exchange.size != self._measured_size):
            self._measured_size = 0 if exchange is None else exchange.size
            self._unmeasured = 0
            return
        self._unmeasured += size
        if self._unmeasured > (HEAD_BYTES if self._phase is HEAD else CHUNK_OVERHEAD_BYTES):
            self._stop(too_large())

    # Ending.

    def _stop(self, error: BaseException) -> None:
        """Read no more: answer with the error, after what is owed before it, then close."""
        self._deaf = self._last = True
        self._phase = IDLE
        exchange = self._exchange or Exchange(Judged(b"", self.head), keep=False)
        self._exchange = None
        exchange.keep = False
        exchange.body = b""
        exchange.problem = self._lobby.explain(error)
        self.answers.take(exchange)

    def _end(self) -> None:
        """Close once all is written.

        A client that is still sending would lose our answer to a reset, should we close with bytes unread; so we say
        that we are done and wait for it to be, for a while.
        """
        if self._ended is not None:
            return
        now, patience = self._lobby.now, self._lobby.patience
        self.idle_since = -1.0
        if self._deaf and not self.peer_done and self.transport.can_write_eof() and not self.transport.is_closing():
            self._ended = (now, patience.linger_seconds)
            self.transport.write_eof()
            self._throttled = True
            self._stalled_since = None
            self._unthrottle()
        else:
            self._deaf = True
            self._ended = (now, patience.write_seconds)
            self.transport.close()

    def _throttle(self) -> None:
        if not self._throttled and not self.transport.is_closing():
            self._throttled = True
            self.transport.pause_reading()

    def _unthrottle(self) -> None:
        if self._throttled and self._stalled_since is None and self.answers.owed <= PIPELINE // 2:
            self._throttled = False
            self._phase_since = self._lobby.now
            if not self.transport.is_closing():
                self.transport.resume_reading()
