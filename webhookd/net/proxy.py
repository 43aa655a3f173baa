"""The way through a proxy: a CONNECT that asks for a tunnel (RFC 9110 section 9.3.6), before anything else is sent."""

from __future__ import annotations

import asyncio
import re
import socket
from ipaddress import IPv4Address

from webhookd.core.addresses import Address, Target
from webhookd.core.attempt import ErrorClass
from webhookd.net.failures import AttemptFailedError

MAX_ANSWER_BYTES = 16 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")
_MAX_INTERIM = 8
_REASON_CHARACTERS = 80


async def open_tunnel(sock: socket.socket, target: Target, proxy: str) -> None:
    """Have `proxy`, at the other end of the socket, connect it through to `target`.

    The host goes to the proxy as it stands in the URL and is resolved there. Raises AttemptFailedError of class local:
    a proxy that refuses is part of our own network, and nothing that a receiver could repair.
    """
    loop = asyncio.get_running_loop()
    host = f"[{target.host}]" if ":" in target.host else target.host
    where = f"{host}:{target.port}"
    try:
        await loop.sock_sendall(sock, f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        status, reason = await _answer(loop, sock)
    except OSError as error:
        raise proxy_failure(proxy, f"the connection broke: {error.strerror or error}".lower()) from error
    except ValueError as error:
        raise proxy_failure(proxy, str(error)) from None
    if not 200 <= status <= 299:
        said = f"{status} {reason}".rstrip()
        hint = ", so it wants to know who we are" if status == 407 else ""
        raise proxy_failure(proxy, f"it answered {said} to CONNECT {where}{hint}", no_way=False)


def proxy_failure(proxy: str, text: str, *, no_way: bool | None = None) -> AttemptFailedError:
    """Return the error of an attempt that did not get past the proxy; one that answers is a way (`no_way` False)."""
    return AttemptFailedError(ErrorClass.LOCAL, f"the proxy {proxy}: {text}", no_way=no_way)


def as_dialled(target: Target) -> Address | None:
    """Return the address that a resolver makes of the host without asking anybody, None for an ordinary name.

    The C library takes `127.1`, `2130706433` and `0x7f.1` for 127.0.0.1, and so may the proxy.
    """
    if target.literal is not None:
        return target.literal
    host = target.host.removesuffix(".")
    # RFC 6761 section 6.3
    if host == "localhost" or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


async def _answer(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> tuple[int, str]:
    """Return status and reason of the final answer; ValueError for what is none."""
    received = b""
    for _ in range(_MAX_INTERIM + 1):
        while (end := _end_of_head(received)) is None:
            if len(received) > MAX_ANSWER_BYTES:
                raise ValueError("its answer to CONNECT does not end")
            more = await loop.sock_recv(sock, 4096)
            if not more:
                raise ValueError("it closed the connection without an answer to CONNECT")
            received += more
        line = _STATUS.match(received)
        if line is None:
            raise ValueError("its answer to CONNECT is not HTTP")
        status, received = int(line[1]), received[end:]
        if status < 200:
            continue
        if received and status < 300:
            # We speak first in the tunnel, whatever it leads to.
            raise ValueError("it sent more than an answer to CONNECT")
        reason = (line[2] or b"").decode("ascii", "replace")
        return status, "".join(c if c.isprintable() else "?" for c in reason)[:_REASON_CHARACTERS]
    raise ValueError("it gave too many interim answers to CONNECT")


def _end_of_head(received: bytes) -> int | None:
    end = re.search(rb"\r?\n\r?\n", received)
    return None if end is None else end.end()
