"""The way in as the daemon holds it: listeners, connections and routes, from the first accept to the last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from webhookd.api.app import build_app, routes
from webhookd.api.auth import Gate, Tokens
from webhookd.api.deliveries import DeliveryRoutes
from webhookd.api.endpoints import EndpointRoutes
from webhookd.api.events import EventRoutes
from webhookd.api.front import Connection
from webhookd.api.inner import InnerHandler
from webhookd.api.judging import Judge
from webhookd.api.listener import Listener
from webhookd.api.lobby import Lobby, Observer, Patience
from webhookd.api.status import StatusRoutes
from webhookd.api.stream import StreamRoutes
from webhookd.api.upkeep import UpkeepRoutes
from webhookd.core.ports import History
from webhookd.core.services import Acceptor, AttemptFeed, Desk, Directory, Keeper, Monitor
from webhookd.core.settings import ActivatedAddress, Listen, Settings, UnixAddress


class Api:
    """Serves the HTTP API on every socket it is given; build it on the loop it is to run on.

    `metrics_text` returns the body of `/metrics`. `observer` counts events that come in or are refused.
    """

    def __init__(  # noqa: PLR0913 - one argument for each room that is met here, all by name
        self,
        *,
        settings: Settings,
        acceptor: Acceptor,
        directory: Directory,
        desk: Desk,
        feed: AttemptFeed,
        keeper: Keeper,
        monitor: Monitor,
        history: History,
        observer: Observer,
        metrics_text: Callable[[], Awaitable[bytes]],
        version: str,
        patience: Patience | None = None,
    ) -> None:
        self._lobby = Lobby(
            acceptor=acceptor, observer=observer, ingest=settings.ingest, patience=patience or Patience()
        )
        self._feed = feed
        self._tokens = Tokens(settings.tokens)
        self._gates: list[Gate] = []
        self._listeners: list[Listener] = []
        self._activated: list[Listener] = []
        table = routes(
            EventRoutes(history=history, directory=directory, desk=desk),
            EndpointRoutes(directory=directory, desk=desk),
            DeliveryRoutes(history=history, desk=desk),
            StreamRoutes(feed=feed, lobby=self._lobby),
            UpkeepRoutes(keeper=keeper),
            StatusRoutes(monitor=monitor, metrics_text=metrics_text, version=version),
        )
        self._runner = web.AppRunner(build_app(table, self._lobby), handle_signals=False, access_log=None)

    @property
    def failed(self) -> asyncio.Future[None]:
        """A future that holds an exception once the API cannot go on (no memory, no clock, a broken socket)."""
        return self._lobby.failed

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._lobby.guests)

    async def serve(self, sock: socket.socket, listen: Listen) -> None:
        """Accept connections on a bound, listening socket from now on; the socket is the API's to close."""
        manager = self._runner.server
        if manager is None:
            await self._runner.setup()
            manager = self._runner.server
            self._lobby.start()
        assert manager is not None  # noqa: S101 - setup() makes it
        gate = Gate(listen, sock, self._tokens)
        self._gates.append(gate)
        judge = Judge(self._lobby, gate)

        def connection() -> Connection:
            return Connection(self._lobby, judge, lambda front: InnerHandler(manager, front))

        path = listen.address.path if isinstance(listen.address, UnixAddress) else None
        listener = Listener(sock, connection, self._lobby.evict, self._lobby.fail, path)
        self._listeners.append(listener)
        if isinstance(listen.address, ActivatedAddress):
            self._activated.append(listener)

    def apply(self, settings: Settings) -> None:
        """Use the tokens and limits of new settings, for requests that begin from now on."""
        self._lobby.ingest = settings.ingest
        self._tokens = Tokens(settings.tokens)
        for gate in self._gates:
            gate.tokens = self._tokens

    def drain(self) -> None:
        """Refuse new events with 503 from now on, while looking and operating go on; who follows attempts is let go.

        On sockets of the service manager nothing is accepted any more: there the kernel keeps new connections waiting
        for the next process, which is better than an answer to come again.
        """
        self._lobby.draining = True
        self._feed.end()
        for listener in self._activated:
            listener.close()

    def stop_accepting(self) -> None:
        """Close the listening sockets and refuse new events; what is being answered is answered."""
        self.drain()
        for listener in self._listeners:
            listener.close()

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Answer what is under way within `grace_seconds`, then close every connection."""
        self.stop_accepting()
        for listener in self._listeners:
            await listener.settled()
        await self._lobby.empty(grace_seconds)
        self._lobby.stop()
        await self._runner.cleanup()
