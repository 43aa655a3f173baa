"""Servers that do exactly what a test writes down, byte for byte."""

import asyncio
import re
import socket
import struct


class RawServer:
    """Runs `behave(reader, writer)` for each connection, and counts connections and requests."""

    def __init__(self, behave):
        self._behave = behave
        self._tasks = set()
        self._server = None
        self.connections = 0
        self.requests = []
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()

    async def start(self, *, host="127.0.0.1", ssl=None):
        self._server = await asyncio.start_server(self._serve, host, 0, ssl=ssl, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if ssl else 'http'}://127.0.0.1:{self.port}/hook"
        return self

    async def stop(self):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def request(self, reader):
        """Read one whole request; raises IncompleteReadError where the client ends."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]))
        self.requests.append((head, body))
        self.arrived.set()
        return head, body

    async def _serve(self, reader, writer):
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._behave(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


def answering(*answers):
    """Give the answers in turn, the last one again and again, on kept-alive connections."""
    left = list(answers)

    async def behave(server, reader, writer):
        while True:
            await server.request(reader)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return behave


def reset(writer):
    """End the connection with RST instead of FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
