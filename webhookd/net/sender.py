"""Makes attempts: the signed request out, and whatever came back as an Outcome."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from webhookd.core.attempt import Outcome
from webhookd.core.delivery import Work
from webhookd.core.ports import Clock
from webhookd.core.settings import EndpointDefinition, NetworkRules
from webhookd.net.attempt import Attempt, Ways
from webhookd.net.departures import Departures
from webhookd.net.guard import Dialer
from webhookd.net.pool import Pool
from webhookd.net.resolver import Resolver
from webhookd.net.tls import TlsContexts, default_context

CLOSE_SECONDS = 1.0


class HttpSender:
    """Sends over kept-alive connections to checked addresses; fills `core.ports.Sender`.

    Follows no redirect, keeps no cookie, reads no proxy from the environment and decodes no body. `tls_context` decides
    whom to trust where an endpoint does not say; the default trusts what the system trusts (SSL_CERT_FILE and
    SSL_CERT_DIR included).
    """

    def __init__(
        self,
        network: NetworkRules,
        clock: Clock,
        *,
        tls_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._resolver = resolver if resolver is not None else Resolver()
        contexts = TlsContexts(tls_context if tls_context is not None else default_context())
        self._ways = Ways(
            clock=clock, dialer=Dialer(network, self._resolver, contexts), pool=Pool(network.max_in_flight)
        )
        self._departures = Departures(clock)

    def replace_network(self, network: NetworkRules) -> None:
        """Dial by `network` from now on; connections kept under the old rules are closed, requests under way finish."""
        self._ways.dialer.rules = network
        self._ways.pool.resize(network.max_in_flight)

    def start(self, work: Work, endpoint: EndpointDefinition, ended: Callable[[Outcome | Exception], None]) -> Attempt:
        attempt = Attempt(self._ways, work, endpoint, ended)
        self._departures.add(attempt)
        return attempt

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        heard: asyncio.Future[Outcome | Exception] = asyncio.get_running_loop().create_future()

        def ended(outcome: Outcome | Exception) -> None:
            if not heard.done():
                heard.set_result(outcome)

        attempt = self.start(work, endpoint, ended)
        try:
            outcome = await heard
        finally:
            attempt.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        self._resolver.close()
        self._ways.pool.clear()
        lost = [connection.lost for connection in self._ways.open]
        for connection in list(self._ways.open):
            connection.drop()
        if lost:
            await asyncio.wait(lost, timeout=CLOSE_SECONDS)
