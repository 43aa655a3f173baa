"""Receivers that misbehave on the wire: what each of them does, and what has to come of it."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PATIENT_SECONDS = 30.0
QUICK_SECONDS = 2.5
"""The deadline where it is meant to be reached."""
EXCERPT_SECONDS = 2.0
EXCERPT_BYTES = 4096
SLACK_SECONDS = 8.0
"""What a machine under full load may add."""
ZEROS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a receiver does, and what has to come of it: a status, or a class of error with words of its text.

    `steps` are bytes to send, seconds to wait, "end" (FIN), "reset" (RST), or a list that is repeated without end;
    after them the connection stays open, for the next request if there is one. They begin when the request was read up
    to `after`: connect, head or body. Only where the answer `may_be_kept` is its connection used again.
    """

    steps: tuple[bytes | float | str | list[bytes | float], ...]
    status: int | None = None
    error: str | None = None
    why: str = ""
    excerpt: bytes | None = None
    after: str = "body"
    tls: bool = False
    timeout_seconds: float = PATIENT_SECONDS
    within_seconds: float = SLACK_SECONDS
    size_bytes: int = 20
    may_be_kept: bool = False


def answer(*steps: bytes | float | str | list[bytes | float], status: int = 200, **more: Any) -> Row:
    return Row(steps=steps, status=status, **more)


def broken(why: str, *steps: bytes | float | str | list[bytes | float], error: str = "protocol", **more: Any) -> Row:
    return Row(steps=steps, error=error, why=why, **more)


def too_late(why: str, *steps: bytes | float | str | list[bytes | float], **more: Any) -> Row:
    within = QUICK_SECONDS + SLACK_SECONDS
    return Row(steps=steps, error="timeout", why=why, timeout_seconds=QUICK_SECONDS, within_seconds=within, **more)


