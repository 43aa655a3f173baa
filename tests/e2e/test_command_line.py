"""Every command against a running daemon: what it prints for machines, and what it ends with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tests.kit.daemon import Daemon, free_port, running_daemon
from tests.kit.receiver import Receiver
from webhookd.cli import main
from webhookd.cli.exits import Exit

WITHOUT_DATA = {"serve": "runs the daemon", "completion": "prints a script for a shell"}
WITHOUT_END = {
    "tail": "follows until it is stopped",
    "listen": "receives until it is stopped",
    "demo": "starts a daemon of its own, and has a test of its own",
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NO_SUCH = {"EVENT": "evt_00000000000", "DELIVERY": "dlv_00000000000", "ENDPOINT": "nobody"}


def leaves(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is no group, by its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


LEAVES = dict(leaves())


def calls(names: dict[str, str], directory: Path, url: str) -> dict[str, list[str]]:
    """Return one call of every command that prints data and ends, in an order in which each finds what it needs."""
    event, delivery, endpoint = names["EVENT"], names["DELIVERY"], names["ENDPOINT"]
    return {
        "check-config": ["-c", str(directory / "webhookd.toml")],
        "status": [],
        "events list": ["--limit", "2"],
        "events show": [event],
        "events resend": [event, "--endpoint", endpoint],
        "deliveries list": ["--all"],
        "deliveries show": [delivery],
        "deliveries resend": [delivery],
        "endpoints list": [],
        "endpoints add": [f"{url}/added", "--id", "added"],
        "endpoints update": [endpoint, "--description", "the shop"],
        "endpoints show": [endpoint],
        "endpoints test": [endpoint],
        "endpoints rotate-secret": [endpoint],
        "endpoints disable": [endpoint],
        "send": ["order.paid", "-d", str(directory / "payload.json")],
        "replay": [endpoint, "--state", "delivered", "--yes"],
        "backup": [str(directory / "copy.db")],
        "verify": [str(directory / "request.http"), "--secret-file", str(directory / "secret")],
        "endpoints enable": [endpoint],
        "deliveries cancel": [delivery],
        "endpoints remove": [endpoint, "--yes"],
    }


def objects(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(one, dict) for one in found)
    return found


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    (tmp_path / "payload.json").write_text('{"n":1}')
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


Run = Callable[..., Result]


def runner(server: str) -> Run:
    def run(command: str, *arguments: str) -> Result:
        shared = ["--server", server] if any(p.name == "server" for p in LEAVES[command].params) else []
        return CliRunner().invoke(main, [*command.split(), *shared, *arguments], prog_name="webhookd")

    return run


async def names_in(daemon: Daemon, url: str) -> dict[str, str]:
    """Make an endpoint and a delivery to it, and return the names of all there is."""
    keys = {"id": "orders", "url": f"{url}/hook", "types": ["order.*"], "secret": SECRET}
    assert (await daemon.post("/v1/endpoints", keys)).status == 201
    event = await daemon.send("order.paid", {"n": 1})
    (delivery,) = await daemon.settled()
    return {"EVENT": event["id"], "DELIVERY": delivery["id"], "ENDPOINT": "orders"}


def test_every_command_is_looked_at_here(tmp_path: Path) -> None:
    assert calls(NO_SUCH, tmp_path, "").keys() | WITHOUT_DATA.keys() | WITHOUT_END.keys() == LEAVES.keys()


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_that_prints_data_has_json(name: str) -> None:
    options = {option for parameter in LEAVES[name].params for option in parameter.opts}
    assert ("--json" in options) == (name not in WITHOUT_DATA)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_help_and_refuses_what_it_does_not_know(name: str) -> None:
    run = runner("unix:/nowhere")
    for option in ("-h", "--help"):
        result = CliRunner().invoke(main, [*name.split(), option], prog_name="webhookd")
        assert result.exit_code == Exit.OK
        assert result.stdout.startswith(f"Usage: webhookd {name} ")
    assert run(name, "--colour").exit_code == Exit.USAGE


async def test_what_is_printed_for_machines_is_one_object_a_line(directory: Path) -> None:
    async with Receiver() as receiver, running_daemon(directory) as daemon:
        names = await names_in(daemon, receiver.url)
        (directory / "request.http").write_bytes(_saved(receiver))
        run = runner(daemon.url)
        for command, usual in calls(names, directory, receiver.url).items():
            arguments = usual
            if command == "deliveries cancel":
                # Only what is held is sure to be still there.
                await daemon.post("/v1/endpoints/orders/disable")
                await daemon.send("order.paid", {"n": 2})
                (held, *_) = await daemon.deliveries(state="pending")
                arguments = [held["id"]]
            result = await asyncio.to_thread(run, command, "--json", *arguments)
            assert result.exit_code == Exit.OK, f"{command}: {result.output}"
            printed = objects(result.stdout)
            assert len(printed) == (0 if command == "endpoints remove" else 1), f"{command}: {result.stdout}"
            if command.endswith(" list"):
                assert "id" in printed[0]


async def test_what_does_not_exist_is_4_and_said_to_machines(directory: Path) -> None:
    async with Receiver() as receiver, running_daemon(directory) as daemon:
        run = runner(daemon.url)
        needing = [
            command
            for command, arguments in calls(NO_SUCH, directory, receiver.url).items()
            if set(arguments) & set(NO_SUCH.values())
        ]
        assert len(needing) == 13
        for command in needing:
            arguments = calls(NO_SUCH, directory, receiver.url)[command]
            result = await asyncio.to_thread(run, command, "--json", *arguments)
            assert (command, result.exit_code, result.stdout) == (command, Exit.NOT_FOUND, "")
            (failure,) = objects(result.stderr)
            assert failure["type"] == "urn:webhookd:problem:not_found"
            assert failure["exit_code"] == Exit.NOT_FOUND


async def test_what_is_checked_and_negative_is_3(directory: Path) -> None:
    async with Receiver() as receiver, running_daemon(directory) as daemon:
        await names_in(daemon, receiver.url)
        run = runner(daemon.url)
        await daemon.request("PATCH", "/v1/endpoints/orders", {"url": f"http://127.0.0.1:{free_port()}/"})
        result = await asyncio.to_thread(run, "endpoints test", "--json", "orders")
        assert result.exit_code == Exit.NEGATIVE
        assert objects(result.stdout)[0]["acknowledged"] is False
        (directory / "request.http").write_bytes(_saved(receiver).replace(b'"n"', b'"m"'))
        result = await asyncio.to_thread(
            run, "verify", "--json", str(directory / "request.http"), "--secret-file", str(directory / "secret")
        )
        assert result.exit_code == Exit.NEGATIVE
        assert objects(result.stdout)


async def test_a_daemon_that_is_not_there_is_69_for_every_command_that_needs_one(directory: Path) -> None:
    run = runner(f"http://127.0.0.1:{free_port()}")
    local = {"check-config", "verify"}
    for command, arguments in calls(NO_SUCH, directory, "http://localhost").items():
        if command not in local:
            result = await asyncio.to_thread(run, command, "--json", *arguments)
            assert (command, result.exit_code, result.stdout) == (command, Exit.UNREACHABLE, "")
            assert objects(result.stderr)[0]["exit_code"] == Exit.UNREACHABLE
    tail = await asyncio.to_thread(run, "tail", "--json")
    assert tail.exit_code == Exit.UNREACHABLE


def _saved(receiver: Receiver) -> bytes:
    request = receiver.requests[0]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in request.headers)
    return b"POST /hook HTTP/1.1\r\n" + head + b"\r\n" + request.body
