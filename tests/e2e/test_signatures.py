"""Signatures as receivers get them from the real daemon: every scheme at once, rotation, the exact set of headers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
from pathlib import Path
from typing import Any

import stripe
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.kit.daemon import Daemon, running_daemon
from tests.kit.receiver import Receiver, Reply, Request
from tests.unit.core.test_schemes import ED25519_PUBLIC, ED25519_SECRET
from webhookd.core.settings import Scheme, Signature
from webhookd.core.verifying import Verifier

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAYLOAD = b'{"total": 10.0,\t"name":"Zo\\u00eb"}'


def to(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET, "jitter": 0, **keys}}}


def headers_of(request: Request) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in request.headers}


async def send(daemon: Daemon, event_type: str = "order.completed") -> str:
    answer = await daemon.post(f"/v1/events/{event_type}", PAYLOAD, headers={"Content-Type": "application/json"})
    assert answer.status == 202
    event_id: str = answer.json()["id"]
    return event_id


async def command(daemon: Daemon, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "webhookd", "--server", daemon.url, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def make(daemon: Daemon, receiver: Receiver, **keys: Any) -> dict[str, Any]:
    answer = await daemon.post("/v1/endpoints", {"url": f"{receiver.url}/made", "id": "made", **keys})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


def accepts(secret: str, request: Request) -> bool:
    try:
        Webhook(secret).verify(request.body, headers_of(request))
    except WebhookVerificationError:
        return False
    return True


async def test_every_scheme_at_once_on_one_request(tmp_path: Path) -> None:
    (tmp_path / "ed25519.secret").write_text(ED25519_SECRET + "\n")
    (tmp_path / "ed25519.secret").chmod(0o600)
    signatures = [
        *[{"scheme": scheme} for scheme in ("standard", "stripe", "github", "shopify", "slack")],
        {"scheme": "ed25519", "secret_file": "ed25519.secret"},
        {"scheme": "template", "header": "X-Own", "value": "{id};{signature}", "content": "{id}\n{body}",
         "algorithm": "sha512", "encoding": "base64", "key_encoding": "base64", "strip_prefix": "whsec_"},
    ]  # fmt: skip
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, signatures=signatures)) as daemon:
        event_id = await send(daemon)
        (request,) = await receiver.wait_for(1)
        headers, body = headers_of(request), request.body
        assert body == PAYLOAD
        Webhook(SECRET).verify(body, headers)
        assert stripe.WebhookSignature.verify_header(body.decode(), headers["Stripe-Signature"], SECRET, tolerance=60)
        digest = hmac.digest(SECRET.encode(), body, hashlib.sha256)
        assert headers["X-Hub-Signature-256"] == f"sha256={digest.hex()}"
        assert (headers["X-GitHub-Event"], headers["X-GitHub-Delivery"]) == ("order.completed", event_id)
        assert base64.b64decode(headers["X-Shopify-Hmac-SHA256"]) == digest
        at = headers["X-Slack-Request-Timestamp"]
        slack = hmac.digest(SECRET.encode(), f"v0:{at}:".encode() + body, hashlib.sha256)
        assert headers["X-Slack-Signature"] == f"v0={slack.hex()}"
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        own = hmac.digest(key, f"{event_id}\n".encode() + body, hashlib.sha512)
        assert headers["X-Own"] == f"{event_id};{base64.b64encode(own).decode()}"
        public = Verifier(Signature(scheme=Scheme.ED25519), ED25519_PUBLIC)
        assert public.check(headers, body, time.time()) is None
        shown = (await daemon.get("/v1/endpoints/orders")).json()
        assert shown["public_keys"] == [ED25519_PUBLIC]
        assert ED25519_SECRET not in daemon.log


HEADER_SETS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "default": ({}, ["Content-Type", "User-Agent", "webhook-id", "webhook-timestamp", "webhook-signature"]),
    "standard": (
        {"standard_headers": False, "signatures": [{"scheme": "standard"}]},
        ["Content-Type", "webhook-id", "webhook-timestamp", "webhook-signature"],
    ),
    "stripe": (
        {"standard_headers": False, "signatures": [{"scheme": "stripe"}]},
        ["Content-Type", "Stripe-Signature"],
    ),
    "github": (
        {"standard_headers": False, "signatures": [{"scheme": "github"}], "headers": {"Accept": "*/*"}},
        ["Content-Type", "X-GitHub-Event", "X-GitHub-Delivery", "X-Hub-Signature-256", "Accept"],
    ),
    "bare": ({"standard_headers": False, "signatures": []}, ["Content-Type"]),
}


async def test_the_set_of_headers_is_exactly_what_is_configured(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        endpoints = {
            name: {"url": f"{receiver.url}/{name}", "secret": SECRET, **keys} for name, (keys, _) in HEADER_SETS.items()
        }
        async with running_daemon(tmp_path, {"endpoints": endpoints}) as daemon:
            await send(daemon)
            await receiver.wait_for(len(HEADER_SETS))
            for name, (_, names) in HEADER_SETS.items():
                (request,) = receiver.at(f"/{name}")
                assert [header.decode() for header, _ in request.headers] == ["Host", "Content-Length", *names]


async def test_each_attempt_is_signed_afresh_under_one_id(tmp_path: Path) -> None:
    keys = {"retry": ["1100ms"], "signatures": [{"scheme": "stripe"}, {"scheme": "standard"}]}
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, **keys)) as daemon:
        receiver.script(500, 200)
        await send(daemon)
        first, second = await receiver.wait_for(2)
        assert first.event_id == second.event_id
        assert first.header("stripe-signature") != second.header("stripe-signature")
        assert accepts(SECRET, first)
        assert accepts(SECRET, second)


async def test_in_the_overlap_of_a_rotation_receivers_may_have_either_secret(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        schemes = [{"scheme": scheme} for scheme in ("standard", "stripe", "github")]
        old = (await make(daemon, receiver, signatures=schemes))["secret"]
        answer = await daemon.post("/v1/endpoints/made/rotate-secret", {"overlap": "24h"})
        assert answer.status == 200
        new = answer.json()["secret"]
        assert answer.json()["previous_secret_until"] is not None
        assert new != old
        await daemon.restart()
        await send(daemon)
        (request,) = await receiver.wait_for(1)
        assert accepts(new, request)
        assert accepts(old, request)
        headers = headers_of(request)
        assert len(headers["webhook-signature"].split()) == 2
        for secret in (new, old):
            value = headers["Stripe-Signature"]
            assert stripe.WebhookSignature.verify_header(request.body.decode(), value, secret, tolerance=60)
        github = hmac.new(new.encode(), request.body, hashlib.sha256).hexdigest()
        assert headers["X-Hub-Signature-256"] == f"sha256={github}"
        shown = (await daemon.get("/v1/endpoints/made")).body.decode()
        assert new not in shown + daemon.log
        assert old not in shown + daemon.log


async def test_after_the_overlap_only_the_new_secret_signs_also_what_was_owed_before(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        old = (await make(daemon, receiver, retry=["2s"], jitter=0))["secret"]
        code, out = await command(daemon, "--json", "endpoints", "rotate-secret", "made", "--overlap", "1s")
        assert code == 0
        new = json.loads(out)["secret"]
        receiver.script(Reply(status=500), 200)
        await send(daemon)
        within, after = await receiver.wait_for(2)
        assert (accepts(old, within), accepts(new, within)) == (True, True)
        assert (accepts(old, after), accepts(new, after)) == (False, True)


async def test_without_an_overlap_the_old_secret_is_worth_nothing_at_once(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        old = (await make(daemon, receiver))["secret"]
        mine = "whsec_" + base64.b64encode(b"a key of my own, 24 by.").decode()
        answer = await daemon.post("/v1/endpoints/made/rotate-secret", {"overlap": "0s", "secret": mine})
        assert (answer.status, answer.json()["secret"]) == (200, mine)
        await send(daemon)
        (request,) = await receiver.wait_for(1)
        assert (accepts(old, request), accepts(mine, request)) == (False, True)


async def test_a_declared_endpoint_is_rotated_in_its_file(tmp_path: Path) -> None:
    """A second entry of the scheme with the old secret is the overlap; taking it out ends that."""
    old = "whsec_" + base64.b64encode(b"the secret until now, 24").decode()
    signatures = [{"scheme": "standard"}, {"scheme": "standard", "secret": old}]
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, signatures=signatures)) as daemon:
        refused = await daemon.post("/v1/endpoints/orders/rotate-secret", {})
        assert (refused.status, refused.json()["type"]) == (409, "urn:webhookd:problem:endpoint_declared")
        await send(daemon)
        (request,) = await receiver.wait_for(1)
        assert accepts(SECRET, request)
        assert accepts(old, request)


async def test_a_bad_signature_keeps_the_daemon_from_starting_and_names_the_key(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        template = {"scheme": "template", "header": "X-S", "value": "{timestamp}"}
        async with running_daemon(tmp_path, to(receiver, signatures=[template]), start=False) as daemon:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "webhookd", "check-config", "-c", str(daemon.config_path),
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, err = await process.communicate()
            assert process.returncode == 78
            assert b"endpoints.orders.signatures[0].value: must hold {signature} once" in err


async def test_the_api_refuses_a_bad_signature_by_its_pointer(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        bad = {"url": f"{receiver.url}/x", "signatures": [{"scheme": "standard"}, {"scheme": "standard"}]}
        answer = await daemon.post("/v1/endpoints", bad)
        assert (answer.status, [error["pointer"] for error in answer.json()["errors"]]) == (422, ["/signatures/1"])


async def test_what_was_delivered_can_be_verified_from_a_dump(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        await send(daemon)
        (request,) = await receiver.wait_for(1)
        lines = b"".join(b"%b: %b\r\n" % header for header in request.headers)
        dump = tmp_path / "request"
        for body, code in ((request.body, 0), (request.body + b"\n", 3)):
            dump.write_bytes(b"POST /hook HTTP/1.1\r\n" + lines + b"\r\n" + body)
            assert (await command(daemon, "verify", "--secret-file", str(tmp_path / "secret"), str(dump)))[0] == code


async def test_a_test_send_is_signed_by_both_secrets_too(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, {}) as daemon:
        old = (await make(daemon, receiver))["secret"]
        new = (await daemon.post("/v1/endpoints/made/rotate-secret")).json()["secret"]
        await daemon.post("/v1/endpoints/made/test")
        (request,) = await receiver.wait_for(1)
        assert accepts(old, request)
        assert accepts(new, request)
        assert new not in daemon.log
