"""What notes on Stripe and Razorpay expect of a webhook, kept by the profiles `stripe` and `razorpay` alone."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.kit.contracts import contract, endpoint, hand_in, keep, payload
from tests.kit.daemon import Daemon, running_daemon
from tests.kit.receiver import Receiver, Reply, Request

SECRET = "whsec_an example of our own, used as it stands"


def webhook(directory: Path, scheme: str, url: str, **changes: object) -> dict[str, Any]:
    """Return the endpoint of the example, with the secret that it points to."""
    keep(directory, f"{scheme}.secret", SECRET)
    return endpoint(f"{scheme}-payments", url, **changes)


def razorpay_accepts(request: Request, secret: str) -> bool:
    """Check as a receiver of Razorpay would: the hex digest of the raw body, compared in constant time."""
    expected = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, request.header("x-razorpay-signature") or "")


async def statuses(daemon: Daemon) -> list[int | None]:
    (delivery,) = await daemon.settled()
    attempts = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()["attempts"]
    return [attempt["status"] for attempt in attempts]


async def test_stripes_own_library_accepts_the_signature(tmp_path: Path) -> None:
    """With the webhook secret, `stripe.Webhook.construct_event` takes the request, and nothing that was changed.

    From "Webhooks: Consolidated Notes", under "Webhooks (Recommended)".
    """
    async with Receiver() as receiver:
        config = contract("stripe", payments=webhook(tmp_path, "stripe", f"{receiver.url}/stripe"))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "payment_intent.succeeded", payload("stripe-payment"))
            (request,) = await receiver.wait_for(1)
            signature = request.header("stripe-signature")
            assert signature is not None
            event = stripe.Webhook.construct_event(request.body, signature, SECRET)
            assert (event.type, event.data.object["status"]) == ("payment_intent.succeeded", "succeeded")
            for body, secret in ((request.body + b" ", SECRET), (request.body, SECRET + "!")):
                with pytest.raises(stripe.SignatureVerificationError):
                    stripe.Webhook.construct_event(body, signature, secret)
            await daemon.settled()


async def test_a_receiver_of_razorpay_accepts_the_signature(tmp_path: Path) -> None:
    """X-Razorpay-Signature is the HMAC-SHA256 of the raw body under the webhook secret, in hex.

    From "Webhooks: Consolidated Notes", under "Definition of a Webhook".
    """
    async with Receiver() as receiver:
        config = contract("razorpay", payments=webhook(tmp_path, "razorpay", f"{receiver.url}/razorpay"))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "payment.captured", payload("razorpay-payment"))
            (request,) = await receiver.wait_for(1)
            assert razorpay_accepts(request, SECRET)
            assert not razorpay_accepts(request, SECRET + "!")
            await daemon.settled()


@pytest.mark.parametrize("scheme", ["stripe", "razorpay"])
async def test_what_happened_is_posted_when_it_happens(tmp_path: Path, scheme: str) -> None:
    """Success and failure of a payment alike go to the URL that was registered, as soon as they are handed in.

    From "Webhooks: Consolidated Notes", under "Definition of a Webhook".
    """
    async with Receiver() as receiver:
        config = contract(scheme, payments=webhook(tmp_path, scheme, f"{receiver.url}/payments"))
        async with running_daemon(tmp_path, config) as daemon:
            begun = time.monotonic()
            for event_type in ("payment.captured", "payment.failed"):
                await hand_in(daemon, event_type, payload(f"{scheme}-payment"))
            for request in await receiver.wait_for(2):
                assert (request.method, request.path) == ("POST", "/payments")
                assert request.body == payload(f"{scheme}-payment")
                # Nobody polls, and nothing is gathered up: on an idle machine it takes milliseconds.
                assert request.at - begun < 2.0
            await daemon.settled()


@pytest.mark.parametrize("scheme", ["stripe", "razorpay"])
async def test_it_is_tried_again_until_it_is_acknowledged(tmp_path: Path, scheme: str) -> None:
    """A receiver that fails gets the event again, and a success status, once given, is the end of it.

    From "Webhooks: Consolidated Notes", under "Definition of a Webhook".
    """
    async with Receiver() as receiver:
        # Were the connection kept, its end would be made up for within the attempt.
        receiver.script(Reply(status=500, close=True), Reply(drop=True), 302, 200)
        config = contract(scheme, payments=webhook(tmp_path, scheme, receiver.url, retry=["20ms"] * 5))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "payment.captured", payload(f"{scheme}-payment"))
            assert await statuses(daemon) == [500, None, 302, 200]
            assert receiver.count == 4
            assert {request.body for request in receiver.requests} == {payload(f"{scheme}-payment")}
            assert len({request.event_id for request in receiver.requests}) == 1


@pytest.mark.parametrize("scheme", ["stripe", "razorpay"])
async def test_without_an_acknowledgement_it_is_not_delivered(tmp_path: Path, scheme: str) -> None:
    """A receiver has to answer with a success; one that never does leaves a record that says so.

    From "Webhooks: Consolidated Notes", under "Definition of a Webhook".
    """
    async with Receiver() as receiver:
        receiver.script(404)
        config = contract(scheme, payments=webhook(tmp_path, scheme, receiver.url, retry=["20ms"]))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "payment.captured", payload(f"{scheme}-payment"))
            assert await statuses(daemon) == [404, 404]
            (delivery,) = await daemon.deliveries()
            assert (delivery["state"], delivery["reason"]) == ("dead", "retries_exhausted")
