"""One connection that speaks HTTP/1.1: a request out, its answer in, within one deadline.

Moments come from `time.monotonic`, the clock behind both event loops; uvloop's own `time()` shows only milliseconds.
"""

from __future__ import annotations

import asyncio
import select
from time import monotonic
from typing import cast

from msgspec import Struct

from webhookd.core.attempt import ErrorClass
from webhookd.net.failures import AttemptFailedError, StaleConnectionError, lost_failure
from webhookd.net.response import ResponseReader

BODY_SECONDS = 2.0
"""Longest wait for an excerpt of the body once the headers are complete."""
WRITE_BYTES = 64 * 1024
"""What is handed to the transport at once; the rest of a large request follows as the receiver takes it."""


class Reply(Struct, frozen=True, kw_only=True):
    """An answer: its status, a Retry-After as it came, the start of its body, and the wait for its first byte."""

    status: int
    retry_after: bytes | None
    excerpt: bytes
    first_byte_ms: float
    reusable: bool


class Connection(asyncio.Protocol):
    """A connection for one request at a time; whoever holds it decides whether it is kept or dropped afterwards.

    Bytes that nobody asked for, or the end of the connection, make it unusable at once (`is_open`).
    """

    __slots__ = (
        "_deadline",
        "_first_byte_at",
        "_limit_seconds",
        "_loop",
        "_paused",
        "_reader",
        "_reading_body",
        "_sent_at",
        "_timer",
        "_transport",
        "_unsent",
        "_used",
        "_waiter",
        "lost",
        "opened_at",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = memoryview(b"")
        self._paused = False
        self._reading_body = False
        self._used = False
        self._sent_at = 0.0
        self._first_byte_at = 0.0
        self._deadline = 0.0
        self._limit_seconds = 0.0
        self.opened_at = monotonic()
        self.lost: asyncio.Future[None] = loop.create_future()

    def __repr__(self) -> str:
        state = "in use" if self._waiter is not None else "open" if self.is_open else "closed"
        return f"<Connection {state}>"

    @property
    def is_open(self) -> bool:
        """Say whether a request could be sent, as far as is known here."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, head: bytes, payload: bytes, *, deadline: float, limit_seconds: float) -> Reply:
        """Send `head` and `payload` and return the answer, by `deadline`.

        `limit_seconds` is only what the deadline is called in the error. The answer may come before all is sent. Raises
        AttemptFailedError (timeout, protocol, tls), or StaleConnectionError if this is not its first exchange and it
        ended before any byte. Cancelling drops the connection.
        """
        transport = self._transport
        if self._used and self._has_unread():
            self.drop()
        if transport is None or transport.is_closing():
            raise StaleConnectionError if self._used else lost_failure(None)
        loop = self._loop
        self._reader.begin()
        self._reading_body = False
        self._first_byte_at = 0.0
        self._deadline = deadline
        self._limit_seconds = limit_seconds
        self._sent_at = monotonic()
        self._timer = loop.call_at(deadline, self._out_of_time)
        waiter: asyncio.Future[Reply] = loop.create_future()
        self._waiter = waiter
        if len(payload) <= WRITE_BYTES:
            transport.write(head + payload)
        else:
            transport.write(head)
            self._unsent = memoryview(payload)
            self._send_more()
        try:
            return await waiter
        except asyncio.CancelledError:
            self.drop()
            raise
        finally:
            self._used = True

    def drop(self) -> None:
        """Close at once, without flushing and without a farewell; harmless when closed."""
        self._settle()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.drop()
            return
        if not self._first_byte_at:
            self._first_byte_at = monotonic()
        reader = self._reader
        reader.feed(data)
        if reader.finished:
            self._conclude()
        elif reader.status and not self._reading_body:
            self._reading_body = True
            self._restart_timer(min(self._deadline, monotonic() + BODY_SECONDS))

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        self._transport = None
        self._reader.close()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send_more()

    def _has_unread(self) -> bool:
        """Say whether the kernel holds what the loop has not got to yet: its end, or bytes that nobody asked for.

        Read after the next request has gone out, such bytes would pass for its answer. Origins are shared by endpoints,
        so it might not even be the endpoint that is asked which sent them.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _send_more(self) -> None:
        transport = self._transport
        while self._unsent and not self._paused and transport is not None and not transport.is_closing():
            chunk = self._unsent[:WRITE_BYTES]
            self._unsent = self._unsent[WRITE_BYTES:]
            transport.write(chunk)

    def _restart_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._out_of_time)

    def _settle(self) -> asyncio.Future[Reply] | None:
        """End the exchange, if there is one; return its waiter if somebody still waits."""
        waiter, self._waiter = self._waiter, None
        self._unsent = memoryview(b"")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return None if waiter is None or waiter.done() else waiter

    def _conclude(self) -> None:
        reader = self._reader
        if reader.fault is not None:
            self._fail(AttemptFailedError(ErrorClass.PROTOCOL, reader.fault))
            return
        transport = self._transport
        unsent = bool(self._unsent) or (transport is not None and transport.get_write_buffer_size() > 0)
        waiter = self._settle()
        if waiter is not None:
            waiter.set_result(
                Reply(
                    status=reader.status,
                    retry_after=reader.retry_after,
                    excerpt=reader.excerpt,
                    first_byte_ms=(self._first_byte_at - self._sent_at) * 1000,
                    reusable=reader.reusable and not unsent,
                )
            )

    def _fail(self, error: Exception) -> None:
        waiter = self._settle()
        if waiter is not None:
            waiter.set_exception(error)
        self.drop()

    def _ended(self, error: Exception | None) -> None:
        if self._waiter is None:
            return
        if self._reader.status:
            self._conclude()
        elif self._used and not self._first_byte_at:
            self._fail(StaleConnectionError())
        else:
            self._fail(lost_failure(error))

    def _out_of_time(self) -> None:
        self._timer = None
        if self._reader.status:
            self._conclude()
            return
        if self._first_byte_at:
            phase = "reading the headers"
        elif self._unsent or (self._transport is not None and self._transport.get_write_buffer_size() > 0):
            phase = "sending the request"
        else:
            phase = "waiting for the first byte"
        self._fail(AttemptFailedError(ErrorClass.TIMEOUT, f"no answer within {self._limit_seconds:g} s ({phase})"))
