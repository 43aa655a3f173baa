"""The guard: whatever a URL or a name server says, no connection is made to an address that may not be dialled."""

import asyncio
import socket
import struct
from ipaddress import ip_network

import pytest

from tests.integration.net.servers import answering
from tests.kit.builders import endpoint, work
from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import DeliveryRules, NetworkRules

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOWHERE = NetworkRules(plain_http=True)
QUICK = DeliveryRules(timeout_seconds=1, connect_timeout_seconds=1)

LOOPBACK_IN_DISGUISE = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0x7F.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "127.255.255.254",
    "\uff11\uff12\uff17.0.0.1",
    "\uff10",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127\uff0e0\uff0e0\uff0e1",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:1::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[fd00::1]",
    "[ff02::1]",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "10.0.0.1",
    "192.168.1.1",
    "255.255.255.255",
]


async def send(sender, url, rules=QUICK):
    return await sender.send(work(), endpoint(url=url, rules=rules))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", LOOPBACK_IN_DISGUISE)
async def test_no_spelling_of_a_private_address_is_connected_to(sender_with, canary, scheme, host):
    outcome = await send(sender_with(NOWHERE), f"{scheme}://{host}:{canary.port}/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert "not in network.allow" in outcome.error.text
    assert canary.visits() == []


async def test_the_canary_sings_when_it_is_reached(sender, canary):
    rules = DeliveryRules(timeout_seconds=0.05, connect_timeout_seconds=0.05)
    await send(sender, f"http://127.0.0.1:{canary.port}/", rules)
    await send(sender, f"http://[::1]:{canary.port}/", rules)
    assert [visit.startswith(b"POST / HTTP/1.1\r\n") for visit in canary.visits()] == [True, True]


def names(**table):
    def lookup(host):
        answers = table[host.replace(".", "_")]
        addresses = answers.pop(0) if isinstance(answers[0], list) else answers
        return [
            (socket.AF_INET6, (address, 0, 0, 0)) if ":" in address else (socket.AF_INET, (address, 0))
            for address in addresses
        ]

    return lookup


@pytest.mark.parametrize(
    "answers",
    [
        ["8.8.8.8", "10.0.0.1"],
        ["127.0.0.1", "10.0.0.1"],
        ["127.0.0.1", "169.254.169.254"],
        ["127.0.0.1", "::ffff:10.0.0.1"],
        ["127.0.0.1", "fd00:ec2::254"],
    ],
)
async def test_one_forbidden_answer_refuses_them_all(sender_with, canary, answers):
    network = NetworkRules(allow=(ip_network("127.0.0.0/8"),), plain_http=True)
    sender = sender_with(network, names=names(mixed_example=answers))
    outcome = await send(sender, f"http://mixed.example:{canary.port}/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert "mixed.example is" in outcome.error.text
    assert canary.visits() == []


async def test_a_name_that_flips_is_judged_at_each_dial_by_the_answer_that_is_dialled(sender_with, serve, canary):
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    server = await serve(answering(closing))
    flips = [["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"], ["::1"], ["169.254.169.254"]]
    sender = sender_with(NetworkRules(allow=(ip_network("127.0.0.0/8"),)), names=names(flip_example=flips))
    outcomes = [await send(sender, f"http://flip.example:{server.port}/") for _ in range(5)]
    assert [outcome.status for outcome in outcomes] == [200, None, 200, None, None]
    assert {outcome.error.kind for outcome in outcomes if outcome.error} == {ErrorClass.BLOCKED}
    assert flips == []
    assert server.connections == 2


async def test_where_the_kernel_really_connected_to_is_judged_too(sender_with, canary):
    # The kernel takes 0.0.0.0 for loopback; only looking at the peer afterwards tells.
    sender = sender_with(NetworkRules(allow=(ip_network("0.0.0.0/32"),)))
    outcome = await send(sender, f"http://0.0.0.0:{canary.port}/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert "loopback" in outcome.error.text
    assert canary.visits() == [b""]


async def test_plain_http_goes_to_allowed_ranges_only(sender_with):
    outcome = await send(sender_with(NetworkRules()), "http://8.8.8.8/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert "network.plain_http" in outcome.error.text


async def test_plain_http_to_a_name_is_judged_by_its_address(sender_with):
    sender = sender_with(NetworkRules(), names=names(public_example=["8.8.8.8"]))
    outcome = await send(sender, "http://public.example/")
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert outcome.error.text.startswith("public.example is 8.8.8.8, which is not in network.allow")


async def test_the_next_address_is_tried_when_one_refuses(sender_with, serve):
    server = await serve(answering(OK))
    allow = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    sender = sender_with(NetworkRules(allow=allow), names=names(two_example=["127.0.0.9", "::1", "127.0.0.1"]))
    assert (await send(sender, f"http://two.example:{server.port}/")).status == 200


async def test_an_address_that_drops_packets_leaves_time_for_the_next(sender_with, serve):
    server = await serve(answering(OK))
    with socket.socket() as listener:
        listener.bind(("127.0.0.9", server.port))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.9", server.port))
        sender = sender_with(names=names(two_example=["127.0.0.9", "127.0.0.1"]))
        rules = DeliveryRules(timeout_seconds=2, connect_timeout_seconds=0.2)
        outcome = await send(sender, f"http://two.example:{server.port}/", rules)
        for filler in fillers:
            filler.close()
    assert outcome.status == 200
    assert outcome.phases.connect_ms > 90


async def test_a_redirect_is_an_answer_and_not_followed(sender, serve, canary):
    answer = f"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:{canary.port}/\r\nContent-Length: 0\r\n\r\n"
    server = await serve(answering(answer.encode()))
    assert (await send(sender, server.url)).status == 307
    assert canary.visits() == []


async def test_a_proxy_in_the_environment_is_not_asked(sender, serve, canary, monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{canary.port}")
    server = await serve(answering(OK))
    assert (await send(sender, server.url)).status == 200
    assert canary.visits() == []


async def test_new_rules_hold_for_connections_that_were_kept(sender, serve):
    server = await serve(answering(OK))
    assert (await send(sender, server.url)).status == 200
    sender.replace_network(NetworkRules())
    outcome = await send(sender, server.url)
    assert outcome.error.kind is ErrorClass.BLOCKED
    assert len(server.requests) == 1


async def test_a_request_under_way_when_rules_change_finishes_and_its_connection_is_not_kept(sender, serve):
    answer = asyncio.Event()

    async def when_told(server, reader, writer):
        await server.request(reader)
        await answer.wait()
        writer.write(OK)
        await server.request(reader)

    server = await serve(when_told)
    sending = asyncio.ensure_future(send(sender, server.url))
    await asyncio.wait_for(server.arrived.wait(), 2)
    sender.replace_network(NetworkRules())
    answer.set()
    assert (await sending).status == 200
    assert (await send(sender, server.url)).error.kind is ErrorClass.BLOCKED
    assert len(server.requests) == 1


async def test_a_changed_url_does_not_use_the_connection_of_the_old_one(sender, serve):
    old, new = await serve(answering(OK)), await serve(answering(OK))
    await send(sender, old.url)
    await send(sender, new.url)
    assert (len(old.requests), len(new.requests)) == (1, 1)


async def test_a_failed_lookup_is_a_dns_error(sender_with):
    def unknown(host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    outcome = await send(sender_with(names=unknown), "https://nowhere.example/")
    assert outcome.error.kind is ErrorClass.DNS
    assert outcome.error.text == "looking up nowhere.example: name or service not known"
    assert outcome.phases.dns_ms is not None


async def test_a_reset_in_the_handshake_is_told_from_a_certificate_that_is_refused(sender, serve):
    async def reset_at_hello(server, reader, writer):
        await reader.read(5)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    server = await serve(reset_at_hello)
    outcome = await send(sender, f"https://127.0.0.1:{server.port}/")
    assert outcome.error.kind is ErrorClass.TLS
    assert "ended during the TLS handshake" in outcome.error.text
