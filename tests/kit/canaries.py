"""Listens on every address that leads to this machine, and remembers who was reached."""

from __future__ import annotations

import asyncio
import re
import select
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address
from types import TracebackType
from typing import Self

_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Canaries:
    """Accepts on all of `ports`, over IPv4 and IPv6, while entered; answers 200 to plain HTTP, hangs up on all else.

    Made for a namespace in which every address is this machine's (`netns.run(everywhere=True)`).
    """

    def __init__(self, ports: Sequence[int], *, answer: bytes = _OK) -> None:
        self._ports = ports
        self._answer = answer
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._visits: list[tuple[str, int]] = []

    async def __aenter__(self) -> Self:
        for port in self._ports:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                listener = socket.socket(family, socket.SOCK_STREAM)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setblocking(False)
                listener.bind((host, port))
                listener.listen(1024)
                self._listeners.append(listener)
                self._spawn(listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def visits(self) -> list[tuple[str, int]]:
        """Return address and port of each connection that was made since the last call, once all are accepted."""
        # Asked of the kernel: what stands in its queue has been reached, whether or not our loop got to it.
        while select.select(self._listeners, [], [], 0)[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        # What is accepted is noted one turn of the loop later.
        for _ in range(3):
            await asyncio.sleep(0)
        found, self._visits = self._visits, []
        return found

    def _spawn(self, listener: socket.socket) -> None:
        self._keep(asyncio.ensure_future(self._accept(listener)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            host, port = connection.getsockname()[:2]
            if ":" in host and (mapped := IPv6Address(host.partition("%")[0]).ipv4_mapped):
                host = str(mapped)
            self._visits.append((host, port))
            self._keep(asyncio.ensure_future(self._serve(connection)))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        received = b""
        with connection:
            try:
                while (missing := _missing(received)) > 0:
                    more = await loop.sock_recv(connection, 65536)
                    if not more:
                        return
                    received += more
                if missing == 0:
                    await loop.sock_sendall(connection, self._answer)
            except ConnectionError:
                return


def _missing(received: bytes) -> int:
    """Return how much of a request is still to come, as far as is known; -1 for what is none."""
    if not b"POST".startswith(received[:4]):
        return -1
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return 1
    length = _LENGTH.search(head + b"\r\n")
    return 0 if length is None else max(0, int(length[1]) - len(body))
