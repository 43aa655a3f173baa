"""Through a proxy: what it is asked, what it does not see, and whose fault its refusals are."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trustme

from tests.integration.net.conftest import LOOPBACK
from tests.integration.net.servers import answering
from tests.kit.builders import endpoint, work
from tests.kit.proxy import ConnectProxy
from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import DeliveryRules, NetworkRules
from webhookd.net.tls import default_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOST = "receiver.example"


@pytest.fixture
async def proxy():
    async with ConnectProxy() as proxy:
        yield proxy


@pytest.fixture
async def start_proxy():
    async with AsyncExitStack() as stack:

        async def start(**behaviour):
            return await stack.enter_async_context(ConnectProxy(**behaviour))

        yield start


@pytest.fixture
def behind(sender_with):
    """Make a sender whose deliveries go through a proxy, and for which every lookup of a name fails the test."""

    def make(proxy, network=LOOPBACK, **more):
        def no_lookup(host):
            raise AssertionError(f"{host} was looked up")

        return sender_with(replace(network, proxy=proxy.url, plain_http=True), **{"names": no_lookup, **more})

    return make


async def send(sender, url, *, timeout_seconds=5.0, connect_timeout_seconds=5.0):
    rules = DeliveryRules(timeout_seconds=timeout_seconds, connect_timeout_seconds=connect_timeout_seconds)
    return await sender.send(work(), endpoint(url=url, rules=rules))


async def test_the_name_goes_to_the_proxy_and_is_not_looked_up_here(proxy, behind, serve):
    server = await serve(answering(OK))
    proxy.names[HOST] = ("127.0.0.1", server.port)
    outcome = await send(behind(proxy), f"http://{HOST}/hook?a=1")
    assert (outcome.status, outcome.error) == (200, None)
    assert proxy.asked == [f"{HOST}:80"]
    assert proxy.heads == [f"CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n".encode()]
    ((head, _),) = server.requests
    assert head.startswith(f"POST /hook?a=1 HTTP/1.1\r\nHost: {HOST}\r\n".encode())


async def test_tls_goes_through_the_tunnel_and_is_verified_against_the_url(proxy, behind, serve):
    authority, asked = trustme.CA(), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = default_context()
    authority.configure_trust(trusting)
    server = await serve(answering(OK), ssl=context)
    sender = behind(proxy, tls_context=trusting)
    for name in (HOST, "other.example"):
        proxy.names[name] = ("127.0.0.1", server.port)
    assert (await send(sender, f"https://{HOST}/")).status == 200
    outcome = await send(sender, "https://other.example/")
    assert outcome.error.kind is ErrorClass.TLS
    assert "Hostname mismatch" in outcome.error.text
    assert asked == [HOST, "other.example"]
    assert proxy.asked == [f"{HOST}:443", "other.example:443"]


async def test_a_tunnel_is_kept_for_the_next_delivery_to_the_same_receiver(proxy, behind, serve):
    server = await serve(answering(OK))
    sender = behind(proxy)
    for name in (HOST, "other.example"):
        proxy.names[name] = ("127.0.0.1", server.port)
    for url in (f"http://{HOST}/", f"http://{HOST}/", "http://other.example/"):
        assert (await send(sender, url)).status == 200
    assert proxy.asked == [f"{HOST}:80", "other.example:80"]


async def test_a_change_of_proxy_leaves_no_tunnel_behind(proxy, behind, serve, start_proxy):
    server = await serve(answering(OK))
    sender = behind(proxy)
    second = await start_proxy(names={HOST: ("127.0.0.1", server.port)})
    proxy.names[HOST] = ("127.0.0.1", server.port)
    await send(sender, f"http://{HOST}/")
    sender.replace_network(replace(LOOPBACK, proxy=second.url, plain_http=True))
    assert (await send(sender, f"http://{HOST}/")).status == 200
    assert (len(proxy.asked), len(second.asked)) == (1, 1)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fd00:ec2::254]"),
        *("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "127.0.0.1.", "①②⑦.0.0.1", "localhost", "a.localhost."),
    ],
)
async def test_an_address_of_the_inside_is_not_asked_for(proxy, behind, host):
    outcome = await send(behind(proxy, NetworkRules()), f"https://{host}/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert "not in network.allow" in outcome.error.text
    assert proxy.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost"])
async def test_an_address_that_is_allowed_is_asked_for(proxy, behind, serve, host):
    server = await serve(answering(OK))
    proxy.names[host] = ("127.0.0.1", server.port)
    assert (await send(behind(proxy), f"http://{host}/")).status == 200
    assert proxy.asked == [f"{host}:80"]


async def test_an_ipv6_address_is_asked_for_in_brackets(start_proxy, behind, serve):
    server = await serve(answering(OK))
    proxy = await start_proxy(names={"[::1]": ("127.0.0.1", server.port)})
    assert (await send(behind(proxy), "http://[::1]:8080/")).status == 200
    assert proxy.asked == ["[::1]:8080"]


async def test_plain_http_to_a_name_needs_leave(proxy, sender_with):
    sender = sender_with(replace(LOOPBACK, proxy=proxy.url))
    outcome = await send(sender, f"http://{HOST}/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert "network.plain_http" in outcome.error.text
    assert proxy.connections == 0


async def test_the_proxy_itself_may_stand_anywhere(proxy, behind, serve):
    server = await serve(answering(OK))
    proxy.names[HOST] = ("127.0.0.1", server.port)
    assert (await send(behind(proxy, NetworkRules()), f"http://{HOST}/")).status == 200


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required to CONNECT"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno no", "403 Forbidden to CONNECT receiver.example:80"),
        (b"HTTP/1.1 502 \r\n\r\n", "502 to CONNECT"),
        (b"HTTP/1.0 503 a\x1b[31mb\r\n\r\n", "503 a?[31mb to CONNECT"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "302 Found"),
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "sent more than an answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 4000, "does not end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10, "too many interim answers"),
    ],
)
async def test_what_a_proxy_refuses_is_our_own_fault_and_names_it(start_proxy, behind, answer, words):
    proxy = await start_proxy(answer=answer)
    outcome = await send(behind(proxy), f"http://{HOST}/s3cret")
    assert outcome.error.kind is ErrorClass.LOCAL
    assert f"the proxy {proxy.url}: " in outcome.error.text
    assert words in outcome.error.text
    assert "s3cret" not in outcome.error.text


async def test_an_interim_answer_is_passed_over(start_proxy, behind):
    proxy = await start_proxy(answer=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n")
    assert "403 Forbidden" in (await send(behind(proxy), f"http://{HOST}/")).error.text


async def test_a_proxy_that_does_not_listen_is_our_own_fault(proxy, behind):
    async with ConnectProxy() as gone:
        pass
    outcome = await send(behind(gone), f"http://{HOST}/")
    assert outcome.error.kind is ErrorClass.LOCAL
    assert outcome.error.text.startswith(f"the proxy {gone.url}: connecting to 127.0.0.1:{gone.port}: ")


async def test_a_proxy_that_cannot_be_found_is_our_own_fault(sender_with):
    def nowhere(host):
        raise OSError("no such name")

    outcome = await send(sender_with(NetworkRules(proxy="http://proxy.example:4750"), names=nowhere), f"https://{HOST}")
    assert outcome.error.kind is ErrorClass.LOCAL
    assert outcome.error.text.startswith("the proxy http://proxy.example:4750: looking up proxy.example")


async def test_a_receiver_the_proxy_waits_for_runs_into_the_timeout_of_the_connection(start_proxy, behind):
    proxy = await start_proxy(hang=True)
    begun = asyncio.get_running_loop().time()
    outcome = await send(behind(proxy), f"http://{HOST}/", connect_timeout_seconds=0.05)
    assert asyncio.get_running_loop().time() - begun < 2
    assert outcome.error.kind is ErrorClass.TIMEOUT
    assert outcome.error.text == f"no connection within 0.05 s (waiting for the proxy {proxy.url} to connect)"


async def test_the_timeout_of_the_attempt_holds_through_a_proxy(start_proxy, behind):
    proxy = await start_proxy(hang=True)
    outcome = await send(behind(proxy), f"http://{HOST}/", timeout_seconds=0.05)
    assert outcome.error.text.startswith("no connection within 0.05 s")
