"""No way out of the daemon leads past the mask: secrets are planted everywhere, and looked for in all it ever says.

Routes are taken from the description of the API, which is held against the code, and commands from the code itself, so
that a new one is walked too, or makes a test fail until it is.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import click
import trustme
from click.testing import CliRunner

from tests.kit.daemon import Daemon, eventually, free_port, running_daemon
from tests.kit.proxy import ConnectProxy
from tests.kit.receiver import Receiver, Reply, Request
from webhookd.cli import main

DEBUGGING = (
    "import functools, sys; from webhookd import logs; from webhookd.cli import main; "
    "logs.configure = functools.partial(logs.configure, level='debug'); main(prog_name='webhookd')"
)
STREAM_SECONDS = 0.3

LOOKING = {
    "status": [()],
    "check-config": [()],
    "events list": [()],
    "events show": ["events"],
    "deliveries list": [(), ("--state", "dead")],
    "deliveries show": ["deliveries"],
    "endpoints list": [()],
    "endpoints show": ["endpoints"],
}
"""What to call each command with that only looks: arguments, or the list whose ids it takes one after the other."""
CHANGING = {
    *("serve", "demo", "send", "listen", "verify", "events resend", "deliveries resend", "deliveries cancel"),
    *("endpoints add", "endpoints update", "endpoints remove", "endpoints test", "endpoints enable"),
    *("endpoints disable", "endpoints rotate-secret", "replay", "tail", "backup", "completion"),
}
"""Commands that change something, do not talk to a daemon, or show what a route that is walked here streams."""


class Plants:
    """Secrets by name, each different from everything else, and where they came to light."""

    def __init__(self) -> None:
        self._looked_for: dict[str, list[str]] = {}
        self.texts: list[tuple[str, str]] = []

    def text(self, name: str) -> str:
        """Plant a password, a token or a part of a URL."""
        return self.note(name, f"{name.replace(' ', '-')}-{secrets.token_hex(8)}")

    def signing(self, name: str) -> str:
        """Plant a secret in the form of Standard Webhooks."""
        return self.note(name, f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}")

    def note(self, name: str, value: str) -> str:
        """Look for `value`, also as it stands in a URL and without what says that it is a secret."""
        bare = value.removeprefix("whsec_")
        self._looked_for[name] = sorted({bare, quote(bare, safe="")})
        return value

    def found(self) -> list[str]:
        """Return what came to light where, with a few characters around it."""
        return [
            f"{name} in {where}: …{text[max(0, at - 60) : at + 60]}…"
            for where, text in self.texts
            for name, values in self._looked_for.items()
            for value in values
            if (at := text.find(value)) >= 0
        ]


def leaves(group: click.Group, path: str = "") -> Iterator[str]:
    """Yield the path of every command that is no group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        else:
            yield f"{path}{name}"


def test_every_command_is_known_to_look_or_not() -> None:
    assert set(leaves(main)) - LOOKING.keys() - CHANGING == set()


def echo(request: Request) -> Reply:
    """Refuse, and repeat all there is of the request, as error pages do."""
    lines = [f"Cannot {request.method} {request.path}", *(f"{k.decode()}: {v.decode()}" for k, v in request.headers)]
    return Reply(status=500, body="\n".join(lines).encode())


