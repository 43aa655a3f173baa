"""Who may do what, asked over real sockets: every route against every role, and the checks on TCP."""

from __future__ import annotations

import orjson
import pytest

from tests.kit.fakes_api import a_delivery, an_event, request, settings
from webhookd.core.ids import delivery_text, event_text
from webhookd.core.settings import Role, Token

IN, LOOK, ALL = "in-secret", "look-secret", "all-secret"
TOKENS = (
    Token(name="in", role=Role.INGEST, secret=IN),
    Token(name="look", role=Role.READ, secret=LOOK),
    Token(name="all", role=Role.OPERATE, secret=ALL),
)
EVENT_ID, DELIVERY_ID = event_text(an_event().id), delivery_text(a_delivery().id)

ROUTES = [
    ("POST", "/v1/events", Role.INGEST, b'{"type":"a","payload":1}'),
    ("POST", "/v1/events/a", Role.INGEST, b"1"),
    ("GET", "/v1/events", Role.READ, b""),
    ("GET", f"/v1/events/{EVENT_ID}", Role.READ, b""),
    ("POST", f"/v1/events/{EVENT_ID}/resend", Role.OPERATE, b""),
    ("GET", "/v1/endpoints", Role.READ, b""),
    ("GET", "/v1/endpoints/orders", Role.READ, b""),
    ("POST", "/v1/endpoints", Role.OPERATE, b'{"url":"https://example.com/"}'),
    ("PATCH", "/v1/endpoints/orders", Role.OPERATE, b"{}"),
    ("POST", "/v1/endpoints/orders/test", Role.OPERATE, b""),
    ("POST", "/v1/endpoints/orders/enable", Role.OPERATE, b""),
    ("POST", "/v1/endpoints/orders/disable", Role.OPERATE, b""),
    ("POST", "/v1/endpoints/orders/rotate-secret", Role.OPERATE, b""),
    ("GET", "/v1/deliveries", Role.READ, b""),
    ("GET", f"/v1/deliveries/{DELIVERY_ID}", Role.READ, b""),
    ("POST", f"/v1/deliveries/{DELIVERY_ID}/resend", Role.OPERATE, b""),
    ("POST", f"/v1/deliveries/{DELIVERY_ID}/cancel", Role.OPERATE, b""),
    ("GET", "/v1/status", Role.READ, b""),
    ("GET", "/metrics", Role.READ, b""),
    ("GET", "/healthz", None, b""),
    ("GET", "/readyz", None, b""),
    ("DELETE", "/v1/endpoints/orders", Role.OPERATE, b""),
]


@pytest.mark.parametrize("listener", list(Role))
async def test_every_route_asks_for_its_role(client, house, listener):
    await client.serve(how={"role": listener}, tokens=TOKENS)
    house.history.all_events.append(an_event())
    house.history.all_deliveries.append(a_delivery())
    wire = await client.wire()
    for token, role in ((None, None), (IN, Role.INGEST), (LOOK, Role.READ), (ALL, Role.OPERATE)):
        for method, target, needed, body in ROUTES:
            house.directory.add("orders")
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            answer = await wire.ask(request(method, target, body, **headers))
            allowed = needed is None or listener.allows(needed) or (role is not None and role.allows(needed))
            assert (answer.status < 300) is allowed, (method, target, token, answer)
            assert allowed or answer.status == 403
    house.directory.add("orders")
    for method, target, _, body in ROUTES:
        answer = await wire.ask(request(method, target, body, authorization="Bearer wrong"))
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert orjson.loads(answer.body)["type"] == "urn:webhookd:problem:unauthorized"


async def test_outside_of_loopback_a_token_is_needed(client):
    await client.serve(tcp=True, how={"role": Role.OPERATE, "host": "0.0.0.0"}, tokens=TOKENS)
    wire = await client.wire()
    for method, target, needed, body in ROUTES:
        answer = await wire.ask(request(method, target, body))
        assert answer.status == (200 if needed is None else 401)
    assert (await wire.ask(request("GET", "/v1/status", authorization=f"Bearer {IN}"))).status == 200


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ({}, 202, None),
        ({"host": "127.0.0.1:1"}, 202, None),
        ({"host": "rebound.example"}, 403, "host_refused"),
        ({"origin": "https://evil.example"}, 403, "origin_refused"),
        ({"sec_fetch_site": "cross-site"}, 403, "origin_refused"),
        ({"host": "localhost:8470", "origin": "http://localhost:8470", "sec_fetch_site": "same-origin"}, 202, None),
    ],
)
async def test_web_pages_cannot_reach_a_daemon_on_tcp(client, house, headers, status, slug):
    await client.serve(tcp=True)
    event = b'{"type":"a","payload":1}'
    for method, target, success in (("POST", "/v1/events", 202), ("GET", "/v1/status", 200), ("GET", "/healthz", 200)):
        body = event if method == "POST" else b""
        answer = await client.ask(request(method, target, body, **headers))
        assert answer.status == (success if status == 202 else status)
        if slug is not None:
            assert orjson.loads(answer.body)["type"] == f"urn:webhookd:problem:{slug}"
    assert len(house.acceptor.drafts) == (status == 202)


async def test_names_in_hosts_are_served(client):
    await client.serve(tcp=True, how={"hosts": frozenset({"hooks.lan"})})
    assert (await client.ask(request("GET", "/v1/status", host="Hooks.LAN:80"))).status == 200


async def test_a_url_as_target_is_held_to_its_own_name(client):
    await client.serve(tcp=True)
    assert (await client.ask(request("GET", "http://evil.example/v1/status"))).status == 403
    assert (await client.ask(request("GET", "http://localhost/v1/status", host="evil.example"))).status == 200


async def test_a_token_that_is_taken_away_stops_working_on_open_connections(client, house):
    await client.serve(how={"role": Role.INGEST}, tokens=TOKENS)
    wire = await client.wire()
    look = request("GET", "/v1/status", authorization=f"Bearer {LOOK}")
    assert (await wire.ask(look)).status == 200
    house.api.apply(settings(tokens=TOKENS[:1]))
    assert (await wire.ask(look)).status == 401


async def test_a_refused_producer_is_counted(client, house):
    await client.serve(how={"role": Role.READ})
    wire = await client.wire()
    assert (await wire.ask(request("POST", "/v1/events", b"{}"))).status == 403
    assert (await wire.ask(request("POST", "/v1/endpoints", b"{}"))).status == 403
    assert house.observer.slugs == ["forbidden"]
