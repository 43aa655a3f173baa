"""One accepted connection: reads requests within bounds, checks who sends them and has them answered in order.

The front stays at the door for as long as the connection lives. Whatever is behind it sees complete requests that have
been checked, authorised and written out anew, so nothing a client sends reaches a second HTTP parser as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from webhookd.api.answers import Answers, Exchange, Inner
from webhookd.api.auth import Gate, Grant, require
from webhookd.api.decode import plan_events, takes_events
from webhookd.api.heads import HEAD_BYTES, LINE_BYTES, Head, check_framing, split_target, too_large, without_upgrade
from webhookd.api.lobby import CHUNK_OVERHEAD_BYTES, DISCARDED_BYTES, OTHER_BODY_BYTES, PIPELINE, Lobby
from webhookd.api.problems import ProblemError, body_too_large, malformed, refuse
from webhookd.api.wire import CONTINUE
from webhookd.core.settings import Role
from webhookd.errors import WebhookdError


class Phase(Enum):
    """Where in a request the reading is."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class Connection(asyncio.Protocol):
    """A connection from its acceptance to its end; `on_…` are what httptools calls while it reads."""

    def __init__(self, lobby: Lobby, gate: Gate, make_inner: Callable[[Connection], Inner]) -> None:
        self.idle_since: float | None = lobby.now
        self.transport: asyncio.Transport
        self.answers = Answers(lobby, self, lambda: make_inner(self))
        self._lobby = lobby
        self._gate = gate
        self._local_address: str | None = None
        self._identity: tuple[object, bytes | None, Grant] | None = None
        self._parser = HttpRequestParser(self)
        self._phase = Phase.IDLE
        self._phase_since = lobby.now
        self._patience_seconds = lobby.patience.head_seconds
        self._head = Head(b"", {}, 0, 0)
        self._exchange: Exchange | None = None
        self._unmeasured = -1
        self._measured_size = 0
        self._upgrading = False
        self._last = False
        self._deaf = False
        self.peer_done = False
        self._throttled = False
        self._stalled_since: float | None = None
        self._ended: tuple[float, float] | None = None

    @property
    def slow_since(self) -> float | None:
        return self._stalled_since if self._phase is Phase.IDLE or self._throttled else self._phase_since

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("sockname")
        self._local_address = name[0] if isinstance(name, tuple) else None
        if not self._lobby.enter(self):
            self._stop(refuse("overloaded", 503, "every connection is busy", retry_after_seconds=1))

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        declined_at = -1
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            declined_at = upgrade.args[0]
        except HttpParserError as error:
            self._parser_stopped(error)
        if declined_at >= 0:
            # Not while the upgrade is being handled: it would become the context, and so the cause, of what comes up.
            self._decline_upgrade(memoryview(data)[declined_at:])
        if self._phase is not Phase.IDLE:
            self._measure(len(data))

    def eof_received(self) -> bool:
        self.peer_done = self._last = True
        if self._phase is not Phase.IDLE:
            self._stop(malformed("the connection ended before the request did"))
        if self.answers.inner is not None:
            self.answers.inner.peer_finished()
        return self.answers.owed() > 0

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
        self._head = Head(b"", {}, 0, 0)
        self._phase = Phase.HEAD
        self._phase_since = self._lobby.now
        self._patience_seconds = self._lobby.patience.head_seconds
        self._unmeasured = -1
        self.idle_since = None

    def on_url(self, part: bytes) -> None:
        head = self._head
        head.target += part
        if len(head.target) > LINE_BYTES:
            raise too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer means nothing to us; `_measure` bounds them.
        if self._phase is Phase.HEAD:
            self._head.add(name, value)

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            self._upgrading = True
            return
        self._phase = Phase.BODY
        self._phase_since = self._lobby.now
        self._patience_seconds = self._lobby.patience.body_seconds
        self._unmeasured = -1
        self._measured_size = 0
        head = self._head
        version = parser.get_http_version()
        # Clients of HTTP/1.0 keep a connection only when told so in words that this front does not speak.
        keep = parser.should_keep_alive() and version != "1.0" and not self._lobby.draining
        exchange = self._exchange = Exchange(parser.get_method(), head, keep=keep)
        length: int | None = 0
        try:
            length = check_framing(head, version)
            self._admit(exchange)
            if length is not None and length > exchange.limit:
                raise body_too_large(exchange.limit)
        except WebhookdError as error:
            self._refuse(exchange, error, length)
        if b"expect" in head.fields and exchange.problem is None:
            if head.fields[b"expect"].lower() != b"100-continue":
                raise refuse("expectation_failed", 417, "the only expectation that is met is 100-continue")
            if not self.answers.owed():
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
        elif size > exchange.limit:
            raise body_too_large(exchange.limit)
        elif lobby.buffered_bytes > lobby.patience.buffered_bytes:
            raise refuse("overloaded", 503, "too many requests are being read at once", retry_after_seconds=1)
        else:
            exchange.add(part)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if self._upgrading or exchange is None:
            return
        self._phase = Phase.IDLE
        self._exchange = None
        if not exchange.keep:
            self._last = True
        self.answers.take(exchange)
        if self.answers.owed() >= PIPELINE:
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
        elif self._phase is not Phase.IDLE:
            if now - self._phase_since > self._patience_seconds and not self._throttled:
                detail = f"the {self._phase.name.lower()} of the request took over {self._patience_seconds:g} seconds"
                self._stop(refuse("request_timeout", 408, detail))
        elif self.idle_since is not None and now - self.idle_since > self._patience_seconds:
            self._end()

    def dismiss(self) -> None:
        self._last = True
        if self._phase is Phase.IDLE and not self.answers.owed():
            self._end()

    def abort(self) -> None:
        self.transport.abort()

    def answered(self, *, keep: bool) -> None:
        owed = self.answers.owed()
        if not keep or (self._last and not owed and self._phase is Phase.IDLE):
            self._end()
            return
        if self._throttled and owed <= PIPELINE // 2:
            self._unthrottle()
        if not owed and self._phase is Phase.IDLE:
            self.idle_since = self._lobby.now
            self._patience_seconds = self._lobby.patience.idle_seconds

    # Judging.

    def _admit(self, exchange: Exchange) -> None:
        head = exchange.head
        path, query = split_target(head)
        exchange.for_events = exchange.method == b"POST" and takes_events(path)
        self._gate.check_site(head.fields, self._local_address)
        authorization = head.fields.get(b"authorization")
        identity = self._identity
        if identity is None or identity[0] is not self._gate.tokens or identity[1] != authorization:
            identity = (self._gate.tokens, authorization, self._gate.grant(authorization))
            self._identity = identity
        exchange.grant = identity[2]
        if exchange.for_events:
            require(exchange.grant, Role.INGEST)
            exchange.plan = plan_events(path, query, head.fields, self._lobby.ingest)
            exchange.limit = exchange.plan.limit_bytes
        else:
            exchange.limit = OTHER_BODY_BYTES

    def _refuse(self, exchange: Exchange, error: WebhookdError, length: int | None) -> None:
        """Answer at the end of a short body, so that the connection can be kept; otherwise now, and close."""
        problem = self._lobby.explain(error)
        if problem.status == 400 or length is None or length > DISCARDED_BYTES or b"expect" in exchange.head.fields:
            raise error
        exchange.problem = problem

    def _parser_stopped(self, error: HttpParserError) -> None:
        if self._deaf or (self._last and self._phase is Phase.IDLE):
            return
        if isinstance(error, HttpParserCallbackError):
            self._stop(error.__context__ or error)
        else:
            self._stop(malformed(f"this is not HTTP/1.1 as it should be: {error}"))

    def _decline_upgrade(self, rest: memoryview) -> None:
        """Read on as if no other protocol had been asked for, which RFC 9110, section 7.8, allows."""
        while True:
            self._upgrading = False
            method = self._parser.get_method()
            if method == b"CONNECT":
                self._stop(malformed("this is no proxy"))
                return
            head = without_upgrade(method, self._head, self._parser.get_http_version())
            self._parser = HttpRequestParser(self)
            try:
                self._parser.feed_data(head)
                self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except HttpParserError as error:
                self._parser_stopped(error)
                return
            else:
                return

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
        if self._unmeasured > (HEAD_BYTES if self._phase is Phase.HEAD else CHUNK_OVERHEAD_BYTES):
            self._stop(too_large())

    # Ending.

    def _stop(self, error: BaseException) -> None:
        """Read no more: answer with the error, after what is owed before it, then close."""
        self._deaf = self._last = True
        self._phase = Phase.IDLE
        exchange = self._exchange or Exchange(b"", self._head, keep=False)
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
        if self._throttled and self._stalled_since is None and self.answers.owed() <= PIPELINE // 2:
            self._throttled = False
            self._phase_since = self._lobby.now
            if not self.transport.is_closing():
                self.transport.resume_reading()
