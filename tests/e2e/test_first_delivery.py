"""From a producer's request to an acknowledged, recorded delivery, through the real daemon and real sockets."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver, Reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ODD_PAYLOAD = b'{"amount": 10.0,\t"id":123456789012345678901234567890, "name":"Zo\\u00eb \xc3\xa9", "a":1, "a":2 }'
"""Spacing, an escape, a number no double holds, a repeated key: all that parsing and writing again would change."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")


def to(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET, "jitter": 0, **keys}}}


async def curl(*arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--fail-with-body", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    answer: dict[str, Any] = json.loads(out)
    return answer


async def command(daemon: Daemon, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "webhookd", "--server", daemon.url, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@needs_curl
async def test_an_event_over_each_socket_arrives_byte_for_byte_and_verifiable(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        envelope = tmp_path / "envelope.json"
        envelope.write_bytes(b'{"type":"order.completed","payload":' + ODD_PAYLOAD + b"}")
        payload = tmp_path / "payload.json"
        payload.write_bytes(ODD_PAYLOAD)
        json_header = ("-H", "Content-Type: application/json")
        first = await curl(
            "--unix-socket", str(daemon.ingest_socket), "http://localhost/v1/events", *json_header,
            "--data-binary", f"@{envelope}",
        )  # fmt: skip
        second = await curl(f"{daemon.url}/v1/events/order.completed", *json_header, "--data-binary", f"@{payload}")
        requests = await receiver.wait_for(2)
        assert {request.event_id for request in requests} == {first["id"], second["id"]}
        for request in requests:
            assert request.method == "POST"
            assert request.body == ODD_PAYLOAD
            assert request.header("content-type") == "application/json"
            headers = {name.decode(): value.decode() for name, value in request.headers}
            Webhook(SECRET).verify(request.body, headers)


async def test_what_was_accepted_before_a_crash_is_delivered_after_it_under_the_same_id(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=["1s"])) as daemon:
        receiver.script(Reply(hang=True))
        accepted = [(await daemon.send("order.completed", {"n": number}))["id"] for number in range(20)]
        await daemon.kill9()
        receiver.requests.clear()
        receiver.script(200)
        await daemon.start()
        deliveries = await daemon.settled()
        assert {request.event_id for request in receiver.requests} == set(accepted)
        assert {delivery["state"] for delivery in deliveries} == {"delivered"}


async def test_two_failures_and_an_answer_show_as_three_attempts_at_the_configured_delays(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=["300ms", "600ms"])) as daemon:
        receiver.script(Reply(status=500, body=b"out of\x1b[31m order"), 500, 200)
        await daemon.send("order.completed", {})
        (delivery,) = await daemon.settled()
        code, shown = await command(daemon, "--json", "deliveries", "show", delivery["id"])
        attempts = json.loads(shown)["attempts"]
        assert code == 0
        assert [attempt["status"] for attempt in attempts] == [500, 500, 200]
        assert [attempt["number"] for attempt in attempts] == [1, 2, 3]
        assert "\x1b" not in attempts[0]["excerpt"]
        first, second, third = (request.at for request in receiver.requests)
        assert second - first >= 0.3
        assert third - second >= 0.6
        code, words = await command(daemon, "deliveries", "show", delivery["id"])
        assert (code, words.count("500")) == (0, 2)


@pytest.mark.parametrize("status", [302, 304, 400, 503])
async def test_any_other_status_is_a_failed_attempt_and_no_redirect_is_followed(tmp_path: Path, status: int) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=[])) as daemon:
        receiver.script(Reply(status=status, headers=(("Location", f"{receiver.url}/elsewhere"),)))
        await daemon.send("order.completed", {})
        (delivery,) = await daemon.settled()
        assert (delivery["state"], delivery["reason"]) == ("dead", "retries_exhausted")
        assert [request.path for request in receiver.requests] == ["/hook"]


async def test_a_timeout_is_a_failed_attempt(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=[], timeout="200ms")) as daemon:
        receiver.script(Reply(hang=True))
        await daemon.send("order.completed", {})
        (delivery,) = await daemon.settled()
        shown = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()
        (attempt,) = shown["attempts"]
        assert (shown["state"], attempt["status"], attempt["error"]["class"]) == ("dead", None, "timeout")
        # The loop counts in whole milliseconds.
        assert 199 <= attempt["duration_ms"] < 2000


@pytest.mark.parametrize(("status", "state"), [(200, "delivered"), (201, "delivered"), (202, "delivered"),
                                               (204, "delivered"), (203, "dead")])  # fmt: skip
async def test_an_ack_list_is_exact(tmp_path: Path, status: int, state: str) -> None:
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, to(receiver, retry=[], ack=[200, 201, 202, 204])) as daemon,
    ):
        receiver.script(status)
        await daemon.send("order.completed", {})
        (delivery,) = await daemon.settled()
        assert delivery["state"] == state