class Site:
    """The files and receivers of the test, and the daemon's configuration over them."""

    def __init__(self, directory: Path, plants: Plants, receiver: Receiver, tls_receiver: Receiver) -> None:
        self._directory = directory
        self._plants = plants
        self._receiver = receiver
        self._tls_receiver = tls_receiver
        self._rules: dict[str, Any] = {"jitter": 0, "retry": ["10ms"], "timeout": "300ms", "connect_timeout": "300ms"}

    def file(self, name: str, content: str) -> str:
        """Write a file that nobody else may read, and return its path."""
        path = self._directory / name
        path.write_text(content + "\n")
        path.chmod(0o600)
        return str(path)

    def secret_path(self, name: str) -> str:
        """Return path and query of a URL with a secret in each."""
        return f"/in/{self._plants.text(f'{name}.path')}?token={self._plants.text(f'{name}.query')}"

    def config(self, authority: trustme.CA) -> dict[str, Any]:
        """Plant a secret in every place of the configuration that takes one."""
        plants, url = self._plants, self._receiver.url
        self.file("cred.secret", plants.signing("credential"))
        self.file("cred.password", plants.text("credential password"))
        self.file("cred.url", f"{url}{self.secret_path('credential')}")
        client = authority.issue_cert("client.example")
        key = client.private_key_pem.bytes().decode()
        plants.note("client key", key.splitlines()[2])
        token_auth = {"Authorization": 'Token token="{secret}"'}
        endpoints: dict[str, Any] = {
            "inline": {
                "url": f"{url}/inline?token={plants.text('inline.query')}",
                "secret": plants.signing("inline"),
                "headers": {**token_auth, "X-Api-Key": plants.text("literal header")},
                "signatures": [
                    {"scheme": "standard"},
                    {"scheme": "github", "secret_file": self.file("own.secret", plants.text("signature file"))},
                ],
            },
            "files": {
                "url_file": self.file("files.url", f"{url}{self.secret_path('file')}"),
                "secret_file": self.file("files.secret", plants.signing("file")),
                "basic_auth": {"username": "u", "password_file": self.file("pw", plants.text("file password"))},
            },
            "credentials": {
                "url_credential": "cred.url",
                "secret_credential": "cred.secret",
                "basic_auth": {"username": "u", "password_credential": "cred.password"},
            },
            "tls": {
                "url_file": self.file("tls.url", f"{self._tls_receiver.url}{self.secret_path('tls')}"),
                "ca_file": self.file("ca.pem", authority.cert_pem.bytes().decode()),
                "client_cert_file": self.file("client.pem", client.cert_chain_pems[0].bytes().decode()),
                "client_key_file": self.file("client.key", key),
            },
            "inline-password": {
                "url": f"{url}/inline",
                "basic_auth": {"username": "u", "password": plants.text("inline password")},
            },
        }
        for name, origin in self.broken().items():
            endpoints[name] = {"url_file": self.file(f"{name}.url", f"{origin}{self.secret_path(name)}")}
        for keys in endpoints.values():
            # Those that sign do, the others need no secret.
            if not any(name.startswith("secret") for name in keys):
                keys["signatures"] = []
        token = {"name": "t", "role": "operate", "secret_file": self.file("token", plants.text("token"))}
        inline = {"name": "u", "role": "read", "secret": plants.text("inline token")}
        network = {"plain_http": True}
        return {"delivery": self._rules, "endpoints": endpoints, "token": [token, inline], "network": network}

    def broken(self) -> dict[str, str]:
        """Return an origin for each way in which an attempt fails."""
        port = self._receiver.port
        return {
            "connect": f"http://127.0.0.1:{free_port()}",
            "dns": "https://no-such-name.invalid",
            "blocked": "https://169.254.169.254",
            "no-tls": f"https://127.0.0.1:{port}",
            "unknown-authority": f"https://127.0.0.1:{self._tls_receiver.port}",
            "timeout": f"http://127.0.0.1:{port}/timeout",
            "protocol": f"http://127.0.0.1:{port}/protocol",
            "redirect": f"http://127.0.0.1:{port}/redirect",
        }


def answer(request: Request) -> int | Reply:
    """Answer by the path: hang, talk nonsense, redirect to where the request went, succeed once, or repeat it all."""
    match request.path.split("/")[1].split("?")[0]:
        case "timeout":
            return Reply(hang=True)
        case "protocol":
            return Reply(raw=f"{request.path} is not HTTP\r\n\r\n".encode())
        case "redirect":
            return Reply(status=307, headers=(("Location", request.path),))
        case "inline":
            return 200
        case _:
            return echo(request)


