"""No URL and no answer of a name server leads where webhookd may not go, judged and dialled for real.

In a namespace where every address is this machine's, whatever is dialled is answered: a connection that must not be
made is made, and seen.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

from tests.faults import ssrf_corpus as corpus
from tests.faults.ssrf_corpus import BLOCKED, DNS, REFUSED, URL, Row, reached
from tests.kit import netns
from tests.kit.builders import endpoint, work
from tests.kit.canaries import Canaries
from tests.kit.clock import VirtualClock
from tests.kit.daemon import running_daemon
from tests.kit.nameserver import Addresses, NameServer
from tests.kit.proxy import ConnectProxy
from webhookd.core.addresses import judge, parse_target
from webhookd.core.attempt import ErrorClass, Outcome
from webhookd.core.settings import DeliveryRules, NetworkRules
from webhookd.net.sender import HttpSender
from webhookd.net.tls import default_context

ROWS = corpus.rows()
PORTS = (1, 80, 443, 8080, 65535)
PATIENT = DeliveryRules(timeout_seconds=10, connect_timeout_seconds=5)
FORBIDDEN_TO_DIAL = {ErrorClass.BLOCKED: BLOCKED, ErrorClass.DNS: DNS}


def test_the_corpus_is_large_and_says_of_nothing_that_it_is_both_refused_and_allowed():
    refused = {(row.url, row.answers, row.allow) for row in ROWS if row.refused}
    allowed = {(row.url, row.answers, row.allow) for row in ROWS if not row.refused}
    assert len(refused) >= 750
    assert len(allowed) >= 150
    assert refused & allowed == set()


def test_the_rules_refuse_and_allow_what_the_corpus_says():
    assert [difference for row in ROWS for difference in _judged_differently(row)] == []


@netns.needs_namespace()
def test_nothing_forbidden_is_reached_by_any_spelling_or_answer():
    found = netns.run(_dial_all, everywhere=True)
    # Every row that may be dialled was, so the canaries sing; what follows would be worth nothing if they did not.
    assert found["reached"] == sum(reached(end) for row in ROWS for end in row.ends)
    assert found["wrong"] == []


@netns.needs_namespace()
def test_the_canaries_sing_when_all_is_allowed():
    assert netns.run(_dial_canaries_allowed, everywhere=True) == [[address, 80] for address in corpus.CANARIES[:-2]]


@netns.needs_namespace()
def test_a_redirect_to_a_canary_is_not_followed():
    assert netns.run(_dial_redirects, everywhere=True) == [
        [status, [[corpus.PUBLIC, 80]]] for status in (301, 302, 303, 307, 308)
    ]


@netns.needs_namespace()
def test_no_address_of_the_inside_is_asked_of_a_proxy():
    found = netns.run(_dial_through_proxy, everywhere=True)
    assert found["asked"] == [f"CONNECT {corpus.PUBLIC}:80"]
    assert found["wrong"] == []


@netns.needs_namespace()
def test_a_daemon_with_real_lookups_reaches_nothing_forbidden(tmp_path):
    found = netns.run(_run_daemon, str(tmp_path), everywhere=True)
    assert found["visits"] == [["10.1.0.1", 80], [corpus.PUBLIC_V6, 80], [corpus.PUBLIC, 80], [corpus.PUBLIC, 8080]]
    assert found["ends"] == found["expected"]
    assert found["own listener"] == 422


def _judged_differently(row: Row) -> list[str]:
    try:
        target = parse_target(row.url)
    except ValueError:
        return [] if row.ends[0] in {URL, REFUSED} else [f"{row}: refused"]
    if row.ends == (URL,):
        return [f"{row}: taken"]
    allow = tuple(map(ip_network, row.allow))
    if target.literal is not None:
        answers: tuple[tuple[str, ...], ...] = ((str(target.literal),),)
    elif row.answers:
        answers = row.answers
    else:
        return []
    wrong = []
    for number, end in enumerate(row.ends):
        at_once = answers[min(number, len(answers) - 1)]
        dialled = bool(at_once) and all(judge(ip_address(address), allow) is None for address in at_once)
        if dialled != reached(end):
            wrong.append(f"{row}: {'dialled' if dialled else 'refused'} at attempt {number + 1}")
    return wrong


class _Answers:
    """Stands in for the system's lookup: a row's answers in turn for its name, and what the library says to others."""

    def __init__(self) -> None:
        self.left: list[tuple[str, ...]] = []
        self._system = socket.getaddrinfo

    def getaddrinfo(self, host, port, *_, **options):
        if not self.left:
            return self._system(host, port, **options)
        answers = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        found = []
        for text in answers:
            address, _, zone = text.partition("%")
            if isinstance(ip_address(address), IPv6Address):
                scope = socket.if_nametoindex(zone) if zone else 0
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (text, 0, 0, scope)))
            else:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)))
        return found


async def _dial_all() -> dict[str, object]:
    answers = _Answers()
    trust = default_context()
    socket.getaddrinfo = answers.getaddrinfo
    wrong: list[str] = []
    count = 0
    async with Canaries(PORTS) as canaries:
        for row in ROWS:
            answers.left = list(row.answers)
            allow = tuple(map(ip_network, row.allow))
            sender = HttpSender(NetworkRules(allow=allow, plain_http=True), VirtualClock(), tls_context=trust)
            for number, end in enumerate(row.ends):
                was = await _end(sender, row.url)
                visits = await canaries.visits()
                where = [host for host, _ in visits]
                count += len(visits)
                right = where == [end] if reached(end) else not where and end in {was, REFUSED}
                if not right:
                    wrong.append(f"{row}: attempt {number + 1} ended {was}, reached {where}")
            await sender.close()
    return {"wrong": wrong, "reached": count}


async def _end(sender: HttpSender, url: str) -> str:
    try:
        outcome = await _send(sender, url)
    except ValueError:
        return URL
    if outcome.error is None:
        return str(outcome.status)
    return FORBIDDEN_TO_DIAL.get(outcome.error.kind, f"{outcome.error.kind}: {outcome.error.text}")


async def _send(sender: HttpSender, url: str) -> Outcome:
    return await sender.send(work(), endpoint(url=url, rules=PATIENT))


async def _dial_canaries_allowed() -> list[list[object]]:
    seen: list[list[object]] = []
    async with Canaries(PORTS) as canaries:
        for address in corpus.CANARIES:
            # Link-local IPv6 needs a zone to be dialled, which no URL can have.
            if address.startswith("fe80"):
                continue
            sender = HttpSender(NetworkRules(allow=(ip_network(address),)), VirtualClock())
            await _end(sender, f"http://[{address}]/" if ":" in address else f"http://{address}/")
            seen += map(list, await canaries.visits())
            await sender.close()
    return seen


async def _dial_redirects() -> list[object]:
    found: list[object] = []
    for status in (301, 302, 303, 307, 308):
        location = "http://169.254.169.254/latest/meta-data/"
        answer = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        async with Canaries(PORTS, answer=answer.encode()) as canaries:
            sender = HttpSender(NetworkRules(allow=(ip_network("0.0.0.0/0"),), plain_http=True), VirtualClock())
            outcome = await _send(sender, f"http://{corpus.PUBLIC}/")
            found.append((outcome.status, await canaries.visits()))
            await sender.close()
    return found


async def _dial_through_proxy() -> dict[str, object]:
    wrong: list[str] = []
    async with Canaries(PORTS), ConnectProxy() as proxy:
        network = NetworkRules(plain_http=True, proxy=proxy.url)
        sender = HttpSender(network, VirtualClock())
        for row in ROWS:
            if row.answers or row.allow or not row.refused or not _is_numeric(row.url):
                continue
            end = await _end(sender, row.url)
            if end != BLOCKED or proxy.asked:
                wrong.append(f"{row}: ended {end}, asked of the proxy: {proxy.heads}")
                proxy.asked.clear()
        await _end(sender, f"http://{corpus.PUBLIC}/")
        await sender.close()
        return {"wrong": wrong, "asked": [f"CONNECT {target}" for target in proxy.asked]}


def _is_numeric(url: str) -> bool:
    """Say whether the system's library makes an address of the host without asking anybody."""
    try:
        host = parse_target(url).host
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (ValueError, socket.gaierror):
        return False
    return True


