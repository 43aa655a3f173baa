"""The answers of one connection, in the order of its requests: events are accepted here, all else is handed on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Protocol

from webhookd.api.auth import NOBODY, Grant
from webhookd.api.decode import Form, Plan, read_drafts
from webhookd.api.heads import Head, rewritten
from webhookd.api.lobby import Lobby, log
from webhookd.api.problems import UNAVAILABLE_RETRY_SECONDS, Problem, refuse
from webhookd.api.wire import acceptance_answer, batch_answer, problem_answer
from webhookd.core.ports import Acceptance

Write = Callable[[bytes], object]


class Inner(Protocol):
    """Who answers the requests that do not hand in events; see `inner.py`."""

    def handle(self, request: bytes, grant: Grant) -> None:
        """Answer one whole request on the connection, then say so by `Answers.inner_done`."""

    def pause_writing(self) -> None:
        """Hold back: the client does not read."""

    def resume_writing(self) -> None:
        """Go on."""

    def peer_finished(self) -> None:
        """Note that the client sends no more, and may be gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up."""


class Owner(Protocol):
    """The connection whose answers these are."""

    transport: asyncio.Transport

    def answered(self, *, keep: bool) -> None:
        """Take note that answers have been written; without `keep` they were the last."""


class Exchange:
    """One request and, once there is one, its answer; `size` counts the bytes of the body that are held in memory."""

    __slots__ = (
        "answer",
        "began",
        "body",
        "for_events",
        "grant",
        "head",
        "keep",
        "limit",
        "method",
        "plan",
        "problem",
        "size",
    )

    def __init__(self, method: bytes, head: Head, *, keep: bool) -> None:
        self.method = method
        self.head = head
        self.keep = keep
        self.for_events = False
        self.grant: Grant = NOBODY
        self.plan: Plan | None = None
        self.limit = 0
        self.size = 0
        self.body: bytes | list[bytes] = b""
        self.problem: Problem | None = None
        self.answer: bytes | None = None
        self.began = 0.0

    def add(self, part: bytes) -> None:
        """Take a piece of the body; the usual one piece is not copied."""
        if not self.body:
            self.body = part
        elif isinstance(self.body, bytes):
            self.body = [self.body, part]
        else:
            self.body.append(part)

    def take_body(self) -> bytes:
        """Return the whole body, once."""
        body, self.body = self.body, b""
        return body if isinstance(body, bytes) else b"".join(body)

    @property
    def is_handed_on(self) -> bool:
        """Say whether somebody behind the front is to answer."""
        return self.plan is None and self.problem is None


class Answers:
    """What is owed on one connection.

    Events may be under way side by side, so that a pipeline shares commits; a request that is handed on waits for all
    before it, and all after it wait for its end, so that a client never sees the effects out of order.
    """

    __slots__ = ("_advancing", "_inner", "_inner_busy", "_lobby", "_make_inner", "_open", "_owner", "_waiting", "gone")

    def __init__(self, lobby: Lobby, owner: Owner, make_inner: Callable[[], Inner]) -> None:
        self._lobby = lobby
        self._owner = owner
        self._make_inner = make_inner
        self._inner: Inner | None = None
        self._inner_busy = False
        self._open: deque[Exchange] = deque()
        self._waiting: deque[Exchange] = deque()
        self._advancing = False
        self.gone = False

    @property
    def inner(self) -> Inner | None:
        """The one who answers what is handed on, once there was something."""
        return self._inner

    def owed(self) -> int:
        """Count the requests that have no answer yet."""
        return len(self._open) + len(self._waiting) + self._inner_busy

    def take(self, exchange: Exchange) -> None:
        """Answer a request that has been read completely, or refused."""
        if self._waiting or self._inner_busy or (self._open and exchange.is_handed_on):
            self._waiting.append(exchange)
        else:
            self._begin(exchange)

    def inner_done(self, *, keep: bool) -> None:
        """Note that the request that was handed on has its answer; harmless when repeated."""
        if not self._inner_busy:
            return
        self._inner_busy = False
        if not self.gone:
            self._go_on(keep=keep)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what has not begun; events that are being accepted are accepted, there is only nobody to tell."""
        self.gone = True
        self._forget_waiting()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def _begin(self, exchange: Exchange) -> None:
        if exchange.problem is not None:
            self._open.append(exchange)
            self._settle(exchange, self._problem(exchange, exchange.problem))
        elif exchange.plan is not None:
            self._open.append(exchange)
            self._accept(exchange, exchange.plan)
        else:
            self._hand_on(exchange)

    def _accept(self, exchange: Exchange, plan: Plan) -> None:
        lobby = self._lobby
        exchange.began = perf_counter()
        try:
            if lobby.draining:
                exchange.keep = False
                raise refuse(  # noqa: TRY301 - one way out for everything that is not an acceptance
                    "shutting_down", 503, "the daemon is stopping", retry_after_seconds=UNAVAILABLE_RETRY_SECONDS
                )
            drafts = read_drafts(plan, exchange.take_body(), lobby.ingest)
            future = asyncio.ensure_future(lobby.acceptor.accept(drafts))
        except Exception as error:  # noqa: BLE001 - explain() logs what is a fault of ours; the client gets an answer
            self._settle(exchange, self._problem(exchange, lobby.explain(error)))
            return
        if future.done():
            self._accepted(exchange, future)
        else:
            future.add_done_callback(partial(self._accepted, exchange))

    def _accepted(self, exchange: Exchange, future: asyncio.Future[list[Acceptance]]) -> None:
        lobby = self._lobby
        try:
            acceptances = future.result()
            if exchange.plan is not None and exchange.plan.form is Form.BATCH:
                answer = batch_answer(acceptances, keep=exchange.keep, date=lobby.date)
            else:
                answer = acceptance_answer(acceptances[0], keep=exchange.keep, date=lobby.date)
            lobby.observer.accepted(len(acceptances))
            lobby.observer.ingest_seconds(perf_counter() - exchange.began)
        except asyncio.CancelledError:
            error = refuse(
                "shutting_down", 503, "the outcome is unknown", retry_after_seconds=UNAVAILABLE_RETRY_SECONDS
            )
            answer = self._problem(exchange, error.problem)
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._problem(exchange, lobby.explain(error))
        self._settle(exchange, answer)

    def _problem(self, exchange: Exchange, problem: Problem) -> bytes:
        if exchange.for_events:
            self._lobby.observer.rejected(problem.slug)
        log.debug("request.refused", extra={"fields": {"problem": problem.slug, "status": problem.status}})
        answer = problem_answer(problem, keep=exchange.keep, date=self._lobby.date)
        return answer if exchange.method != b"HEAD" else answer[: answer.index(b"\r\n\r\n") + 4]

    def _settle(self, exchange: Exchange, answer: bytes) -> None:
        """Note an answer, and write as many as are next in order."""
        self._lobby.buffered_bytes -= exchange.size
        if self.gone:
            return
        exchange.answer = answer
        unanswered = self._open
        keep = True
        ready: list[bytes] = []
        while keep and unanswered and unanswered[0].answer is not None:
            ready.append(unanswered[0].answer)
            keep = unanswered.popleft().keep
        if ready:
            self._owner.transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
            self._go_on(keep=keep)

    def _go_on(self, *, keep: bool) -> None:
        """Begin what waited for the answers just written, and tell the owner of them."""
        if not keep:
            self._forget_waiting()
        elif self._waiting and not self._advancing:
            # An answer that is there at once comes back here: without the flag, a pipeline would become a recursion.
            self._advancing = True
            while self._waiting and not self._inner_busy and not (self._open and self._waiting[0].is_handed_on):
                self._begin(self._waiting.popleft())
            self._advancing = False
        self._owner.answered(keep=keep)

    def _forget_waiting(self) -> None:
        for exchange in self._waiting:
            self._lobby.buffered_bytes -= exchange.size
        self._waiting.clear()

    def _hand_on(self, exchange: Exchange) -> None:
        self._lobby.buffered_bytes -= exchange.size
        self._inner_busy = True
        if self._inner is None:
            self._inner = self._make_inner()
        keep = exchange.keep and not self._lobby.draining
        self._inner.handle(rewritten(exchange.method, exchange.head, exchange.take_body(), keep=keep), exchange.grant)