async def exercise(daemon: Daemon, plants: Plants) -> None:
    """Have the daemon deliver, fail, test, rotate, reload and refuse, and keep what it answers."""

    async def ask(method: str, path: str, body: object = None, *, keep: bool = True, **headers: str) -> Any:
        response = await daemon.request(method, path, body, headers=headers)
        if keep:
            plants.texts.append((f"{method} {path} ({response.status})", response.body.decode()))
        return response

    receiver = daemon_receiver(daemon)
    made = {
        "url": f"{receiver}/in/{plants.text('api.path')}?token={plants.text('api.query')}",
        "url_secret": True,
        "secret": plants.signing("api"),
        "basic_auth": {"username": "u", "password": plants.text("api password")},
        "headers": {"X-Token": "{secret}", "X-Other-Key": plants.text("api header")},
        "signatures": [{"scheme": "standard"}, {"scheme": "github", "secret": plants.text("own of a signature")}],
    }
    assert (await ask("POST", "/v1/endpoints", {"id": "made", **made})).status == 201
    plain = {"id": "plain", "url": f"{receiver}/in?token={plants.text('plain.query')}"}
    created = await ask("POST", "/v1/endpoints", plain, keep=False)
    plants.note("generated", created.json()["secret"])
    rotated = await ask("POST", "/v1/endpoints/made/rotate-secret", {"overlap": "24h"}, keep=False)
    plants.note("rotated", rotated.json()["secret"])

    for off in (False, None):
        assert (await ask("PATCH", "/v1/endpoints/made", {"url_secret": off})).status == 422
    for patch in bad_patches(plants):
        for name in ("made", "plain", "files"):
            answered = await ask("PATCH", f"/v1/endpoints/{name}", patch, **{"Content-Type": "application/json"})
            assert answered.status in {400, 409, 422}, (patch, answered.body)
    await ask("POST", "/v1/endpoints", {"id": "made", **made})
    await ask("POST", "/v1/endpoints", {**made, "id": "other", "profile": "none"})
    await ask("PATCH", "/v1/endpoints/made", {"description": "changed"})
    await ask("GET", "/v1/status", Authorization=f"Bearer {plants.text('wrong token')}")
    await ask("GET", f"/v1/nothing/{secrets.token_hex(4)}")

    endpoints = [endpoint["id"] for endpoint in (await daemon.get("/v1/endpoints?limit=500")).json()["data"]]
    for _ in range(2):
        await daemon.send("order.completed", {"n": 1})
    await daemon.settled()
    for name in endpoints:
        await ask("POST", f"/v1/endpoints/{name}/test")
        await ask("POST", f"/v1/endpoints/{name}/disable")
        await ask("POST", f"/v1/endpoints/{name}/enable")


def daemon_receiver(daemon: Daemon) -> str:
    """Return where the receiver of this daemon's configuration listens."""
    found = re.search(r"http://127\.0\.0\.1:\d+(?=/inline)", daemon.config_path.read_text())
    assert found is not None
    return found.group()


def bad_patches(plants: Plants) -> list[Any]:
    """Return patches that are refused, some because of a secret in them."""
    return [
        {"timeout": "soon"},
        {"url": f"ftp://example.com/{plants.text('scheme')}"},
        {"url": f"https://u:{plants.text('userinfo')}@example.com/{plants.text('behind userinfo')}"},
        {"url": f"https://example.com/{plants.text('fragment')}#x", "url_secret": True},
        {"url": f"https://example.com/\n{plants.text('line')}"},
        {"url": [plants.text("list")]},
        {"secret": f"{plants.text('no base64')}!"},
        {"secret": f"{plants.text('two lines')}\n"},
        {"secret": [plants.text("secret in a list")]},
        {"basic_auth": {"username": "a:b", "password": plants.text("beside a colon")}},
        {"basic_auth": {"username": "u", "password": f"{plants.text('password of two lines')}\n"}},
        {"basic_auth": {"username": "u", "password": [plants.text("password in a list")]}},
        {"basic_auth": {"username": "u", "password": plants.text("clash")}, "headers": {"Authorization": "x"}},
        {"basic_auth": f"u:{plants.text('flat')}"},
        {"headers": {"X-Api-Key": f"{plants.text('header of two lines')}\n"}},
        {"headers": {"X-Api-Key": f"{plants.text('placeholder')} {{nonsense}}"}},
        {"headers": {"X-Api-Key": [plants.text("header in a list")]}},
        {"signatures": [{"scheme": "standard", "secret": f"{plants.text('of a signature')}!"}]},
        {"client_key_file": plants.text("key file")},
        f'{{"secret": "{plants.text("unfinished")}'.encode(),
        f'{{"secret": "{plants.text("twice")}", "secret": "{plants.text("again")}"}}'.encode(),
    ]


async def reload(daemon: Daemon, message: str) -> None:
    """Have the configuration read again and wait for what comes of it."""
    before = len(daemon.log_entries(message))
    daemon.send_signal(signal.SIGHUP)

    async def done() -> bool:
        return len(daemon.log_entries(message)) > before

    await eventually(done)


async def bad_reloads(daemon: Daemon, plants: Plants) -> None:
    """Have the daemon refuse configurations with secrets at the place of the mistake."""
    good = daemon.config_path.read_text()
    for text in (
        f'{good}\nsecret = "{plants.text("in broken TOML")}',
        f'{good}\n[endpoints.bad]\nurl = "https://u:{plants.text("bad userinfo")}@example.com/"\nsignatures = []',
        f'{good}\n[endpoints.bad]\nurl = "https://example.com/"\nsecret = "{plants.text("bad secret")}!"',
    ):
        # Of a table of tables on one line, TOML lets nothing be added; so the last one stands alone.
        daemon.config_path.write_text(text)
        await reload(daemon, "reload.refused")
    daemon.config_path.write_text(good)


