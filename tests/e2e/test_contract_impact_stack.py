"""What Impact Stack promises about its webhooks, kept by the profile `impact-stack` alone."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.kit.contracts import command, contract, endpoint, hand_in, keep, payload, profile
from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Answer, Receiver, Reply, Request

SECRET = "s3cr3t-9f2c41d7"
NO_RETRIES: dict[str, object] = {"retry": []}


def plain(url: str, **changes: object) -> dict[str, Any]:
    """Return the endpoint with Basic authentication of the example, without that."""
    return endpoint("impact-stack-basic", url, basic_auth=None, **changes)


async def shown(daemon: Daemon, delivery: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()
    return found


async def test_every_event_is_posted_as_json_to_the_one_url(tmp_path: Path) -> None:
    """There is one kind of webhook; it gets every type of event, to be told apart by `type` in the payload.

    From "Impact Stack: Webhooks", under "Event types".
    """
    bodies = {"form_submission": payload("impact-stack-form"), "payment_changed": payload("impact-stack-payment")}
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, contract("impact-stack", all=plain(receiver.url))) as daemon,
    ):
        for event_type, body in bodies.items():
            await hand_in(daemon, event_type, body)
        requests = await receiver.wait_for(2)
        assert {request.body for request in requests} == set(bodies.values())
        assert {json.loads(request.body)["type"] for request in requests} == {
            "form_submission",
            "payment_status_changed",
        }
        for request in requests:
            assert (request.method, request.header("content-type")) == ("POST", "application/json")


@pytest.mark.parametrize("path", [f"/ist-webhook?secret={SECRET}", f"/ist-webhook/{SECRET}"], ids=["query", "path"])
async def test_a_secret_in_the_url_reaches_the_receiver_and_is_shown_to_nobody(tmp_path: Path, path: str) -> None:
    """In the query or in the path; API, command line and log know scheme and host alone.

    From "Impact Stack: Webhooks", under "Authentication".
    """
    async with Receiver() as receiver:
        receiver.script(Reply(status=500, body=f"no {path}".encode()))
        keep(tmp_path, "impact-stack.url", receiver.url + path)
        config = contract("impact-stack", secret=endpoint("impact-stack-url"))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "form_submission", payload("impact-stack-form"))
            (request,) = await receiver.wait_for(1)
            assert request.path == path

            async def is_recorded() -> bool:
                return (await daemon.deliveries())[0]["attempt_count"] == 1

            assert await eventually(is_recorded)
            said = daemon.log + (await command(daemon, "endpoints", "show", "secret")).out
            for route in (
                "/v1/endpoints/secret",
                "/v1/status",
                f"/v1/deliveries/{(await daemon.deliveries())[0]['id']}",
            ):
                said += (await daemon.get(route)).body.decode()
            assert receiver.url in said
            assert SECRET not in said


async def test_basic_auth_goes_with_each_request(tmp_path: Path) -> None:
    """User name and password as RFC 7617 has them.

    From "Impact Stack: Webhooks", under "Authentication".
    """
    async with Receiver() as receiver:
        password = keep(tmp_path, "impact-stack.password", "pässword: 2")
        config = contract("impact-stack", basic=endpoint("impact-stack-basic", receiver.url))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "form_submission", payload("impact-stack-form"))
            (request,) = await receiver.wait_for(1)
            scheme, _, token = (request.header("authorization") or "").partition(" ")
            assert scheme == "Basic"
            assert base64.b64decode(token).decode() == f"impact-stack:{password}"


async def test_an_answer_within_a_few_seconds_counts_and_a_later_one_does_not(tmp_path: Path) -> None:
    """With the timeout of the profile as it stands there: an answer after one second is in time, none is not.

    From "Impact Stack: Webhooks", under "Reliability & timings".
    """
    async with Receiver() as receiver:
        receiver.script(Reply(delay_seconds=1.0), path="/soon")
        receiver.script(Reply(delay_seconds=7.0), path="/late")
        config = contract(
            "impact-stack",
            soon=plain(f"{receiver.url}/soon", **NO_RETRIES),
            late=plain(f"{receiver.url}/late", **NO_RETRIES),
        )
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "form_submission", payload("impact-stack-form"))
            deliveries = {one["endpoint"]: await shown(daemon, one) for one in await daemon.settled()}
            assert deliveries["soon"]["state"] == "delivered"
            assert deliveries["late"]["state"] == "dead"
            (attempt,) = deliveries["late"]["attempts"]
            assert attempt["error"]["class"] == "timeout"
            # The event loop keeps time in whole milliseconds, and may be one early.
            assert 4990 <= attempt["duration_ms"] < 7000


async def test_anything_but_a_2xx_is_a_failed_attempt(tmp_path: Path) -> None:
    """Other statuses, connections that break, and what is no answer at all.

    From "Impact Stack: Webhooks", under "Reliability & timings".
    """
    answers: dict[str, tuple[Answer, int | None]] = {
        "found": (Reply(status=302, headers=(("Location", "/elsewhere"),)), 302),
        "unchanged": (304, 304),
        "missing": (404, 404),
        "gone": (410, 410),
        "broken": (500, 500),
        "dropped": (Reply(drop=True), None),
        "reset": (Reply(reset=True), None),
        "babble": (Reply(raw=b"200 OK, got it\r\n\r\n", close=True), None),
    }
    async with Receiver() as receiver:
        for name, (answer, _) in answers.items():
            receiver.script(answer, path=f"/{name}")
        endpoints = {name: plain(f"{receiver.url}/{name}", **NO_RETRIES) for name in answers}
        async with running_daemon(tmp_path, contract("impact-stack", **endpoints)) as daemon:
            await hand_in(daemon, "form_submission", payload("impact-stack-form"))
            deliveries = [await shown(daemon, one) for one in await daemon.settled()]
            assert {one["state"] for one in deliveries} == {"dead"}
            statuses = {one["endpoint"]: [attempt["status"] for attempt in one["attempts"]] for one in deliveries}
            assert statuses == {name: [status] for name, (_, status) in answers.items()}
            assert receiver.at("/elsewhere") == []


async def test_each_event_is_sent_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    """A payment arrives although the form that it belongs to has not, and stays owed.

    From "Impact Stack: Webhooks", under "Reliability & timings".
    """

    def refuse_forms(request: Request) -> int:
        return 500 if b"form_submission" in request.body else 200

    async with Receiver() as receiver:
        receiver.script(refuse_forms)
        async with running_daemon(tmp_path, contract("impact-stack", all=plain(receiver.url))) as daemon:
            form = await hand_in(daemon, "form_submission", payload("impact-stack-form"))
            await receiver.wait_for(1)
            payment = await hand_in(daemon, "payment_changed", payload("impact-stack-payment"))
            await receiver.wait_for(2)

            async def is_delivered() -> bool:
                return bool(await daemon.deliveries(state="delivered"))

            assert await eventually(is_delivered)
            states = {delivery["event"]: delivery["state"] for delivery in await daemon.deliveries()}
            assert states == {form: "pending", payment: "delivered"}


async def test_each_interval_is_twice_the_one_before_and_the_tenth_attempt_is_the_last(tmp_path: Path) -> None:
    """The schedule of the profile, begun with milliseconds instead of minutes; then the event is given up.

    From "Impact Stack: Webhooks", under "Failed attempts and resends".
    """
    shortened = {**profile("impact-stack")["retry"], "first": "6ms"}
    async with Receiver() as receiver:
        receiver.script(500)
        async with running_daemon(
            tmp_path, contract("impact-stack", all=plain(receiver.url, retry=shortened))
        ) as daemon:
            await hand_in(daemon, "form_submission", payload("impact-stack-form"))
            (delivery,) = await daemon.settled()
            assert (delivery["state"], delivery["reason"]) == ("dead", "retries_exhausted")
            assert [attempt["status"] for attempt in (await shown(daemon, delivery))["attempts"]] == [500] * 10
            gaps = [later.at - earlier.at for earlier, later in pairwise(receiver.requests)]
            # A busy machine only makes them longer; moments on disk are whole milliseconds.
            assert all(gap > 0.006 * 2**retry - 0.001 for retry, gap in enumerate(gaps))
            assert 0.006 * 2**8 <= gaps[-1] < 2 * 0.006 * 2**8


async def test_chosen_calls_are_sent_again_and_no_others(tmp_path: Path) -> None:
    """After it has been given up, an operator sends again what is wanted; the rest stays given up.

    From "Impact Stack: Webhooks", under "Failed attempts and resends".
    """
    async with Receiver() as receiver:
        receiver.script(500)
        async with running_daemon(tmp_path, contract("impact-stack", all=plain(receiver.url, **NO_RETRIES))) as daemon:
            events = [await hand_in(daemon, "form_submission", b'{"n":%d}' % number) for number in range(4)]
            dead = {delivery["event"]: delivery["id"] for delivery in await daemon.settled()}
            assert len(dead) == 4
            receiver.script(200)
            chosen = [dead[events[1]], dead[events[3]]]
            for delivery in chosen:
                assert (await command(daemon, "deliveries", "resend", delivery)).code == 0
            await receiver.wait_for(6)
            states = {delivery["id"]: delivery["state"] for delivery in await daemon.settled()}
            assert states == {one: "delivered" if one in chosen else "dead" for one in dead.values()}
            assert sorted(request.body for request in receiver.requests[4:]) == [b'{"n":1}', b'{"n":3}']
