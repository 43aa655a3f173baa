"""The real daemon answers as its description says: every success that is promised, and problems of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

import webhookd
from tests.kit.daemon import Daemon, Response, eventually, running_daemon
from tests.kit.described import Judge, complaints_about, roles_of_routes
from tests.kit.receiver import Receiver
from webhookd.api.openapi import openapi_document

BATCH = b'{"type":"order.paid","payload":1}\n{"type":"order.paid","payload":2}\n'


class Asker:
    """Asks the daemon, and judges each answer."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.judge = Judge()

    async def __call__(self, method: str, path: str, body: object = None, *, wanted: int, **headers: str) -> Any:
        response = await self.daemon.request(
            method, path, body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert response.status == wanted, response.body
        self.judged(method, path, response)
        is_json = response.body and "json" in response.headers.get("content-type", "")
        return response.json() if is_json else None

    def judged(self, method: str, path: str, response: Response) -> None:
        media = response.headers.get("content-type", "")
        assert self.judge.judge(method, path, response.status, media, response.body) == []


async def test_every_success_that_is_promised_is_answered_as_described(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        declared = {"url": f"{receiver.url}/declared", "types": ["declared.*"], "signatures": []}
        async with running_daemon(tmp_path, {"endpoints": {"declared": declared}}) as daemon:
            ask = Asker(daemon)
            await make_endpoints(ask, receiver.url)
            await hand_in_events(ask)
            await look_at_events(ask)
            await owe_again(ask)
            await hold(ask)
            await follow(ask)
            await look_at_the_daemon(ask, tmp_path)
            await be_refused(ask)
            await ask("DELETE", "/v1/endpoints/orders", wanted=204)
            # Nothing that is promised may have been left out here.
            assert list(ask.judge.missing()) == []


async def make_endpoints(ask: Asker, url: str) -> None:
    keys = {
        "id": "orders",
        "url": f"{url}/hook?key=hidden",
        "types": ["order.*"],
        "where": {"/n": [1, 2, None], "/m": {"exists": False}},
        "description": "the shop",
        "retry": {"first": "5m", "factor": 2, "retries": 9, "max": "1d"},
        "ack": [200, 202],
        "headers": {"X-Shop": "1"},
        "sample": {"n": 1},
        "basic_auth": {"username": "u", "password": "p"},
        "signatures": [{"scheme": "standard"}, {"scheme": "github", "secret": "another-secret-of-its-own"}],
    }
    await ask("POST", "/v1/endpoints", keys, wanted=201)
    await ask("POST", "/v1/endpoints", {"url": f"{url}/second", "url_secret": True}, wanted=201)
    await ask("GET", "/v1/endpoints/orders", wanted=200)
    await ask("GET", "/v1/endpoints/declared", wanted=200)
    await ask("PATCH", "/v1/endpoints/orders", {"description": None, "where": None, "rate": "50/s"}, wanted=200)
    await ask("POST", "/v1/endpoints/orders/rotate-secret", {"overlap": "1h"}, wanted=200)
    await ask("POST", "/v1/endpoints/orders/test", wanted=200)
    await ask("GET", "/v1/endpoints", wanted=200)


async def hand_in_events(ask: Asker) -> None:
    event = {"type": "order.paid", "payload": {"n": 1}, "idempotency_key": "one"}
    await ask("POST", "/v1/events", event, wanted=202)
    await ask("POST", "/v1/events", event, wanted=200)
    await ask("POST", "/v1/events", event | {"payload": {"n": 2}}, wanted=409)
    await ask("POST", "/v1/events", BATCH, wanted=202, Content_Type="application/x-ndjson")
    raw = {"Content_Type": "text/plain", "Idempotency_Key": '"two"'}
    await ask("POST", "/v1/events/order.printed?tenant=default", b"42", wanted=202, **raw)
    await ask("POST", "/v1/events/order.printed", b"42", wanted=200, **raw)
    await ask("POST", "/v1/events/order.late?deliver_at=2099-01-01T00:00:00Z", b"1", wanted=422)
    await ask.daemon.settled()


async def look_at_events(ask: Asker) -> None:
    for type_ in ("order.paid", "order.printed"):
        (event, *_) = (await ask("GET", f"/v1/events?type={type_}", wanted=200))["data"]
        await ask("GET", f"/v1/events/{event['id']}", wanted=200)
    page = await ask("GET", "/v1/events?limit=1&tenant=default&since=2020-01-01T00:00:00Z", wanted=200)
    await ask("GET", f"/v1/events?limit=1&cursor={page['next']}&until=2099-01-01T00:00:00Z", wanted=200)


async def owe_again(ask: Asker) -> None:
    (delivery, *_) = (await ask("GET", "/v1/deliveries?endpoint=orders&state=delivered", wanted=200))["data"]
    await ask("GET", f"/v1/deliveries/{delivery['id']}", wanted=200)
    await ask("POST", f"/v1/events/{delivery['event']}/resend", {"endpoint": "orders"}, wanted=202)
    await ask("POST", f"/v1/deliveries/{delivery['id']}/resend", wanted=202)
    await ask.daemon.settled()
    await ask("POST", f"/v1/deliveries/{delivery['id']}/cancel", wanted=409)
    replay = {"states": ["delivered"], "types": ["order.*"], "since": "2020-01-01T00:00:00Z"}
    await ask("POST", "/v1/endpoints/orders/replay", replay | {"dry_run": True}, wanted=200)
    await ask("POST", "/v1/endpoints/orders/replay", replay, wanted=202)
    await ask.daemon.settled()


async def hold(ask: Asker) -> None:
    await ask("POST", "/v1/endpoints/orders/disable", wanted=200)
    event = await ask("POST", "/v1/events", {"type": "order.paid", "payload": {}}, wanted=202)
    (kept,) = (await ask("GET", f"/v1/deliveries?event={event['id']}&endpoint=orders", wanted=200))["data"]
    assert kept["held"]
    status = await ask("GET", "/v1/status", wanted=200)
    assert [endpoint["id"] for endpoint in status["attention"]] == ["orders"]
    await ask("POST", f"/v1/deliveries/{kept['id']}/cancel", wanted=200)
    await ask("POST", "/v1/endpoints/orders/enable", wanted=200)


async def look_at_the_daemon(ask: Asker, directory: Path) -> None:
    await ask("POST", "/v1/backup", {"path": str(directory / "copy.db")}, wanted=200)
    await ask("POST", "/v1/backup", {"path": str(directory / "copy.db")}, wanted=409)
    for path in ("/v1/status", "/healthz", "/readyz", "/metrics"):
        await ask("GET", path, wanted=200)
        await ask("HEAD", path, wanted=200)
    document = await ask("GET", "/openapi.json", wanted=200)
    assert document == json.loads(json.dumps(openapi_document(roles_of_routes(), version=webhookd.__version__)))


async def be_refused(ask: Asker) -> None:
    await ask("PATCH", "/v1/endpoints/declared", {"description": "no"}, wanted=409)
    await ask("GET", "/v1/endpoints/nobody", wanted=404)
    await ask("GET", "/v1/events?colour=red", wanted=422)
    await ask("POST", "/v1/events", b"<xml/>", wanted=415, Content_Type="text/xml")
    await ask("POST", "/v1/events", b"{", wanted=400, Content_Type="application/json")
    await ask("GET", "/v1/events", wanted=401, Authorization="Bearer wrong")
    await ask("GET", "/v1/events", wanted=403, Origin="https://elsewhere.example")


async def follow(ask: Asker) -> None:
    """Read the stream until it has told of an attempt."""
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(f"{ask.daemon.url}/v1/attempts/stream?type=declared.*&endpoint=declared") as response,
    ):
        assert response.status == 200
        ask.judge.judge("GET", "/v1/attempts/stream", 200, response.headers["Content-Type"], b"")
        await ask("POST", "/v1/events", {"type": "declared.one", "payload": {}}, wanted=202)
        seen = b""

        async def is_told() -> bool:
            nonlocal seen
            seen += await response.content.readany()
            return b"data: " in seen and seen.endswith(b"\n\n")

        await eventually(is_told)
        (told,) = [line[6:] for line in seen.splitlines() if line.startswith(b"data: ")]
        assert complaints_about(json.loads(told), {"$ref": "#/components/schemas/AttemptNotice"}) == []