async def walk_routes(daemon: Daemon, plants: Plants) -> dict[str, list[str]]:
    """Ask every route that only looks, for everything there is; return the ids of it."""
    lists: dict[str, list[str]] = {}
    for name in ("events", "endpoints", "deliveries"):
        listed = (await daemon.get(f"/v1/{name}?limit=500")).json()["data"]
        lists[name] = [entry["id"] for entry in listed]
        assert lists[name]
    described = (await daemon.get("/openapi.json")).json()["paths"]
    for path in sorted(path for path, methods in described.items() if "get" in methods):
        kind = path.split("/")[2] if "{" in path else ""
        assert not kind or kind in lists, f"{path}: say where its ids come from"
        for one in lists[kind] if kind else [""]:
            asked = path.replace("{id}", one)
            assert "{" not in asked
            plants.texts.append((f"GET {asked}", await read(daemon, asked)))
    return lists


async def read(daemon: Daemon, path: str) -> str:
    """Return what a route answers; of one that does not end, what comes while a delivery is made."""
    async with aiohttp.ClientSession() as session, session.get(f"{daemon.url}{path}") as response:
        if response.content_type != "text/event-stream":
            return await response.text()
        await daemon.send("order.completed", {"n": 2})
        text = b""
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                async for chunk in response.content.iter_any():
                    text += chunk
        except TimeoutError:
            return text.decode()
        raise AssertionError(f"{path} ended: {text!r}")


async def walk_commands(daemon: Daemon, plants: Plants, lists: dict[str, list[str]], environ: dict[str, str]) -> None:
    """Call every command that only looks, for people and for programs."""
    for command, calls in LOOKING.items():
        for arguments in calls:
            chosen = [(one,) for one in lists[arguments]] if isinstance(arguments, str) else [arguments]
            for more in chosen:
                for form in ((), ("--json",)):
                    where = ("-c", str(daemon.config_path)) if command == "check-config" else ("--server", daemon.url)
                    words = [*command.split(), *more, *where, *form]
                    result = await asyncio.to_thread(CliRunner().invoke, main, words, env=environ)
                    assert result.exit_code in {0, 3}, (words, result.output)
                    plants.texts.append((" ".join(words), result.output))


async def test_no_secret_comes_to_light_anywhere(tmp_path: Path) -> None:
    plants = Plants()
    authority = trustme.CA()
    wanted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(wanted)
    authority.configure_trust(wanted)
    wanted.verify_mode = ssl.CERT_REQUIRED
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    async with Receiver() as receiver, Receiver(tls=wanted) as tls_receiver:
        receiver.script(answer)
        tls_receiver.script(answer)
        site = Site(tmp_path, plants, receiver, tls_receiver)
        config = site.config(authority)
        command = (sys.executable, "-c", DEBUGGING)
        async with running_daemon(tmp_path, config, env=environ, command=command) as daemon:
            await exercise(daemon, plants)
            await bad_reloads(daemon, plants)
            lists = await walk_routes(daemon, plants)
            async with ConnectProxy(answer=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
                daemon.configure({**config, "network": {**config["network"], "proxy": proxy.url}})
                await reload(daemon, "reload.applied")
                for name in lists["endpoints"]:
                    response = await daemon.post(f"/v1/endpoints/{name}/test")
                    plants.texts.append((f"test of {name} through a proxy", response.body.decode()))
                assert proxy.asked
            lists = await walk_routes(daemon, plants)
            await walk_commands(daemon, plants, lists, {**os.environ, **environ})
            await daemon.terminate()
            plants.texts.append(("the log", daemon.log))
        seen = {request.path for request in receiver.requests}
    assert "attempt.acknowledged" in daemon.log, "the log has no lines for debugging"
    for name in ("credential.path", "file.query", "api.path"):
        value = plants._looked_for[name][0]  # noqa: SLF001
        assert any(value in path for path in seen), f"{name} was never sent"
    assert len(tls_receiver.requests) > 0
    assert classes(plants) >= {"timeout", "connect", "dns", "tls", "blocked", "protocol", "local"}
    assert plants.found() == []


def classes(plants: Plants) -> set[str]:
    """Return the classes of errors that were seen in answers."""
    return {name for _, text in plants.texts for name in re.findall(r'"class": ?"(\w+)"', text)}
