"""Both event loops, servers and senders for the tests of the way out."""

import asyncio
import socket
from contextlib import AsyncExitStack
from ipaddress import ip_network

import pytest
import uvloop

from tests.integration.net.servers import RawServer
from webhookd.core.settings import NetworkRules
from webhookd.net.resolver import Resolver
from webhookd.net.sender import HttpSender
from webhookd.net.tls import default_context

LOOPBACK = NetworkRules(allow=(ip_network("127.0.0.0/8"), ip_network("::1/128")))


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories():
    """Run each test on the loop of production and on the one of the standard library."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def serve():
    """Start a raw server that lasts as long as the test."""
    async with AsyncExitStack() as stack:

        async def start(behave, **options):
            server = await RawServer(behave).start(**options)
            stack.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def system_trust():
    """Load what the system trusts once; it takes as long as all else in a test."""
    return default_context()


@pytest.fixture
async def sender_with(clock, system_trust):
    """Make a sender that may dial loopback, unless told otherwise; `names` answers lookups instead of the system."""
    async with AsyncExitStack() as stack:

        def make(network=LOOPBACK, *, names=None, tls_context=None):
            resolver = Resolver(names) if names is not None else None
            sender = HttpSender(network, clock, tls_context=tls_context or system_trust, resolver=resolver)
            stack.push_async_callback(sender.close)
            return sender

        yield make


@pytest.fixture
def sender(sender_with):
    return sender_with()


@pytest.fixture
def canary():
    """Listen on loopback without ever answering; `accepts` counts who came."""
    sockets = []
    port = 0
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(128)
        listener.setblocking(False)
        port = listener.getsockname()[1]
        sockets.append(listener)
    yield Canary(port, sockets)
    for listener in sockets:
        listener.close()


class Canary:
    """A listener that nobody should reach."""

    def __init__(self, port, sockets):
        self.port = port
        self._sockets = sockets

    def visits(self):
        """Take every connection that was made and return what each of them sent."""
        sent = []
        for listener in self._sockets:
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    break
                connection.setblocking(False)
                try:
                    sent.append(connection.recv(65536))
                except BlockingIOError:
                    sent.append(b"")
                connection.close()
        return sent
