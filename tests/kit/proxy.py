"""A small proxy that speaks CONNECT: records what it was asked for, and leads to where a test says."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(slots=True)
class ConnectProxy:
    """Listens on loopback while it is entered; usable in the loop it is entered in.

    `asked` has the target of each CONNECT, `heads` the whole request. A target is dialled where `names` says, as
    (host, port), else as it stands. With `answer` given, that is sent instead of a tunnel; `hang` sends nothing.
    """

    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    answer: bytes | None = None
    hang: bool = False
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
                await self._tunnel(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        assert method == b"CONNECT", head
        self.heads.append(head)
        self.asked.append(target.decode())
        if self.hang:
            await asyncio.Event().wait()
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
            return
        host, _, port = target.decode().rpartition(":")
        there = self.names.get(host, (host.strip("[]"), int(port)))
        try:
            onward_reader, onward = await asyncio.open_connection(*there)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
        finally:
            onward.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
