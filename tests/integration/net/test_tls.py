"""TLS: who is trusted, and what an operator is told when somebody is not."""

import asyncio
import datetime as dt
import socket
import ssl
import threading
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest
import trustme

from tests.integration.net.servers import answering
from tests.kit.builders import endpoint, event, work
from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import DeliveryRules
from webhookd.net.tls import default_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOST = "receiver.example"


def loopback(host):
    return [(socket.AF_INET, ("127.0.0.1", 0))]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusting(authority, sender_with):
    """Give a sender that trusts the test's authority and finds every name on loopback."""
    context = default_context()
    authority.configure_trust(context)
    return sender_with(names=loopback, tls_context=context)


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def alerting(context):
    """Shake hands on a thread: unlike asyncio's, a blocking server says in an alert why it refuses."""

    def shake_hands():
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
            tls.settimeout(5)
            with pytest.raises(ssl.SSLError):
                tls.do_handshake()
            # Closing with something unread would send a reset, which may overtake the alert.
            with suppress(ConnectionError):
                while socket.socket.recv(tls, 65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake_hands)
        thread.start()
        yield SimpleNamespace(port=listener.getsockname()[1])
        await asyncio.to_thread(thread.join)


async def send(sender, server, *, host=HOST, timeout_seconds=5.0):
    rules = DeliveryRules(timeout_seconds=timeout_seconds, connect_timeout_seconds=timeout_seconds)
    return await sender.send(work(), endpoint(url=f"https://{host}:{server.port}/hook", rules=rules))


async def test_a_trusted_receiver_gets_the_request_over_one_kept_connection(authority, trusting, serve):
    server = await serve(answering(OK), ssl=server_context(authority.issue_cert(HOST)))
    first = await send(trusting, server)
    second = await send(trusting, server)
    assert (first.status, second.status) == (200, 200)
    assert first.phases.tls_ms > 0
    assert second.phases.tls_ms is None
    assert server.connections == 1


async def test_the_name_is_sent_and_a_trailing_dot_is_not_part_of_it(authority, trusting, serve):
    asked = []
    context = server_context(authority.issue_cert(HOST))
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = await serve(answering(OK), ssl=context)
    assert (await send(trusting, server, host=HOST + ".")).status == 200
    assert asked == [HOST]


async def test_an_address_in_the_url_is_verified_as_an_address(authority, trusting, serve):
    server = await serve(answering(OK), ssl=server_context(authority.issue_cert("127.0.0.1")))
    assert (await send(trusting, server, host="127.0.0.1")).status == 200


async def test_an_unknown_authority_is_refused(sender_with, authority, serve):
    server = await serve(answering(OK), ssl=server_context(authority.issue_cert(HOST)))
    outcome = await send(sender_with(names=loopback), server)
    assert outcome.error.kind is ErrorClass.TLS
    assert "certificate refused: unable to get local issuer certificate" in outcome.error.text
    assert server.requests == []


async def test_a_certificate_for_another_name_is_refused(authority, trusting, serve):
    server = await serve(answering(OK), ssl=server_context(authority.issue_cert("other.example")))
    outcome = await send(trusting, server)
    assert outcome.error.kind is ErrorClass.TLS
    assert "Hostname mismatch" in outcome.error.text
    assert HOST in outcome.error.text
    assert server.requests == []


async def test_an_expired_certificate_is_refused(authority, trusting, serve):
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    certificate = authority.issue_cert(HOST, not_before=yesterday - dt.timedelta(days=1), not_after=yesterday)
    server = await serve(answering(OK), ssl=server_context(certificate))
    outcome = await send(trusting, server)
    assert outcome.error.kind is ErrorClass.TLS
    assert "certificate has expired" in outcome.error.text


async def test_a_receiver_without_tls_is_told_so(trusting, serve):
    async def plain(server, reader, writer):
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    server = await serve(plain)
    outcome = await send(trusting, server)
    assert outcome.error.kind is ErrorClass.TLS
    assert "wrong version number" in outcome.error.text


async def test_a_protocol_too_old_is_refused(authority, trusting):
    context = server_context(authority.issue_cert(HOST))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with alerting(context) as server:
        outcome = await send(trusting, server)
    assert outcome.error.kind is ErrorClass.TLS
    assert "protocol version" in outcome.error.text


async def test_a_handshake_that_never_ends_is_given_up(trusting, serve):
    async def silent(server, reader, writer):
        await asyncio.sleep(5)

    server = await serve(silent)
    outcome = await send(trusting, server, timeout_seconds=0.3)
    assert outcome.error.kind is ErrorClass.TIMEOUT
    assert outcome.error.text == "no answer within 0.3 s (TLS handshake)"
    assert 290 < outcome.duration_ms < 2000


async def test_a_receiver_that_wants_a_client_certificate_is_a_tls_error(authority, trusting):
    context = server_context(authority.issue_cert(HOST))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    async with alerting(context) as server:
        outcome = await send(trusting, server)
    assert outcome.error.kind is ErrorClass.TLS
    assert "certificate required" in outcome.error.text


async def test_a_large_payload_goes_through_whole(authority, trusting, serve):
    server = await serve(answering(OK), ssl=server_context(authority.issue_cert(HOST)))
    payload = b"x" * 3_000_000
    outcome = await trusting.send(work(of=event(payload=payload)), endpoint(url=f"https://{HOST}:{server.port}/"))
    assert outcome.status == 200
    assert server.requests[0][1] == payload
