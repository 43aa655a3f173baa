"""Listening sockets: binding them safely, and accepting without drowning when descriptors run out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from webhookd.core.settings import TcpAddress, UnixAddress

log = logging.getLogger("webhookd.api")

BACKLOG = 1024
LONGEST_PATH_BYTES = 107
ACCEPTS_PER_TURN = 64
STARVED_PAUSE_SECONDS = 0.5
STARVED_TOLD_SECONDS = 60.0
_STARVED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def bind(address: UnixAddress | TcpAddress) -> socket.socket:
    """Return a listening, non-blocking socket. Raises OSError where the address cannot be had."""
    return _bind_unix(address) if isinstance(address, UnixAddress) else _bind_tcp(address)


def _bind_tcp(address: TcpAddress) -> socket.socket:
    family, kind, protocol, _, sockaddr = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(sockaddr)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(address: UnixAddress) -> socket.socket:
    """Bind under a temporary name, set the mode, listen, and only then take the real name.

    So nobody ever finds a socket there with a wider mode, or one that does not listen yet; and the name is only taken
    from a socket that refuses connections.
    """
    path = address.path
    if str(path).startswith(("@", "\0")):
        raise OSError(errno.EINVAL, "abstract socket names are not supported, they have no permissions")
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"the path is too long for a socket, which has {LONGEST_PATH_BYTES} bytes")
    _require_stale(path)
    passing = path.parent / f".{os.getpid()}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        passing.unlink(missing_ok=True)
        # The descriptor's mode is what bind() gives the file; the umask can only narrow it, and chmod makes it exact.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(passing))
        passing.chmod(address.mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        passing.rename(path)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            passing.unlink()
        raise
    return sock


def _require_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something that is not a socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise OSError(errno.EADDRINUSE, f"a socket is in the way that does not say it is dead: {error}") from error
    raise OSError(errno.EADDRINUSE, "another process listens there")


class Listener:
    """Accepts on one listening socket until it is closed.

    Without descriptors to spare it makes room with `evict`, and failing that lets the backlog wait for a moment, with
    one line a minute in the log; the socket is never dropped for it. Any other failure is told to `fail`. A `path` that
    the socket was bound to goes with it.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        evict: Callable[[], bool],
        fail: Callable[[BaseException], None],
        path: Path | None = None,
    ) -> None:
        self._sock = sock
        self._path = path
        self._make_protocol = make_protocol
        self._evict = evict
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._told_at = float("-inf")
        sock.setblocking(False)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept no more; harmless when repeated. What waits in the backlog stays there if others hold the socket."""
        if self._sock.fileno() < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock)
        if self._path is not None:
            # While we still listen, nobody else takes the name; so what is unlinked here is ours.
            self._path.unlink(missing_ok=True)
        self._sock.close()

    async def settled(self) -> None:
        """Return once every accepted connection has its protocol."""
        if self._starting:
            await asyncio.wait(self._starting)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _STARVED:
                    self._pause(error)
                else:
                    self.close()
                    self._fail(error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._start(connection))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            # The client left before we came to it.
            connection.close()

    def _pause(self, error: OSError) -> None:
        # Each place that is made is taken at once, so a success in between says nothing.
        if self._loop.time() - self._told_at >= STARVED_TOLD_SECONDS:
            self._told_at = self._loop.time()
            log.warning("listener.starved", extra={"fields": {"error": os.strerror(error.errno or 0)}})
        self._evict()
        self._loop.remove_reader(self._sock)
        self._resume = self._loop.call_later(STARVED_PAUSE_SECONDS, self._loop.add_reader, self._sock, self._accept)