async def test_many_events_over_many_connections_are_each_delivered_once(tmp_path: Path) -> None:
    """The same at twenty thousand is what `python -m bench throughput` checks."""
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        answers = await asyncio.gather(*[daemon.send("order.completed", {"n": number}) for number in range(2000)])
        await receiver.wait_for(2000, timeout_seconds=30)
        await daemon.settled()
        counts = receiver.by_event()
        assert set(counts) == {answer["id"] for answer in answers}
        assert set(counts.values()) == {1}


async def test_a_batch_is_accepted_whole_or_not_at_all(tmp_path: Path) -> None:
    ndjson = {"Content-Type": "application/x-ndjson"}
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        good = b'{"type":"a","payload":1}\n{"type":"b","payload":[ 2 ]}\n'
        answer = await daemon.post("/v1/events", good, headers=ndjson)
        assert answer.status == 202
        assert [event["duplicate"] for event in answer.json()["events"]] == [False, False]
        bad = await daemon.post("/v1/events", good + b'{"type":"c c","payload":3}\n', headers=ndjson)
        assert bad.status == 422
        assert bad.headers["content-type"].startswith("application/problem+json")
        assert [error["pointer"] for error in bad.json()["errors"]] == ["/3/type"]
        await receiver.wait_for(2)
        assert sorted(request.body for request in receiver.requests) == [b"1", b"[ 2 ]"]
        assert len((await daemon.get("/v1/events")).json()["data"]) == 2


async def test_a_repeated_key_gives_the_first_event_again_even_after_a_crash(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        first = await daemon.send("order.completed", {"n": 1}, idempotency_key="order-1")
        await daemon.kill9()
        await daemon.start()
        again = await daemon.send("order.completed", {"n": 1}, idempotency_key="order-1")
        assert again == {**first, "duplicate": True}
        other = {"type": "order.completed", "payload": {"n": 2}, "idempotency_key": "order-1"}
        conflict = await daemon.post("/v1/events", other)
        assert (conflict.status, conflict.json()["type"]) == (409, "urn:webhookd:problem:idempotency_conflict")
        await daemon.settled()
        assert set(receiver.by_event()) == {first["id"]}


async def test_the_way_of_an_event_can_be_looked_up(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        config = to(receiver)
        config["endpoints"]["users"] = {"url": f"{receiver.url}/users", "secret": SECRET, "types": ["user.*"]}
        async with running_daemon(tmp_path, config) as daemon:
            sent = await daemon.send("order.completed", {"n": 1})
            await daemon.settled()
            event = (await daemon.get(f"/v1/events/{sent['id']}")).json()
            assert event["payload"] == {"n": 1}
            assert [delivery["state"] for delivery in event["deliveries"]] == ["delivered"]
            assert [missed["endpoint"] for missed in event["not_matched"]] == ["users"]
            assert "user.*" in event["not_matched"][0]["reason"]


async def test_a_private_address_is_refused_unless_allowed(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        config = {**to(receiver, retry=[]), "network": {"allow": [], "plain_http": True}}
        async with running_daemon(tmp_path, config) as daemon:
            await daemon.send("order.completed", {})
            (delivery,) = await daemon.settled()
            (attempt,) = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()["attempts"]
            assert attempt["error"]["class"] == "blocked"
            assert receiver.connections == 0


async def test_an_endpoint_made_by_api_works_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        made = await daemon.post("/v1/endpoints", {"url": f"{receiver.url}/made", "types": ["order.*"]})
        assert made.status == 201
        secret = made.json()["secret"]
        await daemon.send("order.completed", {"n": 1})
        await daemon.restart()
        await daemon.send("order.completed", {"n": 2})
        await receiver.wait_for(2)
        for request in receiver.requests:
            Webhook(secret).verify(request.body, {name.decode(): value.decode() for name, value in request.headers})
        shown = await daemon.get(f"/v1/endpoints/{made.json()['id']}")
        assert secret not in shown.body.decode()
        assert "secret" not in shown.json()


async def test_held_deliveries_go_out_when_the_operator_enables(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        code, _ = await command(daemon, "endpoints", "disable", "orders")
        assert code == 0
        await daemon.send("order.completed", {})
        (held,) = await daemon.deliveries()
        assert (held["state"], held["held"]) == ("pending", True)
        assert receiver.count == 0
        code, _ = await command(daemon, "endpoints", "enable", "orders")
        assert code == 0
        await receiver.wait_for(1)


async def test_resend_sends_the_same_id_again(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        await daemon.send("order.completed", {})
        (delivery,) = await daemon.settled()
        answer = await daemon.post(f"/v1/deliveries/{delivery['id']}/resend")
        assert (answer.status, answer.json()["state"]) == (202, "pending")
        first, second = await receiver.wait_for(2)
        assert first.event_id == second.event_id
        assert first.body == second.body

        async def is_recorded() -> bool:
            shown = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()
            return [attempt["trigger"] for attempt in shown["attempts"]] == ["scheduled", "manual"]

        assert await eventually(is_recorded)
