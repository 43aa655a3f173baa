"""One connection that speaks HTTP/1.1: a request out, its answer in.

Moments come from `time.monotonic`, the clock behind both event loops; uvloop's own `time()` shows only milliseconds.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol, cast

from webhookd.core.attempt import ErrorClass
from webhookd.net.failures import AttemptFailedError, StaleConnectionError, lost_failure
from webhookd.net.response import Answer, ResponseReader

WRITE_BYTES = 64 * 1024
"""What is handed to the transport at once; the rest of a large request follows as the receiver takes it."""
KNOWN_BYTES = 2048
"""Longest answer that is kept to be recognised when it comes again."""

_NOTHING = memoryview(b"")


class Asker(Protocol):
    """Who sent a request; hears either of its answer or of its failure, once."""

    def answered(self, answer: Answer, now: float, *, reusable: bool) -> None:
        """Take the answer, complete at `now`; `reusable` says whether the connection is clean for another request."""

    def failed(self, error: AttemptFailedError | StaleConnectionError) -> None:
        """Take what there is in place of an answer; the connection has been dropped."""

    def body_begun(self, now: float) -> None:
        """Hear that the headers were complete at `now`, and the body is not."""


class Connection(asyncio.Protocol):
    """A connection for one request at a time; whoever holds it decides whether it is kept or dropped afterwards.

    Bytes that nobody asked for, or the end of the connection, make it unusable at once (`is_open`). It has no sense of
    time: who asks says when that is over.
    """

    __slots__ = (
        "_asker",
        "_known",
        "_known_data",
        "_paused",
        "_reader",
        "_reading_body",
        "_transport",
        "_unsent",
        "_used",
        "descriptor",
        "first_byte_at",
        "lost",
        "opened_at",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None
        self._asker: Asker | None = None
        self._unsent = _NOTHING
        self._paused = False
        self._reading_body = False
        self._used = False
        self._known: Answer | None = None
        self._known_data = b""
        self.descriptor = -1
        self.first_byte_at = 0.0
        self.opened_at = monotonic()
        self.lost: asyncio.Future[None] = loop.create_future()

    def __repr__(self) -> str:
        state = "in use" if self._asker is not None else "open" if self.is_open else "closed"
        return f"<Connection {state}>"

    @property
    def is_open(self) -> bool:
        """Say whether a request could be sent, as far as is known here."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, asker: Asker, head: bytes, payload: bytes) -> None:
        """Send `head` and `payload`; what comes back goes to `asker`, possibly before all is sent.

        It hears of AttemptFailedError (timeout, protocol, tls), or of StaleConnectionError if this is not the first
        request and the connection ended before any byte; not before this has returned. Raises the same if the
        connection has ended already.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise StaleConnectionError if self._used else lost_failure(None)
        self._asker = asker
        self._reading_body = False
        self.first_byte_at = 0.0
        if len(payload) <= WRITE_BYTES:
            transport.write(head + payload)
        else:
            transport.write(head)
            self._unsent = memoryview(payload)
            self._send_more()

    def out_of_time(self, limit_seconds: float) -> None:
        """End the request with what there is of an answer; `limit_seconds` is what its time is called in the error."""
        if self.first_byte_at and self._reader.status:
            self._conclude(monotonic())
            return
        if self.first_byte_at:
            phase = "reading the headers"
        elif self._has_unsent():
            phase = "sending the request"
        else:
            phase = "waiting for the first byte"
        self._fail(AttemptFailedError(ErrorClass.TIMEOUT, f"no answer within {limit_seconds:g} s ({phase})"))

    def drop(self) -> None:
        """Close at once, without flushing and without a farewell, and tell nobody; harmless when closed."""
        self._asker = None
        self._unsent = _NOTHING
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        asker = self._asker
        if asker is None:
            self.drop()
            return
        reader = self._reader
        if not self.first_byte_at:
            now = self.first_byte_at = monotonic()
            # The parser stands where it stood before the last answer, and would come to the same end.
            if data == self._known_data and self._known is not None:
                self._tell(self._known, now)
                return
            reader.begin()
            reader.feed(data)
            if reader.finished:
                if reader.reusable and len(data) <= KNOWN_BYTES:
                    self._known, self._known_data = reader.answer(), data
                self._conclude(now)
                return
        else:
            reader.feed(data)
            if reader.finished:
                self._conclude(monotonic())
                return
        if reader.status and not self._reading_body:
            self._reading_body = True
            asker.body_begun(monotonic())

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

    def _send_more(self) -> None:
        transport = self._transport
        while self._unsent and not self._paused and transport is not None and not transport.is_closing():
            chunk = self._unsent[:WRITE_BYTES]
            self._unsent = self._unsent[WRITE_BYTES:]
            transport.write(chunk)

    def _has_unsent(self) -> bool:
        return bool(self._unsent) or (self._transport is not None and self._transport.get_write_buffer_size() > 0)

    def _conclude(self, now: float) -> None:
        reader = self._reader
        if reader.fault is not None:
            self._fail(AttemptFailedError(ErrorClass.PROTOCOL, reader.fault))
        else:
            self._tell(reader.answer(), now)

    def _tell(self, answer: Answer, now: float) -> None:
        asker, self._asker = self._asker, None
        self._used = True
        if asker is not None:
            # After a request that was not sent to its end, the next would be taken for the rest of it.
            reusable = answer.reusable and not self._has_unsent()
            self._unsent = _NOTHING
            asker.answered(answer, now, reusable=reusable)

    def _fail(self, error: AttemptFailedError | StaleConnectionError) -> None:
        asker = self._asker
        self.drop()
        if asker is not None:
            asker.failed(error)

    def _ended(self, error: Exception | None) -> None:
        if self._asker is None:
            return
        if self.first_byte_at and self._reader.status:
            self._conclude(monotonic())
        elif self._used and not self.first_byte_at:
            self._fail(StaleConnectionError())
        else:
            self._fail(lost_failure(error))
