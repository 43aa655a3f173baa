"""What a receiver gets, and when: filters, envelopes, times and untouched bytes, through the real daemon."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from standardwebhooks import Webhook

from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver, Request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BINARY = {"Content-Type": "application/x-thing; v=1"}


def endpoints(receiver: Receiver, **named: dict[str, Any]) -> dict[str, Any]:
    return {
        "endpoints": {
            name: {"url": f"{receiver.url}/{name}", "secret": SECRET, "jitter": 0, **keys}
            for name, keys in named.items()
        }
    }


async def command(daemon: Daemon, *arguments: str, stdin: bytes = b"{}") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "webhookd", "--server", daemon.url, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


def verified(request: Request) -> Any:
    headers = {name.decode(): value.decode() for name, value in request.headers}
    return Webhook(SECRET).verify(request.body, headers)


def paths(receiver: Receiver) -> list[str]:
    return sorted(request.path for request in receiver.requests)


def ahead(seconds: float) -> str:
    """Return the moment so far from now, in an offset that nobody lives in."""
    zone = datetime.now(UTC) + timedelta(seconds=seconds, hours=5, minutes=45)
    return zone.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+05:45"


# Filters.


async def test_a_filter_lets_through_what_it_names_and_the_rest_is_explained(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        config = endpoints(
            receiver,
            ended={"where": {"/data/status": ["succeeded", "canceled"]}},
            large={"where": {"/data/amount": {"gte": 100}, "/data/test": {"exists": False}}},
        )
        async with running_daemon(tmp_path, config) as daemon:
            await daemon.send("payment.updated", {"data": {"status": "succeeded", "amount": 10}})
            await daemon.send("payment.updated", {"data": {"status": "processing", "amount": 100.0}})
            missed = await daemon.send("payment.updated", {"data": {"status": "s" * 100, "amount": 1000, "test": True}})
            raw = await daemon.post("/v1/events/payment.updated", b"\x00", headers=BINARY)
            await daemon.settled()
            assert paths(receiver) == ["/ended", "/large"]
            assert (missed["deliveries"], raw.json()["deliveries"]) == (0, 0)
            assert await reasons(daemon, missed["id"]) == {
                "ended": f'where /data/status is "{"s" * 64}…", wanted succeeded or canceled',
                "large": "where /data/test is true, wanted it to be missing",
            }
            assert set((await reasons(daemon, raw.json()["id"])).values()) == {
                "where takes JSON payloads only, this one is application/x-thing; v=1"
            }
            code, shown = await command(daemon, "events", "show", missed["id"])
            assert (code, "wanted succeeded or canceled" in shown) == (0, True)


async def test_a_filter_made_over_the_api_is_shown_changed_and_kept(tmp_path: Path) -> None:
    long = 123456789012345678901
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        where = {"/n": [long, 10.5, None, "é"], "/kind": {"not": ["draft"]}}
        made = await daemon.post("/v1/endpoints", {"id": "made", "url": f"{receiver.url}/made", "where": where})
        assert (made.status, made.json()["where"]) == (201, where)
        await daemon.restart()
        shown = await daemon.get("/v1/endpoints/made")
        assert shown.json()["where"] == where
        assert str(long) in shown.body.decode()
        matching = (b'{"n":123456789012345678901}', b'{"n":1.05e1,"kind":"final"}', b'{"n":null}')
        failing = (b'{"n":123456789012345678900}', b'{"n":null,"kind":"draft"}', b"{}")
        for payload in (*matching, *failing):
            await daemon.post("/v1/events/x", payload, headers={"Content-Type": "application/json"})
        await daemon.settled()
        assert {request.body for request in receiver.requests} == set(matching)
        patch = {"where": {"/n": None, "/kind": {"not": ["final"]}}}
        changed = await daemon.request("PATCH", "/v1/endpoints/made", patch)
        assert changed.json()["where"] == {"/kind": {"not": ["final"]}}
        cleared = await daemon.request("PATCH", "/v1/endpoints/made", {"where": None})
        assert cleared.json()["where"] == {}
        wrong = await daemon.request("PATCH", "/v1/endpoints/made", {"where": {"kind": 1, "/a": {"exist": True}}})
        assert wrong.status == 422
        assert [error["pointer"] for error in wrong.json()["errors"]] == ["/where/kind", "/where/~1a/exist"]


async def test_what_nobody_wants_can_be_refused(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        config = endpoints(receiver, paid={"where": {"/status": "paid"}}) | {"ingest": {"on_no_match": "reject"}}
        async with running_daemon(tmp_path, config) as daemon:
            refused = await daemon.post("/v1/events", {"type": "order", "payload": {"status": "open"}})
            assert (refused.status, refused.json()["type"]) == (422, "urn:webhookd:problem:no_match")
            taken = await daemon.post("/v1/events", {"type": "order", "payload": {"status": "paid"}})
            assert taken.status == 202


async def reasons(daemon: Daemon, event_id: str) -> dict[str, str]:
    event = (await daemon.get(f"/v1/events/{event_id}")).json()
    return {missed["endpoint"]: missed["reason"] for missed in event["not_matched"]}


# Envelopes.


async def test_an_envelope_holds_type_acceptance_and_the_payload_as_it_came(tmp_path: Path) -> None:
    odd = b' {"amount": 10.0,\t"a":1, "a":2, "n":123456789012345678901234567890, "s":"\\u00e9 \xc3\xa9" }\r\n'
    async with Receiver() as receiver:
        config = endpoints(receiver, wrapped={"body": "envelope"}, plain={})
        async with running_daemon(tmp_path, config) as daemon:
            answer = await daemon.post("/v1/events/order.paid", odd, headers={"Content-Type": "application/ld+json"})
            other = await daemon.post("/v1/events/order.paid", b"a,b", headers={"Content-Type": "text/csv"})
            await daemon.settled()
            sent = {request.path: request for request in receiver.requests if request.event_id == answer.json()["id"]}
            accepted_at = (await daemon.get(f"/v1/events/{answer.json()['id']}")).json()["accepted_at"]
            head = f'{{"type":"order.paid","timestamp":"{accepted_at}","data":'.encode()
            assert sent["/wrapped"].body == head + odd + b"}"
            assert sent["/wrapped"].header("content-type") == "application/json"
            assert sent["/plain"].body == odd
            assert sent["/plain"].header("content-type") == "application/ld+json"
            for request in sent.values():
                verified(request)
            assert other.json()["deliveries"] == 1
            assert await reasons(daemon, other.json()["id"]) == {
                "wrapped": "body = envelope takes JSON payloads only, this one is text/csv"
            }


async def test_a_test_send_comes_in_its_envelope(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_bytes(b'{"order": 7.0}')
    async with Receiver() as receiver:
        config = endpoints(
            receiver,
            sampled={"body": "envelope", "sample_file": str(tmp_path / "sample.json"), "where": {"/order": "no"}},
            plain={"body": "envelope"},
        )
        async with running_daemon(tmp_path, config) as daemon:
            for name, data in (("sampled", b'{"order": 7.0}'), ("plain", b'{"type":"webhookd.test"}')):
                answer = await daemon.post(f"/v1/endpoints/{name}/test")
                assert answer.json()["acknowledged"] is True
                request = receiver.requests[-1]
                assert request.body.startswith(b'{"type":"webhookd.test","timestamp":"')
                assert request.body.endswith(b'","data":' + data + b"}")
                verified(request)


async def test_what_was_queued_before_it_got_an_envelope_fails_by_its_schedule_and_says_why(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        keys = {"id": "made", "url": f"{receiver.url}/made", "retry": ["100ms", "100ms"], "jitter": 0}
        await daemon.post("/v1/endpoints", keys)
        await daemon.post("/v1/endpoints/made/disable")
        for content_type, payload in (("text/csv", b"a,b"), ("application/json", b"[1]")):
            await daemon.post("/v1/events/x", payload, headers={"Content-Type": content_type})
        await daemon.request("PATCH", "/v1/endpoints/made", {"body": "envelope"})
        await daemon.post("/v1/endpoints/made/enable")
        ended = {delivery["state"]: delivery for delivery in await daemon.settled()}
        assert set(ended) == {"delivered", "dead"}
        assert [json.loads(request.body)["data"] for request in receiver.requests] == [[1]]
        dead = (await daemon.get(f"/v1/deliveries/{ended['dead']['id']}")).json()
        assert dead["reason"] == "retries_exhausted"
        assert [attempt["error"] for attempt in dead["attempts"]] == [
            {"class": "internal", "text": "body = envelope takes JSON payloads only, and this one is text/csv"}
        ] * 3
        await daemon.request("PATCH", "/v1/endpoints/made", {"body": None})
        await daemon.post(f"/v1/deliveries/{dead['id']}/resend")
        await receiver.wait_for(2)
        assert receiver.requests[-1].body == b"a,b"


# Times of delivery.


async def test_every_way_in_takes_a_time_and_nothing_is_sent_before_it(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, endpoints(receiver, orders={})) as daemon:
        begun = time.monotonic()
        when = ahead(1.5)
        one = await daemon.send("a", 1, deliver_at=when)
        lines = f'{{"type":"b","payload":2,"deliver_at":"{when}"}}\n{{"type":"c","payload":3}}\n'.encode()
        batch = await daemon.post("/v1/events", lines, headers={"Content-Type": "application/x-ndjson"})
        raw = await daemon.post(f"/v1/events/d?deliver_at={quote(when)}", b"4", headers=BINARY)
        plus = await daemon.post(f"/v1/events/e?tenant=default&deliver_at={when}", b"5", headers=BINARY)
        assert [batch.status, raw.status, plus.status] == [202, 202, 202]
        code, _ = await command(daemon, "send", "f", "--deliver-at", "1s", stdin=b"6")
        assert code == 0
        event = (await daemon.get(f"/v1/events/{one['id']}")).json()
        moment = datetime.fromisoformat(when)
        assert datetime.fromisoformat(event["deliver_at"]) == moment
        assert event["deliver_at"].endswith("Z")
        (delivery,) = event["deliveries"]
        assert delivery["next_attempt_at"] == event["deliver_at"]
        assert delivery["created_at"] == event["accepted_at"] < event["deliver_at"]
        (first,) = await receiver.wait_for(1)
        assert first.body == b"3"
        await receiver.wait_for(6)
        at = {request.body: request.at - begun for request in receiver.requests}
        assert set(at) == {b"1", b"2", b"3", b"4", b"5", b"6"}
        assert min(at[body] for body in (b"1", b"2", b"4", b"5")) >= 1.49
        assert at[b"6"] >= 1.0


async def test_a_time_outlasts_a_crash(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, endpoints(receiver, orders={})) as daemon:
        begun = time.monotonic()
        sent = await daemon.send("a", 1, deliver_at=ahead(3))
        await daemon.send("a", 2, deliver_at=ahead(0.1))

        async def is_recorded() -> bool:
            return len(await daemon.deliveries(state="delivered")) == 1

        # Killed before that, the daemon would rightly send it again.
        await eventually(is_recorded)
        await daemon.kill9()
        await daemon.start()
        first, second = await receiver.wait_for(2)
        assert (first.body, second.body, second.event_id) == (b"2", b"1", sent["id"])
        assert second.at - begun >= 2.99


async def test_in_order_a_later_time_holds_back_what_comes_after(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, endpoints(receiver, orders={"ordered": True}, others={})) as daemon,
    ):
        await daemon.send("a", 1, deliver_at=ahead(0.8))
        await daemon.send("a", 2)
        await daemon.settled()
        bodies = {path: [r.body for r in receiver.requests if r.path == path] for path in ("/orders", "/others")}
        assert bodies == {"/orders": [b"1", b"2"], "/others": [b"2", b"1"]}


async def test_a_time_that_cannot_be_is_refused(tmp_path: Path) -> None:
    wrong = {
        "2030-01-01T00:00:00": "with its offset",
        "10m": "with its offset",
        1893456000: "str",
        "9999-12-31T23:59:59Z": "365 days",
        ahead(366 * 86_400): "365 days",
    }
    async with running_daemon(tmp_path, {}) as daemon:
        for deliver_at, words in wrong.items():
            body = {"type": "a", "payload": 1, "deliver_at": deliver_at}
            refused = await daemon.post("/v1/events", body)
            (error,) = refused.json()["errors"]
            assert (refused.status, error["pointer"]) == (422, "/deliver_at")
            assert words in error["detail"]
            ndjson = b'{"type":"a","payload":1}\n' + json.dumps(body).encode()
            batch = await daemon.post("/v1/events", ndjson, headers={"Content-Type": "application/x-ndjson"})
            (error,) = batch.json()["errors"]
            assert (batch.status, error["pointer"]) == (422, "/2/deliver_at")
            raw = await daemon.post(f"/v1/events/a?deliver_at={quote(str(deliver_at))}", b"", headers=BINARY)
            assert raw.status == 422
        assert (await daemon.get("/v1/events")).json()["data"] == []
        assert (await daemon.send("a", 1, deliver_at=ahead(364 * 86_400)))["deliveries"] == 0


async def test_a_key_stands_for_the_time_too(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, {}) as daemon:
        first = await daemon.send("a", 1, idempotency_key="k", deliver_at="2024-02-29T12:00:00+02:00")
        again = await daemon.send("a", 1, idempotency_key="k", deliver_at="2024-02-29T10:00:00.000Z")
        assert again == {**first, "duplicate": True}
        body = {"type": "a", "payload": 1, "idempotency_key": "k"}
        for other in ({}, {"deliver_at": "2024-02-29T10:00:00.001Z"}):
            conflict = await daemon.post("/v1/events", body | other)
            assert conflict.status == 409


# Bytes.

JSON_BODIES = [
    b'{"amount": 10.0}',
    b'{"escaped":"\\u0041\\/\\u00e9", "plain":"\xc3\xa9"}',
    b'{\r\n  "crlf": "\\r\\n"\r\n}\r\n',
    b"\t[1e999, -0, 123456789012345678901234567890]\n",
    b'{"a":1,"a":2}',
    b'"half \\ud83d of a pair"',
    b'"' + b"\xf0\x9f\x98\x80" * 65_535 + b'"',
]
OTHER_BODIES = [b"", b"\x00", bytes(range(256)) * 1024, b"\xff\xfe\r\n\r\n", b'{"broken": ', b"a,b\r\n1,2\r\n"]


async def test_bytes_and_content_types_come_through_every_door_untouched(tmp_path: Path) -> None:
    content_types = ["application/json", "application/vnd.x+json; charset=utf-8"]
    async with Receiver() as receiver, running_daemon(tmp_path, endpoints(receiver, orders={})) as daemon:
        expected: dict[str, tuple[str, str]] = {}

        async def hand_in(path: str, body: bytes, sent_type: str, payload: bytes, kept_type: str) -> None:
            answer = await daemon.post(path, body, headers={"Content-Type": sent_type})
            assert answer.status == 202, answer.body
            expected[answer.json()["id"]] = (hashlib.sha256(payload).hexdigest(), kept_type)

        for payload in JSON_BODIES:
            envelope = b'{"type":"x","content_type":"Text/Odd;  a=b","payload":' + payload.strip() + b"}"
            await hand_in("/v1/events", envelope, "application/json", payload.strip(), "Text/Odd;  a=b")
            for content_type in content_types:
                await hand_in("/v1/events/x", payload, content_type, payload, content_type)
        for payload in OTHER_BODIES:
            await hand_in("/v1/events/x", payload, BINARY["Content-Type"], payload, BINARY["Content-Type"])
        await daemon.settled()
        arrived = {
            request.event_id: (hashlib.sha256(request.body).hexdigest(), request.header("content-type"))
            for request in receiver.requests
        }
        assert arrived == expected
        assert len(arrived) == 3 * len(JSON_BODIES) + len(OTHER_BODIES)


async def test_bytes_outlast_a_crash_and_a_resend(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, endpoints(receiver, orders={})) as daemon:
        await daemon.post("/v1/endpoints/orders/disable")
        for payload in OTHER_BODIES:
            await daemon.post("/v1/events/x", payload, headers=BINARY)
        await daemon.kill9()
        await daemon.start()
        await daemon.post("/v1/endpoints/orders/enable")
        deliveries = await daemon.settled()
        assert sorted(request.body for request in receiver.requests) == sorted(OTHER_BODIES)
        for delivery in deliveries:
            await daemon.post(f"/v1/deliveries/{delivery['id']}/resend")
        await receiver.wait_for(2 * len(OTHER_BODIES))
        assert sorted(request.body for request in receiver.requests) == sorted(OTHER_BODIES * 2)
