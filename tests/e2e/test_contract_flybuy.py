"""What FlyBuy promises about its webhooks, kept by the profile `flybuy` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kit.contracts import FRAMING, command, contract, endpoint, hand_in, keep, payload
from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.receiver import Receiver, Reply, Request

TOKEN = "FB-7Q2XK9"


def project(directory: Path, url: str, **changes: object) -> dict[str, Any]:
    """Return the endpoint of the example, with the files that it points to."""
    keep(directory, "flybuy.token", TOKEN + "\n")
    (directory / "order.json").write_bytes(payload("flybuy-sample"))
    return endpoint("flybuy-project-7", url, **changes)


def tokenless(url: str, **changes: object) -> dict[str, Any]:
    return endpoint("flybuy-project-7", url, **{"secret_file": None, "sample_file": None, **changes})


def own_headers(request: Request) -> dict[str, str]:
    """Return what is in the request beyond what frames it; a header that stands twice is a failure."""
    pairs = [(name.decode(), value.decode()) for name, value in request.headers]
    assert len({name.lower() for name, _ in pairs}) == len(pairs)
    assert {name for name, _ in pairs} >= set(FRAMING)
    return {name: value for name, value in pairs if name not in FRAMING}


async def attempts_at(daemon: Daemon, endpoint_id: str) -> list[dict[str, Any]]:
    (delivery,) = await daemon.deliveries(endpoint=endpoint_id)
    found: list[dict[str, Any]] = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()["attempts"]
    return found


async def test_an_event_is_a_post_with_three_headers_and_the_body_as_it_came(tmp_path: Path) -> None:
    """Accept, Content-Type and the token in FlyBuy's form, nothing else but what frames a message.

    From "FlyBuy: Webhooks", under "Example Post".
    """
    async with Receiver() as receiver:
        config = contract("flybuy", project=project(tmp_path, f"{receiver.url}/hook"))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")
            (request,) = await receiver.wait_for(1)
            assert (request.method, request.path) == ("POST", "/hook")
            assert request.body == payload("flybuy-order")
            assert own_headers(request) == {
                "Accept": "application/json",
                "Content-Type": "application/json",
                "Authorization": f'Token token="{TOKEN}"',
            }


async def test_without_a_token_there_is_no_authorization(tmp_path: Path) -> None:
    """The token is optional; where none is set, the header is left out rather than sent empty.

    From "FlyBuy: Webhooks", under "Security".
    """
    async with (
        Receiver() as receiver,
        running_daemon(tmp_path, contract("flybuy", project=tokenless(receiver.url))) as daemon,
    ):
        await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")
        (request,) = await receiver.wait_for(1)
        assert own_headers(request) == {"Accept": "application/json", "Content-Type": "application/json"}


async def test_any_2xx_acknowledges_and_no_other_status_does(tmp_path: Path) -> None:
    """Redirects and 304 are failures like every other status, and nobody goes where they point.

    From "FlyBuy: Webhooks", under "Respond to Webhook Events".
    """
    good, bad = (200, 201, 202, 204, 206, 299), (300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 500, 503)
    async with Receiver() as receiver:
        for status in (*good, *bad):
            elsewhere = (("Location", f"{receiver.url}/elsewhere"),)
            receiver.script(Reply(status=status, headers=elsewhere), path=f"/{status}")
        endpoints = {f"s{status}": tokenless(f"{receiver.url}/{status}") for status in (*good, *bad)}
        async with running_daemon(tmp_path, contract("flybuy", **endpoints)) as daemon:
            await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")
            await receiver.wait_for(len(good) + len(bad))

            async def are_judged() -> bool:
                return all(delivery["attempt_count"] == 1 for delivery in await daemon.deliveries())

            assert await eventually(are_judged)
            states = {delivery["endpoint"]: delivery["state"] for delivery in await daemon.deliveries()}
            assert states == {f"s{s}": "delivered" for s in good} | {f"s{s}": "pending" for s in bad}
            shown = (await daemon.get("/v1/endpoints?limit=500")).json()["data"]
            assert {one["status"] for one in shown} == {"enabled"}, "not even a 410 disables at once"
            assert receiver.at("/elsewhere") == []


async def test_nothing_but_the_status_of_an_answer_counts(tmp_path: Path) -> None:
    """Neither body nor headers of an answer change what it means, nor when the next attempt is made.

    From "FlyBuy: Webhooks", under "Respond to Webhook Events".
    """
    complaint = Reply(
        status=200,
        headers=(("Content-Type", "text/html"), ("Location", "/login"), ("Retry-After", "86400"), ("X-Status", "500")),
        body=b'{"error": "not accepted", "status": 500}',
    )
    cut_short = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nContent-Encoding: gzip\r\n\r\nnot g", close=True)
    praise = Reply(status=503, headers=(("Retry-After", "86400"),), body=b'{"status": 200, "acknowledged": true}')
    async with Receiver() as receiver:
        receiver.script(complaint, path="/complaint")
        receiver.script(cut_short, path="/cut")
        receiver.script(praise, 200, path="/praise")
        config = contract(
            "flybuy",
            complaint=tokenless(f"{receiver.url}/complaint"),
            cut=tokenless(f"{receiver.url}/cut"),
            praise=tokenless(f"{receiver.url}/praise", retry=["300ms"]),
        )
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")
            await daemon.settled()
            assert [attempt["status"] for attempt in await attempts_at(daemon, "complaint")] == [200]
            assert [attempt["status"] for attempt in await attempts_at(daemon, "cut")] == [200]
            # The day that was asked for is not waited for: the profile gives such a header no weight.
            assert [attempt["status"] for attempt in await attempts_at(daemon, "praise")] == [503, 200]


async def test_an_answer_that_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    """Events are to be acknowledged before any work is done, since what comes after the timeout comes too late.

    From "FlyBuy: Webhooks", under "Respond to Webhook Events".
    """
    async with Receiver() as receiver:
        receiver.script(Reply(hang=True), 200)
        config = contract("flybuy", project=tokenless(receiver.url, timeout="300ms", retry=["50ms"]))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")
            await daemon.settled()
            first, second = await attempts_at(daemon, "project")
            assert (first["status"], first["error"]["class"]) == (None, "timeout")
            assert second["status"] == 200


async def test_a_disabled_endpoint_gets_nothing_more_and_loses_nothing(tmp_path: Path) -> None:
    """With one day for the three of the profile, as a test cannot wait: it is disabled, and what is owed is held.

    From "FlyBuy: Webhooks", under "Respond to Webhook Events".
    """
    async with Receiver() as receiver:
        receiver.script(302, 304, 500, 200)
        impatient = {"disable_after_days": 1, "disable_min_failures": 3, "retry": ["20ms"] * 9}
        config = contract("flybuy", project=tokenless(receiver.url, **impatient))
        async with running_daemon(tmp_path, config) as daemon:
            await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")

            async def is_disabled() -> bool:
                shown = (await daemon.get("/v1/endpoints/project")).json()
                return (shown["status"], shown["disabled_reason"]) == ("disabled", "failing")

            assert await eventually(is_disabled)
            await hand_in(daemon, "order.updated", b"{}", tenant="project-7")
            held = await daemon.deliveries()
            assert [(delivery["state"], delivery["held"]) for delivery in held] == [("pending", True)] * 2
            assert receiver.count == 3
            assert (await command(daemon, "endpoints", "enable", "project")).code == 0
            assert {delivery["state"] for delivery in await daemon.settled()} == {"delivered"}
            assert [request.body for request in receiver.requests[3:]].count(b"{}") == 1


async def test_send_delivers_the_sample_at_once_and_says_what_came_back(tmp_path: Path) -> None:
    """The button is `webhookd endpoints test`: the sample goes out like an event, and no event comes of it.

    From "FlyBuy: Webhooks", under "Setting up Webhooks".
    """
    async with Receiver() as receiver:
        receiver.script(200, 302, 200)
        config = contract("flybuy", project=project(tmp_path, f"{receiver.url}/hook"))
        async with running_daemon(tmp_path, config) as daemon:
            pressed = await command(daemon, "endpoints", "test", "project")
            assert pressed.code == 0, pressed.err
            assert "acknowledged" in pressed.out
            again = await command(daemon, "endpoints", "test", "project")
            assert again.code == 3
            assert "302" in again.out
            assert (await daemon.get("/v1/events")).json()["data"] == []
            await hand_in(daemon, "order.updated", payload("flybuy-order"), tenant="project-7")
            sample, refused, event = await receiver.wait_for(3)
            assert sample.body == refused.body == payload("flybuy-sample")
            assert own_headers(sample) == own_headers(event)
            await daemon.settled()


async def test_each_project_has_its_endpoint_and_hears_of_nothing_else(tmp_path: Path) -> None:
    """One webhook for each project gets every event of that project, whatever its type.

    From "FlyBuy: Webhooks", under "Setting up Webhooks".
    """
    async with Receiver() as receiver:
        config = contract(
            "flybuy",
            seven=tokenless(f"{receiver.url}/seven", tenant="project-7"),
            eight=tokenless(f"{receiver.url}/eight", tenant="project-8"),
        )
        async with running_daemon(tmp_path, config) as daemon:
            for event_type, tenant in (
                ("order.created", "project-7"),
                ("customer.nearby", "project-7"),
                ("order.created", "project-8"),
                ("order.created", "project-9"),
            ):
                body = f'{{"data": {{"type": "{event_type}", "project": "{tenant}"}}}}'.encode()
                await hand_in(daemon, event_type, body, tenant=tenant)
            await daemon.settled()
            assert sorted(request.body for request in receiver.at("/seven")) == [
                b'{"data": {"type": "customer.nearby", "project": "project-7"}}',
                b'{"data": {"type": "order.created", "project": "project-7"}}',
            ]
            assert [request.body for request in receiver.at("/eight")] == [
                b'{"data": {"type": "order.created", "project": "project-8"}}'
            ]