def bomb(window_bits: int) -> bytes:
    """Return fifty megabytes of zeros in a few hundred bytes a megabyte."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, window_bits)
    return squeezer.compress(bytes(ZEROS)) + squeezer.flush()


BOMB = bomb(31)
DRIP = EXCERPT_SECONDS + SLACK_SECONDS

ROWS: dict[str, Row] = {
    # No answer at all.
    "nothing": too_late("waiting for the first byte"),
    "end": broken("closed before an answer", "end"),
    "reset": broken("broke before an answer", "reset"),
    "end before the request": broken("", "end", after="connect"),
    "garbage": broken("not HTTP", b"\x00\x01\x02\xff garbage"),
    "http 0.9": broken("not HTTP", b"<html>welcome to 1991</html>", "end"),
    "ssh": broken("not HTTP", b"SSH-2.0-OpenSSH_9.2\r\n"),
    "tls alert in plain": broken("not HTTP", b"\x15\x03\x01\x00\x02\x02\x46"),
    "http 2 settings": broken("not HTTP", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "a request": broken("not valid HTTP", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"),
    # Status lines.
    "status 000": broken("status 0", b"HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n"),
    "status 99": broken("not valid HTTP", b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n"),
    "status 600": broken("status 600", b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n"),
    "status 999": broken("status 999", b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n"),
    "status 1000": broken("not valid HTTP", b"HTTP/1.1 1000 Long\r\nContent-Length: 0\r\n\r\n"),
    "status 2xx": broken("not valid HTTP", b"HTTP/1.1 2xx Fine\r\nContent-Length: 0\r\n\r\n"),
    "status -200": broken("not valid HTTP", b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n"),
    "status 200OK": broken("not valid HTTP", b"HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n"),
    "no status": broken("not valid HTTP", b"HTTP/1.1\r\n\r\n"),
    "http 2.0": broken("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "http 0.9 by name": broken("HTTP/0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "reason with a bell and colours": answer(
        b"HTTP/1.1 200 \x07\x1b[31mOK\r\nContent-Length: 2\r\n\r\nok", may_be_kept=True
    ),
    "reason of 100 KB": answer(
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok", may_be_kept=True
    ),
    "endless reason": broken("too large", b"HTTP/1.1 200 ", [b"x" * 4096]),
    "no reason": answer(b"HTTP/1.1 204\r\n\r\n", status=204, may_be_kept=True),
    "blank lines first": answer(b"\r\n\r\n" + OK, may_be_kept=True),
    "endless blank lines": broken("too large", [b"\r\n" * 2048]),
    # Interim answers.
    "early hints": answer(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, may_be_kept=True),
    "flood of interim answers": broken("interim", [b"HTTP/1.1 102 Processing\r\n\r\n" * 100]),
    "interim answers that drip": broken("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", 0.05]),
    "interim and no more": too_late("reading the headers", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "switching protocols": broken("101", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + OK),
    "interim with a body": broken("not valid HTTP", b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + OK),
    # Headers.
    "endless header": broken("too large", HEAD + b"X: ", [b"a" * 4096]),
    "endless headers": broken("too large", HEAD, [b"X-Y: z\r\n" * 500]),
    "header of 70 KB": broken("too large", HEAD + b"X: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "header of 60 KB": answer(HEAD + b"X: " + b"a" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n", may_be_kept=True),
    "two lengths": broken("not valid HTTP", HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    "length and chunks": broken(
        "not valid HTTP", HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "chunks and length": broken(
        "not valid HTTP", HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "negative length": broken("not valid HTTP", HEAD + b"Content-Length: -1\r\n\r\n"),
    "length over 64 bits": broken("not valid HTTP", HEAD + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "length of 5,000 zeros": answer(HEAD + b"Content-Length: " + b"0" * 5000 + b"\r\n\r\n", may_be_kept=True),
    "header without a colon": broken("not valid HTTP", HEAD + b"hello there\r\n\r\n"),
    "nul in a header": broken("not valid HTTP", HEAD + b"X: \x00\r\n\r\n"),
    "folded header": broken("not valid HTTP", HEAD + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    "space before the colon": broken("not valid HTTP", HEAD + b"Content-Length : 2\r\n\r\nok"),
    # Slowness.
    "dripping status line": too_late("reading the headers", b"HTTP/1.1 200 O", [b"K", 0.2]),
    "dripping headers": too_late("reading the headers", HEAD, [b"X: y\r\n", 0.2]),
    "dripping body": answer(HEAD + b"Content-Length: 1000000\r\n\r\n", [b"x", 0.2], within_seconds=DRIP),
    "body that stops": answer(HEAD + b"Content-Length: 100\r\n\r\nhalf", excerpt=b"half", within_seconds=DRIP),
    "chunks that drip": answer(CHUNKED, [b"1\r\nx\r\n", 0.2], within_seconds=DRIP),
    # Bodies.
    "endless body": answer(HEAD + b"\r\n", [b"x" * 65536], excerpt=b"x" * EXCERPT_BYTES),
    "endless chunks": answer(CHUNKED, [b"1000\r\n" + b"x" * 4096 + b"\r\n"], excerpt=b"x" * EXCERPT_BYTES),
    "endless chunk": answer(CHUNKED + b"fffffffffffffff\r\n", [b"x" * 65536], excerpt=b"x" * EXCERPT_BYTES),
    "endless chunk extension": answer(CHUNKED + b"1;", [b"x" * 4096]),
    "endless trailers": answer(CHUNKED + b"2\r\nok\r\n0\r\n", [b"X: y\r\n" * 500], excerpt=b"ok"),
    "chunk size of nonsense": answer(CHUNKED + b"zz\r\n"),
    "chunk size over 64 bits": answer(CHUNKED + b"fffffffffffffffff\r\n"),
    "length too long": answer(HEAD + b"Content-Length: 100\r\n\r\nshort", "end", excerpt=b"short"),
    "length too short": answer(HEAD + b"Content-Length: 2\r\n\r\nok and more", excerpt=b"ok"),
    "reset in the body": answer(HEAD + b"Content-Length: 100\r\n\r\nshort", 0.3, "reset", excerpt=b"short"),
    "ended by the connection": answer(HEAD + b"\r\nall of it", "end", excerpt=b"all of it"),
    "body of a 204": answer(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", status=204, excerpt=b""),
    "gzip bomb": answer(
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB),
        BOMB,
        excerpt=BOMB[:EXCERPT_BYTES],
        may_be_kept=True,
    ),
    "gzip bomb as transfer coding": answer(
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n", BOMB, "end", excerpt=BOMB[:EXCERPT_BYTES]
    ),
    "body that says brotli": answer(
        HEAD + b"Content-Encoding: br\r\nContent-Length: 4\r\n\r\n\xcf\xff\xff\x7f",
        excerpt=b"\xcf\xff\xff\x7f",
        may_be_kept=True,
    ),
    "body that says zstandard": answer(
        HEAD + b"Content-Encoding: zstd\r\nContent-Length: 4\r\n\r\n\x28\xb5\x2f\xfd",
        excerpt=b"\x28\xb5\x2f\xfd",
        may_be_kept=True,
    ),
    # Answers that do not wait for the request.
    "refused early": answer(
        b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig",
        status=413,
        excerpt=b"big",
        after="head",
        size_bytes=200_000,
    ),
    "refused early and ended": answer(
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig", "end", status=413, after="head", size_bytes=200_000
    ),
    "acknowledged before the body": answer(OK, after="head", size_bytes=200_000, may_be_kept=True),
    "never reads": too_late("", after="connect", size_bytes=200_000),
    # Failures by status stay failures, whatever else is said.
    "redirect to inside": answer(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        status=302,
        may_be_kept=True,
    ),
    "proxy's question": answer(
        b"HTTP/1.1 407 Proxy\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", status=407, may_be_kept=True
    ),
    "question for a password": answer(
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n", status=401, may_be_kept=True
    ),
    "cookies": answer(HEAD + b"Set-Cookie: a=b\r\n" * 150 + b"Content-Length: 2\r\n\r\nok", may_be_kept=True),
    # TLS.
    "alert for a hello": broken("", b"\x15\x03\x01\x00\x02\x02\x28", error="tls", tls=True),
    "plain answer to a hello": broken("", OK, error="tls", tls=True, after="connect"),
    "garbage to a hello": broken("", b"\x16\x03\x03\xff\xff" + b"\x00" * 70_000, error="tls", tls=True),
    "end to a hello": broken("", "end", error="tls", tls=True),
    "reset to a hello": broken("", "reset", error="tls", tls=True),
    "silence to a hello": too_late("TLS handshake", tls=True, after="connect"),
    "dripping hello": too_late("TLS handshake", b"\x16\x03\x03\x40\x00", [b"\x02", 0.2], tls=True, after="connect"),
}


@dataclass(slots=True)
class Hostile:
    """Plays one row to everybody who connects."""

    row: Row
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._play(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._wait(reader)
            for step in self.row.steps:
                match step:
                    case "end":
                        writer.write_eof()
                    case "reset":
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        return
                    case list():
                        while True:
                            for inner in step:
                                await self._step(writer, inner)
                    case _:
                        await self._step(writer, step)
            if self.row.after == "connect" or self.row.tls:
                # Never to read is what fills the pipe.
                reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
                await asyncio.sleep(3600)

    async def _wait(self, reader: asyncio.StreamReader) -> None:
        if self.row.tls:
            await reader.readexactly(1)
        elif self.row.after != "connect":
            head = await reader.readuntil(b"\r\n\r\n")
            if self.row.after == "body":
                await reader.readexactly(length_of(head))

    @staticmethod
    async def _step(writer: asyncio.StreamWriter, step: bytes | float | str) -> None:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            # To a peer that has gone asyncio writes into the void, without ever giving way.
            await asyncio.sleep(0)
            if writer.transport.is_closing():
                raise ConnectionResetError
        else:
            await asyncio.sleep(float(step))


def length_of(head: bytes) -> int:
    """Return the length a request announces."""
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
    assert found is not None
    return int(found[1])
