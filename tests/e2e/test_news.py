"""Operational events through the real daemon, and across its crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver, Reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENTS = 400


def config(receiver: Receiver, *types: str, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": {
            "orders": {"url": f"{receiver.url}/orders", "secret": SECRET, "retry": [], "disable_after_days": 0, **more},
            "alerts": {"url": f"{receiver.url}/alerts", "secret": SECRET, "tenant": "webhookd", "types": list(types)},
        }
    }


async def operational_events(daemon: Daemon) -> list[dict[str, Any]]:
    """Return the payloads of all operational events, whatever became of their deliveries."""
    payloads, cursor = [], ""
    while True:
        page = (await daemon.get(f"/v1/events?tenant=webhookd&limit=500{cursor}")).json()
        for event in page["data"]:
            shown = (await daemon.get(f"/v1/events/{event['id']}")).json()
            payloads.append(shown["payload"])
        if page["next"] is None:
            return payloads
        cursor = f"&cursor={page['next']}"


async def test_who_subscribes_is_told_signed_and_at_once(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, config(receiver)) as daemon:
        receiver.script(410, path="/orders")
        await daemon.send("order.paid", {"n": 1})
        requests = await eventually(lambda: _to(receiver, "/alerts", 2))
        told = [json.loads(request.body) for request in requests]
        assert {payload["type"] for payload in told} == {"webhookd.delivery.dead", "webhookd.endpoint.disabled"}
        assert {payload["endpoint"]["disabled_reason"] for payload in told} == {"gone"}
        for request in requests:
            headers = {name.decode().lower(): value.decode() for name, value in request.headers}
            assert Webhook(SECRET).verify(request.body, headers)
        assert (await daemon.post("/v1/endpoints/orders/enable")).status == 200
        (*_, enabled) = await eventually(lambda: _to(receiver, "/alerts", 3))
        assert json.loads(enabled.body)["type"] == "webhookd.endpoint.enabled"


async def test_every_death_is_told_and_nothing_else_across_kills(tmp_path: Path) -> None:
    """Killed in the middle of a storm, twice: the dead on disk are those that were told of, each once."""
    async with Receiver() as receiver, running_daemon(tmp_path, config(receiver, "*.dead")) as daemon:
        receiver.script(Reply(status=500, delay_seconds=0.005), path="/orders")
        batch = b"\n".join(json.dumps({"type": "order.paid", "payload": n}).encode() for n in range(EVENTS))
        answer = await daemon.post("/v1/events", batch, headers={"Content-Type": "application/x-ndjson"})
        assert answer.status == 202
        for share in (1, 2):
            await eventually(lambda share=share: _to(receiver, "/orders", share * EVENTS // 4))
            await daemon.kill9()
            await daemon.start()
        deliveries = await daemon.settled()
        dead = [delivery["id"] for delivery in deliveries if delivery["state"] == "dead"]
        assert len(dead) == EVENTS
        told = [payload["delivery"]["id"] for payload in await operational_events(daemon)]
        assert sorted(told) == sorted(dead)
        delivered = {delivery["endpoint"] for delivery in deliveries if delivery["state"] == "delivered"}
        assert delivered == {"alerts"}


async def _to(receiver: Receiver, path: str, count: int) -> list[Any]:
    """Return the requests to a path once there are so many, else nothing."""
    found = receiver.at(path)
    return found if len(found) >= count else []
