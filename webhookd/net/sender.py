"""Makes one attempt: the signed request out, and whatever came back as an Outcome."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

from webhookd import __version__
from webhookd.core.addresses import Target, parse_target
from webhookd.core.attempt import AttemptError, ErrorClass, Outcome
from webhookd.core.delivery import Work
from webhookd.core.envelope import as_sent
from webhookd.core.ids import EndpointId
from webhookd.core.ports import Clock
from webhookd.core.redaction import Redactor
from webhookd.core.settings import EndpointDefinition, NetworkRules
from webhookd.core.signing import HeaderPlan
from webhookd.net.client import Connection, Reply
from webhookd.net.failures import AttemptFailedError, StaleConnectionError
from webhookd.net.guard import Deadlines, Dialer, PhaseClock
from webhookd.net.pool import Origin, Pool
from webhookd.net.resolver import Resolver
from webhookd.net.retry_after import parse_retry_after
from webhookd.net.tls import TlsContexts, default_context

ROUTES = 16_384
"""Endpoints whose preparation is kept; the longest prepared goes first."""
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Route:
    """What stays the same over all attempts for one definition; `prefix` ends where the length is to follow."""

    definition: EndpointDefinition
    target: Target
    origin: Origin
    plan: HeaderPlan
    prefix: bytes
    redactor: Redactor


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
        self._clock = clock
        self._resolver = resolver if resolver is not None else Resolver()
        contexts = TlsContexts(tls_context if tls_context is not None else default_context())
        self._dialer = Dialer(network, self._resolver, contexts)
        self._pool = Pool(network.max_in_flight)
        self._routes: OrderedDict[EndpointId, _Route] = OrderedDict()
        self._open: set[Connection] = set()

    def replace_network(self, network: NetworkRules) -> None:
        """Dial by `network` from now on; connections kept under the old rules are closed, requests under way finish."""
        self._dialer.rules = network
        self._pool.resize(network.max_in_flight)

    async def send(self, work: Work, endpoint: EndpointDefinition) -> Outcome:
        begun = monotonic()
        phases = PhaseClock()
        route = self._routes.get(endpoint.id)
        if route is None or route.definition is not endpoint:
            route = self._prepare(endpoint)
        try:
            reply = await self._attempt(work, route, begun, phases)
        except AttemptFailedError as failure:
            return Outcome(
                duration_ms=(monotonic() - begun) * 1000,
                error=AttemptError(kind=failure.kind, text=failure.text, no_way=failure.no_way),
                phases=phases.phases(),
            )
        phases.first_byte_ms = reply.first_byte_ms
        return Outcome(
            duration_ms=(monotonic() - begun) * 1000,
            status=reply.status,
            phases=phases.phases(),
            excerpt=route.redactor.clean(reply.excerpt),
            retry_after_seconds=self._retry_after(reply),
        )

    async def close(self) -> None:
        self._resolver.close()
        self._pool.clear()
        lost = [connection.lost for connection in self._open]
        for connection in list(self._open):
            connection.drop()
        if lost:
            await asyncio.wait(lost, timeout=CLOSE_SECONDS)

    async def _attempt(self, work: Work, route: _Route, begun: float, phases: PhaseClock) -> Reply:
        try:
            event = as_sent(work.event, route.definition.rules.body)
        except ValueError as error:
            # Accepted before the endpoint's body was changed; whether it is changed back is not for us to say.
            raise AttemptFailedError(ErrorClass.INTERNAL, str(error)) from error
        payload = event.payload
        head = b"%b%d\r\n%b\r\n" % (
            route.prefix,
            len(payload),
            route.plan.render(
                event,
                attempt_number=work.attempt_count + 1,
                timestamp_seconds=self._clock.now_ms() // 1000,
            ),
        )
        limit_seconds = route.definition.rules.timeout_seconds
        deadline = begun + limit_seconds
        network = self._dialer.rules
        connection = self._pool.take(route.origin, begun)
        reply: Reply | None = None
        if connection is not None:
            try:
                reply = await connection.exchange(head, payload, deadline=deadline, limit_seconds=limit_seconds)
            except StaleConnectionError:
                connection = None
        if connection is None or reply is None:
            connection = await self._dial(route, deadline, phases)
            reply = await connection.exchange(head, payload, deadline=deadline, limit_seconds=limit_seconds)
        # What was checked under rules replaced meanwhile must not serve under the new ones.
        if reply.reusable and network is self._dialer.rules:
            self._pool.put(route.origin, connection, monotonic())
        else:
            connection.drop()
        return reply

    async def _dial(self, route: _Route, deadline: float, phases: PhaseClock) -> Connection:
        rules = route.definition.rules
        connection = await self._dialer.dial(
            route.target,
            route.definition.tls,
            Deadlines(
                connect_seconds=rules.connect_timeout_seconds,
                total_seconds=rules.timeout_seconds,
                total_at=deadline,
            ),
            phases,
        )
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def _prepare(self, endpoint: EndpointDefinition) -> _Route:
        target = parse_target(endpoint.url)
        route = _Route(
            definition=endpoint,
            target=target,
            origin=(target.scheme, target.host, target.port, endpoint.tls),
            plan=HeaderPlan(endpoint, version=__version__),
            redactor=Redactor(endpoint),
            prefix=f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nContent-Length: ".encode(),
        )
        self._routes[endpoint.id] = route
        if len(self._routes) > ROUTES:
            self._routes.popitem(last=False)
        return route

    def _retry_after(self, reply: Reply) -> float | None:
        if reply.retry_after is None or reply.status not in {429, 503}:
            return None
        return parse_retry_after(reply.retry_after, now_ms=self._clock.now_ms())
