"""Reads one response after another from bytes, without I/O, and never believes more of it than it must."""

from __future__ import annotations

import httptools
from msgspec import Struct

from webhookd.core.attempt import EXCERPT_BYTES

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_RESPONSE_BYTES = 128 * 1024
"""Most that is read of a response that does not end; a chunk that completes one may be longer."""
MAX_INTERIM = 8
"""Responses with a 1xx status before the one that counts (RFC 9110 section 15.2)."""


class Answer(Struct, frozen=True, kw_only=True):
    """An answer: its status, a Retry-After as it came, the start of its body; `reusable` is what the reader says."""

    status: int
    retry_after: bytes | None
    excerpt: bytes
    reusable: bool


class ResponseReader:
    """Takes the status from the first final response and lets nothing that follows change it.

    After `begin`, feed it bytes until `finished`: then either `fault` says why this is no answer, or `status` stands.
    `reusable` holds when the response ended by itself, nothing came behind it and the server keeps the connection.
    """

    __slots__ = (
        "_body",
        "_bytes",
        "_complete",
        "_header_bytes",
        "_headers",
        "_interim",
        "_keep_alive",
        "_parser",
        "_surplus",
        "fault",
        "retry_after",
        "status",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Forget the last response and expect the next."""
        self.status = 0
        self.fault: str | None = None
        self.retry_after: bytes | None = None
        self._body = b""
        self._bytes = 0
        self._complete = False
        self._headers = 0
        self._header_bytes = 0
        self._interim = 0
        self._keep_alive = False
        self._surplus = False

    @property
    def finished(self) -> bool:
        """Say whether there is nothing more worth reading."""
        return (
            self._complete
            or self.fault is not None
            or (self.status != 0 and (self._surplus or len(self._body) >= EXCERPT_BYTES))
        )

    @property
    def reusable(self) -> bool:
        """Say whether the connection is clean for another request."""
        return self._complete and self._keep_alive and not self._surplus and self.fault is None

    @property
    def excerpt(self) -> bytes:
        """Return the start of the body, undecoded, at most EXCERPT_BYTES."""
        return self._body[:EXCERPT_BYTES]

    def answer(self) -> Answer:
        """Return what has been read."""
        return Answer(status=self.status, retry_after=self.retry_after, excerpt=self.excerpt, reusable=self.reusable)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; never raises."""
        if not self._bytes and data[:1] not in b"H\r\n":
            self.fault = "the answer is not HTTP"
            return
        room = max(0, MAX_RESPONSE_BYTES - self._bytes)
        self._bytes += len(data)
        if len(data) <= room:
            self._parse(data)
            return
        # Up to the bound first, so that what is too large is so in whatever pieces it comes.
        self._parse(data[:room])
        if not self.status:
            self._refuse("the headers of the answer are too large")
        elif not self._complete:
            self._parse(data[room:])
            self._surplus = self._surplus or not self._complete
        else:
            self._surplus = True

    def close(self) -> None:
        """Break the circle of references with the parser, so that memory is free at once."""
        del self._parser

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._surplus = True
        except httptools.HttpParserError as error:
            self._surplus = True
            if not self.status:
                self._refuse(f"the answer is not valid HTTP: {str(error).lower()}")

    def _refuse(self, why: str) -> None:
        if self.fault is None:
            self.fault = why

    # What follows is called by httptools.

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._header_bytes += len(name) + len(value)
        if self.status:
            return
        if self._headers > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            self._refuse("the headers of the answer are too large")
        elif len(name) == 11 and name.lower() == b"retry-after":
            self.retry_after = value

    def on_headers_complete(self) -> None:
        if self.status or self.fault is not None:
            return
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._refuse(f"the answer is HTTP/{version}, not HTTP/1.1")
        elif not 100 <= status <= 599:
            self._refuse(f"the answer has status {status}")
        elif status == 101:
            self._refuse("the answer switches protocols (101), which was not asked for")
        elif status < 200:
            self._interim += 1
            self.retry_after = None
            if self._interim > MAX_INTERIM:
                self._refuse(f"more than {MAX_INTERIM} interim answers (1xx)")
        else:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if self.status and not self._complete and len(self._body) < EXCERPT_BYTES:
            self._body += data[:EXCERPT_BYTES]

    def on_message_complete(self) -> None:
        if self.status and not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()
