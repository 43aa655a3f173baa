"""What Forage promises about its webhooks, kept by the profile `forage` alone."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.kit.contracts import contract, endpoint, hand_in, keep
from tests.kit.daemon import eventually, running_daemon
from tests.kit.receiver import Receiver, Reply, Request

SECRET = "whsec_Zm9yYWdlLCBhbiBleGFtcGxlIG9mIG91ciBvd24="
TYPES = ("PAYMENT_STATUS_UPDATED", "REFUND_STATUS_UPDATED", "ORDER_STATUS_UPDATED")
STATES = ("processing", "succeeded", "failed", "canceled")


def webhook(directory: Path, url: str, **changes: object) -> dict[str, Any]:
    """Return the endpoint of the example, with the secret that it points to."""
    keep(directory, "forage.secret", SECRET)
    return endpoint("forage-final", url, **changes)


def body(event_type: str, status: str, ref: str = "r-1") -> bytes:
    return b'{"ref": "%b", "type": "%b", "data": {"ref": "%b", "amount": "10.0",\t"status": "%b"}}' % (
        ref.encode(),
        event_type.encode(),
        ref.encode(),
        status.encode(),
    )


def told(receiver: Receiver, path: str) -> set[tuple[str, str]]:
    """Return types and states of what came to `path`."""
    parsed = [json.loads(request.body) for request in receiver.at(path)]
    return {(event["type"], event["data"]["status"]) for event in parsed}


async def test_each_request_is_signed_over_the_body_as_sent(tmp_path: Path) -> None:
    """A receiver with the secret can tell our requests from others, and from ours if they were changed.

    From "Forage: How Forage Webhooks Work", under "Related documentation".
    """
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, contract("forage", all=webhook(tmp_path, receiver.url))) as daemon,
    ):
        await hand_in(daemon, TYPES[0], body(TYPES[0], "succeeded"))
        (request,) = await receiver.wait_for(1)
        headers = {name.decode(): value.decode() for name, value in request.headers}
        assert request.body == body(TYPES[0], "succeeded")
        Webhook(SECRET).verify(request.body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(request.body.replace(b"10.0", b"10"), headers)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_YW5vdGhlciBzZWNyZXQ=").verify(request.body, headers)


async def test_whoever_wants_final_states_gets_those_of_every_kind_and_no_others(tmp_path: Path) -> None:
    """Succeeded and canceled of payments, refunds and orders; failed is not final and may be followed by more.

    From "Forage: How Forage Webhooks Work", under "States by event type".
    """
    async with Receiver() as receiver:
        config = contract(
            "forage",
            final=webhook(tmp_path, f"{receiver.url}/final"),
            all=webhook(tmp_path, f"{receiver.url}/all", where=None),
        )
        async with running_daemon(tmp_path, config) as daemon:
            for event_type, state in itertools.product(TYPES, STATES):
                await hand_in(daemon, event_type, body(event_type, state))
            # The status is looked for in its place, not anywhere in the payload.
            await hand_in(daemon, TYPES[0], b'{"status": "succeeded", "data": {"status": "failed"}}')
            await daemon.settled()
            assert told(receiver, "/final") == set(itertools.product(TYPES, ("succeeded", "canceled")))
            assert len(receiver.at("/final")) == 6
            assert len(receiver.at("/all")) == len(TYPES) * len(STATES) + 1


async def test_a_failed_payment_is_followed_by_its_final_state(tmp_path: Path) -> None:
    """The states of one payment come as they happen; who asked for final ones hears of it once.

    From "Forage: How Forage Webhooks Work", under "Non-terminal states".
    """
    async with Receiver() as receiver:
        config = contract(
            "forage",
            final=webhook(tmp_path, f"{receiver.url}/final"),
            all=webhook(tmp_path, f"{receiver.url}/all", where=None),
        )
        async with running_daemon(tmp_path, config) as daemon:
            for state in ("processing", "failed", "succeeded"):
                await hand_in(daemon, TYPES[0], body(TYPES[0], state))
            await daemon.settled()
            assert [request.body for request in receiver.at("/final")] == [body(TYPES[0], "succeeded")]
            assert told(receiver, "/all") == {(TYPES[0], state) for state in ("processing", "failed", "succeeded")}


async def test_the_backend_is_told_even_if_it_was_away(tmp_path: Path) -> None:
    """A webhook makes up for what was missed elsewhere, so it is kept until the backend is back.

    From "Forage: How Forage Webhooks Work", under "What are webhooks and why use them".
    """
    async with Receiver() as receiver:
        config = contract("forage", all=webhook(tmp_path, receiver.url, retry=["300ms"] * 50))
        async with running_daemon(tmp_path, config) as daemon:
            await receiver.stop()
            await hand_in(daemon, TYPES[2], body(TYPES[2], "succeeded"))

            async def has_failed() -> bool:
                return bool((await daemon.deliveries())[0]["attempt_count"])

            assert await eventually(has_failed)
            await daemon.restart()
            await receiver.start()
            await daemon.settled()
            assert [request.body for request in receiver.requests] == [body(TYPES[2], "succeeded")]


def slow_first(request: Request) -> Reply:
    return Reply(delay_seconds=1.0 if TYPES[0].encode() in request.body else 0.0)


async def test_a_later_event_does_not_wait_for_an_earlier_one(tmp_path: Path) -> None:
    """While the payment hangs at the receiver, its order is delivered.

    From "Forage: How Forage Webhooks Work", under "Delivery order".
    """
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, contract("forage", all=webhook(tmp_path, receiver.url))) as daemon,
    ):
        receiver.script(Reply(hang=True), 200)
        payment = await hand_in(daemon, TYPES[0], body(TYPES[0], "succeeded"))
        await receiver.wait_for(1)
        order = await hand_in(daemon, TYPES[2], body(TYPES[2], "succeeded"))

        async def is_delivered() -> bool:
            return [one["event"] for one in await daemon.deliveries(state="delivered")] == [order]

        assert await eventually(is_delivered)
        assert [one["event"] for one in await daemon.deliveries(state="pending")] == [payment]
        assert receiver.in_flight == 1


async def test_in_order_it_does_wait(tmp_path: Path) -> None:
    """With `ordered = true` on top, which Forage does not promise, nothing is sent before the answer to the first.

    From "Forage: How Forage Webhooks Work", under "Delivery order".
    """
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, contract("forage", all=webhook(tmp_path, receiver.url, ordered=True))) as daemon,
    ):
        receiver.script(slow_first)
        await hand_in(daemon, TYPES[0], body(TYPES[0], "succeeded"))
        await receiver.wait_for(1)
        await hand_in(daemon, TYPES[2], body(TYPES[2], "succeeded"))
        await asyncio.sleep(0.5)
        assert receiver.count == 1
        first, second = await receiver.wait_for(2)
        assert TYPES[0].encode() in first.body
        assert second.at - first.at >= 1.0
        await daemon.settled()