async def _run_daemon(directory: str) -> dict[str, object]:
    """Send one event to an endpoint for each row of a sample, names and all, until each has failed or been reached."""
    names: dict[str, Addresses | Callable[[int], Addresses]] = {}
    expected: dict[str, list[str]] = {}
    endpoints: dict[str, dict[str, object]] = {}

    def add(end: str, *, url: str | None = None, answers: tuple[str, ...] = (), alias: str | None = None) -> None:
        name = f"e{len(endpoints)}"
        host = f"{name}.example"
        names[host] = Addresses(answers, alias)
        endpoints[name] = {"url": url or f"http://{host}/", "signatures": [], "retry": []}
        expected[name] = [end]

    for address in corpus.CANARIES:
        host = f"[{address}]" if ":" in address else address
        add("blocked", url=f"http://{host}/")
        add("blocked", answers=(address,))
        add("blocked", answers=(corpus.PUBLIC, address))
        add("blocked", answers=(address,), alias="inside.example")
        if ":" not in address:
            add("blocked", answers=(f"::ffff:{address}", corpus.PUBLIC_V6))
    for host in ("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127\u30020.0.1", "localhost", "0"):
        add("blocked", url=f"http://{host}/")
    add("dns")
    add("200", answers=(corpus.PUBLIC,))
    add("200", answers=(corpus.PUBLIC_V6,), alias="outside.example")
    add("200", answers=("10.1.0.1",))

    def flip(already_asked: int) -> Addresses:
        return Addresses((corpus.PUBLIC,) if already_asked == 0 else ("169.254.169.254",))

    names["flip.example"] = flip
    endpoints["flip"] = {"url": "http://flip.example:8080/", "signatures": [], "retry": ["100ms", "100ms"]}
    expected["flip"] = ["500", "blocked", "blocked"]
    config = {"network": {"allow": ["10.1.0.0/16"], "plain_http": True}, "endpoints": endpoints}
    failing = b"HTTP/1.1 500 Not Now\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    ends: dict[str, list[str]] = {}
    async with (
        Canaries((80, 443)) as canaries,
        Canaries((8080,), answer=failing) as flipped,
        NameServer(names),
        running_daemon(Path(directory), config) as daemon,
    ):
        await daemon.send("order.completed", {})
        for delivery in await daemon.settled(60):
            shown = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()
            attempts = shown["attempts"]
            ends[delivery["endpoint"]] = [
                str(attempt["status"]) if attempt["error"] is None else attempt["error"]["class"]
                for attempt in attempts
            ]
        own = await daemon.post("/v1/endpoints", {"id": "own", "url": f"https://127.0.0.1:{daemon.port}/v1/events"})
        visits = [*await canaries.visits(), *await flipped.visits()]
    return {"visits": sorted(visits), "ends": ends, "expected": expected, "own listener": own.status}
