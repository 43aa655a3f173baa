"""The answers of one connection, in the order of its requests: events are accepted here, all else is handed on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Protocol

from msgspec import Struct

from webhookd.api.auth import Grant
from webhookd.api.decode import BATCH, Plan, read_drafts
from webhookd.api.heads import rewritten
from webhookd.api.judging import Judged
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


class Exchange(Struct):
    """One request and, once there is one, its answer; `size` counts the bytes of the body that are held in memory."""

    judged: Judged
    keep: bool
    size: int = 0
    body: bytes | list[bytes] = b""
    problem: Problem | None = None
    answer: bytes | None = None
    began: float = 0.0

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
        return self.judged.plan is None and self.problem is None


class Answers:
    """What is owed on one connection.

    Events may be under way side by side, so that a pipeline shares commits; a request that is handed on waits for all
    before it, and all after it wait for its end, so that a client never sees the effects out of order.
    """

    __slots__ = (
        "_advancing",
        "_inner",
        "_inner_busy",
        "_lobby",
        "_make_inner",
        "_open",
        "_owner",
        "_waiting",
        "gone",
        "owed",
    )

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
        self.owed = 0
        """How many requests have no answer yet."""

    @property
    def inner(self) -> Inner | None:
        """The one who answers what is handed on, once there was something."""
        return self._inner

    def take(self, exchange: Exchange) -> None:
        """Answer a request that has been read completely, or refused."""
        self.owed += 1
        if self._waiting or self._inner_busy or (self._open and exchange.is_handed_on):
            self._waiting.append(exchange)
        else:
            self._begin(exchange)

    def inner_done(self, *, keep: bool) -> None:
        """Note that the request that was handed on has its answer; harmless when repeated."""
        if not self._inner_busy:
            return
        self._inner_busy = False
        self.owed -= 1
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
        elif exchange.judged.plan is not None:
            self._open.append(exchange)
            self._accept(exchange, exchange.judged.plan)
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
            lobby.acceptor.accept(drafts, partial(self._accepted, exchange))
        except Exception as error:  # noqa: BLE001 - explain() logs what is a fault of ours; the client gets an answer
            self._settle(exchange, self._problem(exchange, lobby.explain(error)))

    def _accepted(self, exchange: Exchange, outcome: list[Acceptance] | Exception) -> None:
        lobby = self._lobby
        try:
            if isinstance(outcome, Exception):
                answer = self._problem(exchange, lobby.explain(outcome))
            else:
                plan = exchange.judged.plan
                write = batch_answer if plan is not None and plan.form is BATCH else acceptance_answer
                answer = write(outcome, keep=exchange.keep, date=lobby.date)
                lobby.observer.accepted(len(outcome), perf_counter() - exchange.began)
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._problem(exchange, lobby.explain(error))
        self._settle(exchange, answer)

    def _problem(self, exchange: Exchange, problem: Problem) -> bytes:
        if exchange.judged.for_events:
            self._lobby.observer.rejected(problem.slug)
        log.debug("request.refused", extra={"fields": {"problem": problem.slug, "status": problem.status}})
        answer = problem_answer(problem, keep=exchange.keep, date=self._lobby.date)
        return answer if exchange.judged.method != b"HEAD" else answer[: answer.index(b"\r\n\r\n") + 4]

    def _settle(self, exchange: Exchange, answer: bytes) -> None:
        """Note an answer, and write as many as are next in order."""
        self._lobby.buffered_bytes -= exchange.size
        if self.gone:
            return
        exchange.answer = answer
        unanswered = self._open
        if unanswered[0] is not exchange:
            return
        ready: list[bytes] = []
        keep = True
        while keep and unanswered and (next_answer := unanswered[0].answer) is not None:
            ready.append(next_answer)
            keep = unanswered.popleft().keep
        self.owed -= len(ready)
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
        self.owed -= len(self._waiting)
        self._waiting.clear()

    def _hand_on(self, exchange: Exchange) -> None:
        self._lobby.buffered_bytes -= exchange.size
        self._inner_busy = True
        if self._inner is None:
            self._inner = self._make_inner()
        keep = exchange.keep and not self._lobby.draining
        judged = exchange.judged
        self._inner.handle(rewritten(judged.method, judged.head, exchange.take_body(), keep=keep), judged.grant)
