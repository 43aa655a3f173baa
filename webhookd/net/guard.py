"""Opens connections, and only to checked addresses: one lookup, one judgement over all its answers, one dial."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from time import monotonic

from webhookd.core.addresses import Address, Target, is_listed, judge, parse_target, unwrap
from webhookd.core.attempt import ErrorClass, Phases
from webhookd.core.settings import NetworkRules, TlsFiles
from webhookd.net.client import Connection
from webhookd.net.failures import AttemptFailedError, dial_failure, tls_failure
from webhookd.net.proxy import as_dialled, open_tunnel, proxy_failure
from webhookd.net.resolver import Resolver, SockAddr
from webhookd.net.tls import TlsContexts

MAX_DIALS = 8
"""Addresses that are tried of a name that has more."""


@dataclass(slots=True)
class PhaseClock:
    """Notes how long each phase took, in milliseconds, also when a later one fails."""

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None

    def phases(self) -> Phases:
        """Return what was noted so far."""
        return Phases(
            dns_ms=self.dns_ms, connect_ms=self.connect_ms, tls_ms=self.tls_ms, first_byte_ms=self.first_byte_ms
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """What a dial may take: `connect_seconds` for each of lookup, connecting and TLS, and all of it by `total_at`.

    The latter is a moment of `time.monotonic`; `total_seconds` is what the whole is called in an error.
    """

    connect_seconds: float
    total_seconds: float
    total_at: float

    def phase(self, now: float) -> tuple[float, float]:
        """Return when a phase that starts now must end, and how many seconds to name if it does not."""
        if now + self.connect_seconds < self.total_at:
            return now + self.connect_seconds, self.connect_seconds
        return self.total_at, self.total_seconds


class Dialer:
    """Dials by the rules in force at that moment; `rules` may be replaced at any time."""

    def __init__(self, rules: NetworkRules, resolver: Resolver, contexts: TlsContexts) -> None:
        self.rules = rules
        self._resolver = resolver
        self._contexts = contexts

    async def dial(self, target: Target, tls: TlsFiles | None, deadlines: Deadlines, clock: PhaseClock) -> Connection:
        """Return an open connection to an address of `target` that may be dialled, or through the proxy.

        Raises AttemptFailedError; one forbidden answer refuses all of them (class blocked), since a name that mixes
        public and private addresses is either broken or hostile.
        """
        context = await self._contexts.find(tls) if target.scheme == "https" else None
        if self.rules.proxy is not None:
            sock = await self._connect_through(self.rules.proxy, target, deadlines, clock)
        else:
            addresses = await self._addresses(target, deadlines, clock)
            for _, address in addresses:
                self._check(target, ip_address(address[0]))
            # What the kernel connected to is what counts, whatever any layer between made of the address.
            sock = await self._connect(addresses, deadlines, clock, check=partial(self._check, target))
        return await self._open(target, context, sock, deadlines, clock)

    async def _connect_through(
        self, proxy: str, target: Target, deadlines: Deadlines, clock: PhaseClock
    ) -> socket.socket:
        """Return a socket that leads to `target` by way of the proxy, which alone sees what the name resolves to."""
        literal = as_dialled(target)
        if literal is not None:
            self._check(target, literal)
        elif target.scheme == "http" and not self.rules.plain_http:
            text = f"{target.host} is looked up by the proxy, and http:// goes there only with network.plain_http"
            raise AttemptFailedError(ErrorClass.BLOCKED, text)
        try:
            # The proxy stands in our own network, where the configuration says.
            addresses = await self._addresses(parse_target(proxy), deadlines, clock)
            begun = monotonic()
            phase_ends, limit_seconds = deadlines.phase(begun)
            sock = await self._connect(addresses, deadlines, clock)
        except AttemptFailedError as failure:
            raise proxy_failure(proxy, failure.text) from failure
        try:
            async with asyncio.timeout_at(phase_ends):
                await open_tunnel(sock, target, proxy)
        except TimeoutError:
            # Far more often the receiver does not answer the proxy than the proxy us.
            text = f"no connection within {limit_seconds:g} s (waiting for the proxy {proxy} to connect)"
            sock.close()
            raise AttemptFailedError(ErrorClass.TIMEOUT, text) from None
        except BaseException:
            sock.close()
            raise
        finally:
            clock.connect_ms = (monotonic() - begun) * 1000
        return sock

    async def _addresses(self, target: Target, deadlines: Deadlines, clock: PhaseClock) -> list[SockAddr]:
        if target.literal is not None:
            if target.literal.version == 4:
                return [(socket.AF_INET, (target.host, target.port))]
            return [(socket.AF_INET6, (target.host, target.port, 0, 0))]
        begun = monotonic()
        try:
            found = await self._resolver.resolve(target.host, timeout_seconds=deadlines.phase(begun)[0] - begun)
        finally:
            clock.dns_ms = (monotonic() - begun) * 1000
        return [(family, (address[0], target.port, *address[2:])) for family, address in found]

    def _check(self, target: Target, address: Address) -> None:
        where = str(unwrap(address)) if target.literal is not None else f"{target.host} is {unwrap(address)}, which"
        denied = judge(address, self.rules.allow)
        if denied is not None:
            raise AttemptFailedError(ErrorClass.BLOCKED, f"{where} is {denied} and not in network.allow")
        if target.scheme == "http" and not self.rules.plain_http and not is_listed(address, self.rules.allow):
            raise AttemptFailedError(
                ErrorClass.BLOCKED,
                f"{where} is not in network.allow, and http:// goes nowhere else without network.plain_http",
            )

    async def _connect(
        self,
        addresses: list[SockAddr],
        deadlines: Deadlines,
        clock: PhaseClock,
        *,
        check: Callable[[Address], None] | None = None,
    ) -> socket.socket:
        addresses = addresses[:MAX_DIALS]
        begun = monotonic()
        phase_ends, limit_seconds = deadlines.phase(begun)
        failures: list[AttemptFailedError] = []
        try:
            for position, (family, address) in enumerate(addresses):
                now = monotonic()
                share = (phase_ends - now) / (len(addresses) - position)
                where = f"[{address[0]}]:{address[1]}" if family == socket.AF_INET6 else f"{address[0]}:{address[1]}"
                try:
                    async with asyncio.timeout_at(now + share):
                        return await _connect_one(family, address, check)
                except TimeoutError as error:
                    if error.errno is not None:
                        failures.append(dial_failure(error, where))
                        continue
                    text = f"no connection within {limit_seconds:g} s (connecting to {where})"
                    failures.append(AttemptFailedError(ErrorClass.TIMEOUT, text))
                except OSError as error:
                    failures.append(dial_failure(error, where))
        finally:
            clock.connect_ms = (monotonic() - begun) * 1000
        # An address we have no route to says nothing about a receiver that another address did reach.
        raise next((failure for failure in reversed(failures) if failure.kind is not ErrorClass.LOCAL), failures[-1])

    async def _open(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        sock: socket.socket,
        deadlines: Deadlines,
        clock: PhaseClock,
    ) -> Connection:
        loop = asyncio.get_running_loop()
        begun = monotonic()
        try:
            if context is None:
                return (await loop.create_connection(lambda: Connection(loop), sock=sock))[1]
            phase_ends, limit_seconds = deadlines.phase(begun)
            try:
                async with asyncio.timeout_at(phase_ends):
                    _, connection = await loop.create_connection(
                        lambda: Connection(loop),
                        sock=sock,
                        ssl=context,
                        server_hostname=target.host.removesuffix("."),
                    )
            except TimeoutError:
                text = f"no answer within {limit_seconds:g} s (TLS handshake)"
                raise AttemptFailedError(ErrorClass.TIMEOUT, text) from None
            except OSError as error:
                raise tls_failure(error) from error
            finally:
                clock.tls_ms = (monotonic() - begun) * 1000
        except BaseException:
            sock.close()
            raise
        return connection


async def _connect_one(
    family: socket.AddressFamily,
    address: tuple[str, int] | tuple[str, int, int, int],
    check: Callable[[Address], None] | None,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        if check is not None:
            check(ip_address(sock.getpeername()[0]))
    except BaseException:
        sock.close()
        raise
    return sock
