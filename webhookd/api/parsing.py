"""The parser of a connection's requests, which takes an offer to speak another protocol for what it is, an offer."""

from __future__ import annotations

from typing import Protocol

from httptools import HttpParserUpgrade, HttpRequestParser

from webhookd.api.heads import Head, without_upgrade
from webhookd.api.problems import malformed


class Reader(Protocol):
    """Who is told what the parser reads, by the methods that httptools calls; `head` is that of the present request."""

    head: Head
    upgrading: bool


class Parser:
    """httptools' parser, made to read on as if no other protocol had been asked for (RFC 9110, section 7.8)."""

    __slots__ = ("_reader", "now")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.now = HttpRequestParser(reader)
        """The one that reads at present; it can be asked about the request."""

    def feed(self, data: bytes) -> None:
        """Read on. Raises HttpParserError, or InvalidRequestError for who takes us for a proxy."""
        rest: memoryview | None = None
        try:
            self.now.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = memoryview(data)[upgrade.args[0] :]
        # Not while an upgrade is being handled: it would become the context, and so the cause, of what comes up.
        while rest is not None:
            rest = self._read_on(rest)

    def _read_on(self, rest: memoryview) -> memoryview | None:
        self._reader.upgrading = False
        method = self.now.get_method()
        if method == b"CONNECT":
            raise malformed("this is no proxy")
        head = without_upgrade(method, self._reader.head, self.now.get_http_version())
        self.now = HttpRequestParser(self._reader)
        try:
            self.now.feed_data(head)
            self.now.feed_data(rest)
        except HttpParserUpgrade as upgrade:
            return rest[upgrade.args[0] :]
        return None
