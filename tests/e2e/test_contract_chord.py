"""What Chord OMS promises about its webhooks, kept by the profile `chord` alone."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.kit.contracts import contract, endpoint, hand_in, payload, profile
from tests.kit.daemon import Daemon, eventually, free_port, running_daemon
from tests.kit.receiver import Receiver, Reply

EVENTS = (
    *("order_completed", "order_cancelled"),
    *("shipment_shipped", "shipment_updated", "shipment_delivery_status_updated"),
    *("stock_item_back_in_stock", "stock_item_out_of_stock"),
)
TOKEN = "b7" * 24


def webhook(url: str, **changes: object) -> dict[str, Any]:
    """Return the endpoint of the example without its list of events."""
    return endpoint("chord-orders", url, **{"types": None, **changes})


async def attempts_at(daemon: Daemon, endpoint_id: str) -> list[list[dict[str, Any]]]:
    """Return the attempts of each delivery to an endpoint, the latest delivery first."""
    return [
        (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()["attempts"]
        for delivery in await daemon.deliveries(endpoint=endpoint_id)
    ]


@pytest.mark.parametrize(
    ("event_type", "name"),
    [
        ("order_completed", "chord-order"),
        ("shipment_shipped", "chord-shipment"),
        ("stock_item_back_in_stock", "chord-stock-item"),
    ],
)
async def test_each_family_of_payloads_arrives_byte_for_byte(tmp_path: Path, event_type: str, name: str) -> None:
    """Amounts are text, spacing is odd, one number is longer than any double: nothing of it is written anew.

    From "Chord OMS: How to receive event notifications with webhooks", under "Examples of event payloads".
    """
    body = payload(name)
    assert b'"10.0"' in body or b'"22.0"' in body or b"12345678901234567890123" in body
    async with Receiver() as receiver, running_daemon(tmp_path, contract("chord", all=webhook(receiver.url))) as daemon:
        await hand_in(daemon, event_type, body)
        (request,) = await receiver.wait_for(1)
        assert request.method == "POST"
        assert request.header("content-type") == "application/json"
        assert request.body == body


async def test_four_statuses_acknowledge_and_all_others_do_not(tmp_path: Path) -> None:
    """Exactly 200, 201, 202 and 204; other 2xx fail as 3xx do, and redirects are not followed.

    From "Chord OMS: How to receive event notifications with webhooks", under "Allowed HTTP status code".
    """
    statuses = (*range(200, 209), 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 404, 410, 429, 500, 503)
    async with Receiver() as receiver:
        for status in statuses:
            receiver.script(Reply(status=status, headers=(("Location", "/elsewhere"),)), path=f"/{status}")
        endpoints = {f"s{status}": webhook(f"{receiver.url}/{status}", retry=[]) for status in statuses}
        async with running_daemon(tmp_path, contract("chord", **endpoints)) as daemon:
            await hand_in(daemon, "order_completed", payload("chord-order"))
            deliveries = await daemon.settled()
            delivered = {one["endpoint"] for one in deliveries if one["state"] == "delivered"}
            assert delivered == {"s200", "s201", "s202", "s204"}
            assert len(deliveries) == receiver.count == len(statuses)
            shown = (await daemon.get("/v1/endpoints?limit=500")).json()["data"]
            assert {one["status"] for one in shown} == {"enabled"}


async def test_what_is_not_acknowledged_is_repeated_up_to_five_times(tmp_path: Path) -> None:
    """As many repeats as the profile has delays, here shortened; an allowed status ends them early.

    From "Chord OMS: How to receive event notifications with webhooks", under "Key considerations".
    """
    soon = ["20ms"] * len(profile("chord")["retry"])
    async with Receiver() as receiver:
        receiver.script(500, path="/never")
        receiver.script(500, 302, 203, 204, path="/fourth")
        config = contract(
            "chord",
            never=webhook(f"{receiver.url}/never", retry=soon),
            fourth=webhook(f"{receiver.url}/fourth", retry=soon),
        )
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "order_completed", payload("chord-order"))
            await daemon.settled()
            ((*never,),) = await attempts_at(daemon, "never")
            ((*fourth,),) = await attempts_at(daemon, "fourth")
            assert [attempt["status"] for attempt in never] == [500] * (1 + 5)
            assert [attempt["status"] for attempt in fourth] == [500, 302, 203, 204]
            assert {request.body for request in receiver.requests} == {payload("chord-order")}
            assert receiver.count == 6 + 4


async def test_an_endpoint_gets_the_events_on_its_list_and_no_others(tmp_path: Path) -> None:
    """Seven types of events; each endpoint lists those that it wants.

    From "Chord OMS: How to receive event notifications with webhooks", under "Event types".
    """
    lists = {
        "orders": ["order_completed", "order_cancelled"],
        "stock": ["stock_item_*"],
        "shipped": ["shipment_shipped"],
    }
    async with Receiver() as receiver:
        assert endpoint("chord-orders")["types"] == lists["orders"]
        config = contract(
            "chord",
            orders=endpoint("chord-orders", f"{receiver.url}/orders"),
            stock=webhook(f"{receiver.url}/stock", types=lists["stock"]),
            shipped=webhook(f"{receiver.url}/shipped", types=lists["shipped"]),
        )
        async with running_daemon(tmp_path, config) as daemon:
            for event_type in EVENTS:
                await hand_in(daemon, event_type, b'{"event_name": "%b"}' % event_type.encode())
            await daemon.settled()
            for name, globs in lists.items():
                wanted = [event for event in EVENTS if any(fnmatch(event, glob) for glob in globs)]
                assert sorted(request.body for request in receiver.at(f"/{name}")) == sorted(
                    b'{"event_name": "%b"}' % event.encode() for event in wanted
                )


async def test_endpoints_are_added_changed_and_deleted_with_a_bearer_token(tmp_path: Path) -> None:
    """Over HTTP, with the URL and the list of events; nobody gets in without the token.

    From "Chord OMS: How to receive event notifications with webhooks", under "Add endpoints with the API" and
    "Manage webhook endpoints".
    """
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    config = {
        "profiles": {"chord": profile("chord")},
        "token": [{"name": "shop", "role": "operate", "secret": TOKEN}],
        "listen": [
            {"address": f"unix:{tmp_path}/in.sock", "role": "ingest"},
            {"address": f"tcp:127.0.0.1:{free_port()}", "role": "ingest"},
        ],
    }
    async with Receiver() as receiver, running_daemon(tmp_path, config) as daemon:
        made = {"url": f"{receiver.url}/my/endpoint", "types": ["order_completed", "order_cancelled"]}
        wanted = {"id": "shop", "profile": "chord", **made}
        for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}0"}):
            refused = await daemon.post("/v1/endpoints", wanted, headers=headers)
            assert refused.status == (401 if headers else 403)
        added = await daemon.post("/v1/endpoints", wanted, headers=bearer)
        assert added.status == 201
        assert added.json()["types"] == made["types"]
        assert "secret" not in added.json(), "a contract without signatures needs none"

        await hand_in(daemon, "order_completed", b"1")
        await hand_in(daemon, "shipment_shipped", b"2")
        await receiver.wait_for(1)
        changed = await daemon.request("PATCH", "/v1/endpoints/shop", {"types": ["shipment_shipped"]}, headers=bearer)
        assert (changed.status, changed.json()["types"]) == (200, ["shipment_shipped"])
        await hand_in(daemon, "order_completed", b"3")
        await hand_in(daemon, "shipment_shipped", b"4")
        await receiver.wait_for(2)
        deleted = await daemon.request("DELETE", "/v1/endpoints/shop", headers=bearer)
        assert deleted.status == 204
        await hand_in(daemon, "shipment_shipped", b"5")
        assert (await daemon.get("/v1/endpoints", headers=bearer)).json()["data"] == []
        assert await daemon.terminate() == 0
        assert [request.body for request in receiver.requests] == [b"1", b"4"]


async def test_latest_response_attempts_and_their_statuses_are_on_record(tmp_path: Path) -> None:
    """For one endpoint: its latest answer, everything that was attempted, and each status that came back.

    From "Chord OMS: How to receive event notifications with webhooks", under "View events".
    """
    async with Receiver() as receiver:
        receiver.script(500, Reply(status=302, body=b"moved"), 201, Reply(status=202, body=b"queued: 7"), path="/one")
        config = contract(
            "chord",
            one=webhook(f"{receiver.url}/one", retry=["20ms", "20ms"], concurrency=1),
            other=webhook(f"{receiver.url}/other"),
        )
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "order_completed", payload("chord-order"))
            await daemon.settled()
            await hand_in(daemon, "shipment_shipped", payload("chord-shipment"))
            await daemon.settled()

            async def is_latest() -> bool:
                return bool((await daemon.get("/v1/endpoints/one")).json()["last_attempt"]["status"] == 202)

            assert await eventually(is_latest)
            latest = (await daemon.get("/v1/endpoints/one")).json()["last_attempt"]
            assert latest["excerpt"] == "queued: 7"
            later, first = await attempts_at(daemon, "one")
            assert [attempt["status"] for attempt in first] == [500, 302, 201]
            assert [attempt["number"] for attempt in first] == [1, 2, 3]
            assert [attempt["status"] for attempt in later] == [202]
            assert first[1]["excerpt"] == "moved"
            assert [one["type"] for one in await daemon.deliveries(endpoint="one")] == [
                "shipment_shipped",
                "order_completed",
            ]
