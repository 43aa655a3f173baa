"""A name server on UDP and TCP that answers by a table, badly where a test says so (RFC 1035)."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5

_A, _CNAME, _AAAA = 1, 5, 28
_UDP_BYTES = 512
_TRUNCATED = 0x0200
_RESPONSE = 0x8180


@dataclass(frozen=True, slots=True)
class Addresses:
    """Every address of a name, by way of `alias` if that is given; too many for a datagram are left to TCP."""

    addresses: tuple[str, ...]
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """No answer but a response code."""

    rcode: int


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing at all; with `truncated`, a datagram that says to ask over TCP, and nothing there."""

    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no answer."""


Answer = Addresses | Code | Silence | Garbage


class NameServer:
    """Listens on `host` while entered; names that are not in `names` do not exist.

    A callable in `names` is given how often the name was asked for with that type before. `asked` counts questions over
    UDP by name, both types together; `asked_over_tcp` the same for TCP.
    """

    def __init__(
        self, names: dict[str, Answer | Callable[[int], Answer]], *, host: str = "127.0.0.1", port: int = 53
    ) -> None:
        self.names = names
        self.asked: Counter[str] = Counter()
        self.asked_over_tcp: Counter[str] = Counter()
        self._where = (host, port)
        self._by_type: Counter[tuple[str, int]] = Counter()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), self._where)
        self._tcp = await asyncio.start_server(self._serve, *self._where)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._udp is not None
        assert self._tcp is not None
        self._udp.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tcp.wait_closed()

    def respond(self, query: bytes, *, over_tcp: bool) -> bytes | None:
        """Return what to answer to `query`, None for nothing."""
        name, kind = _question(query)
        (self.asked_over_tcp if over_tcp else self.asked)[name] += 1
        found = self.names.get(name, Code(NXDOMAIN))
        if callable(found):
            found = found(self._by_type[name, kind])
        self._by_type[name, kind] += 1
        match found:
            case Silence(truncated=True) if not over_tcp:
                return _response(query, flags=_RESPONSE | _TRUNCATED)
            case Silence():
                return None
            case Garbage():
                return query[:2] + b"\xff" * 40
            case Code(rcode=rcode):
                return _response(query, flags=_RESPONSE | rcode)
            case Addresses():
                records = _records(name, kind, found)
                whole = _response(query, flags=_RESPONSE, records=records)
                if over_tcp or len(whole) <= _UDP_BYTES:
                    return whole
                return _response(query, flags=_RESPONSE | _TRUNCATED)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                answer = self.respond(await reader.readexactly(length), over_tcp=True)
                if answer is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    _transport: asyncio.DatagramTransport

    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.DatagramTransport by inheritance.
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.respond(data, over_tcp=False)
        if answer is not None:
            self._transport.sendto(answer, addr)


def _question(query: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while (length := query[at]) != 0:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels), kind


def _response(query: bytes, *, flags: int, records: tuple[bytes, ...] = ()) -> bytes:
    at = 12
    while query[at] != 0:
        at += 1 + query[at]
    question = query[12 : at + 5]
    header = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
    return header + question + b"".join(records)


def _records(name: str, kind: int, found: Addresses) -> tuple[bytes, ...]:
    owner = _name(name)
    records = []
    if found.alias is not None:
        records.append(_record(owner, _CNAME, _name(found.alias)))
        owner = _name(found.alias)
    for text in found.addresses:
        address = ip_address(text)
        if kind == (_A if address.version == 4 else _AAAA):
            records.append(_record(owner, kind, address.packed))
    return tuple(records)


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
