"""Runs the real daemon as a process, on sockets and a database that nobody else has, and ends it for certain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")

Table = Mapping[str, Any]

RECENT: list[Daemon] = []
"""The daemons of the present test, whose logs are shown if it fails; emptied after each test."""

_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 20.0
_POLL_SECONDS = 0.01
_SHOWN_CHARACTERS = 20_000
# Below what ip_local_port_range begins with.
_LOWEST_PORT, _PORTS = 10_000, 20_000
# Left in, they would make the daemon talk to the service manager of whoever runs the tests, or read their settings.
_FOREIGN = ("WEBHOOKD_", "LISTEN_", "NOTIFY_", "JOURNAL_", "WATCHDOG_", "XDG_", "CREDENTIALS_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer of the daemon; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class DaemonExitedError(Exception):
    """The daemon ended although it was wanted; `code` is its exit code, negative for a signal."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"the daemon exited with {code}:\n{log}")
        self.code = code


class Daemon:
    """One daemon over its lives: `start`, `kill9` and `terminate` act on the process, the rest asks it.

    `config` is a table like the file's. What it leaves out is added: listeners (a unix socket for ingest and a TCP port
    to operate), the database, and leave to dial loopback. Where it names listeners, `port` and `ingest_socket` follow
    the first TCP and unix one. `log` is what it wrote to stderr, over all lives.
    """

    def __init__(
        self,
        directory: Path,
        sockets: Path,
        config: Table,
        *,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "webhookd"),
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.ingest_socket = sockets / "ingest.sock"
        self.config_path = directory / "webhookd.toml"
        self.log_path = directory / "webhookd.log"
        self.database = directory / "state" / "webhookd.db"
        self.database.parent.mkdir(mode=0o700, exist_ok=True)
        self.exit_code: int | None = None
        self._env = dict(env or {})
        self.command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self.configure(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_entries(self, message: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of the log as objects, or only those with `message`."""
        entries = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [entry for entry in entries if message is None or entry["message"] == message]

    def configure(self, config: Table) -> None:
        """Write the configuration file; it is read at the next `start`, `restart` or SIGHUP."""
        listen = [
            {"address": f"unix:{self.ingest_socket}", "role": "ingest"},
            {"address": f"tcp:127.0.0.1:{self.port}", "role": "operate"},
        ]
        whole = {
            "listen": listen,
            **config,
            "store": {"path": str(self.database), **config.get("store", {})},
            "network": {"allow": ["127.0.0.0/8"], **config.get("network", {})},
        }
        for entry in reversed(whole["listen"]):
            kind, _, where = entry.get("address", "").partition(":")
            if kind == "tcp":
                self.port = int(where.rpartition(":")[2])
            elif kind == "unix":
                self.ingest_socket = Path(where)
        self.config_path.write_text(to_toml(whole))
        # Secrets stand in it, and the daemon warns of those that others can read.
        self.config_path.chmod(0o600)

    async def start(self, *, ready: bool = True) -> None:
        """Start the process, and wait until it says that it is ready. Raises DaemonExitedError or TimeoutError."""
        assert self._process is None, "already running"
        self.exit_code = None
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        private = {"XDG_STATE_HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory)}
        with self.log_path.open("ab") as log:
            # A file and no pipe: nobody has to read it for the daemon to go on, and it is there after a crash of ours.
            self._process = subprocess.Popen(
                [*self.command, "serve", "-c", str(self.config_path)],
                cwd=_ROOT,
                env={**inherited, **private, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if ready:
            await self.wait_ready()

    async def wait_ready(self, timeout_seconds: float = _READY_SECONDS) -> None:
        """Wait until `/readyz` answers 200. Raises DaemonExitedError or TimeoutError, both with the log."""

        async def is_ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                return (await self.get("/readyz")).status == 200
            return False

        try:
            await eventually(is_ready, timeout_seconds=timeout_seconds)
        except TimeoutError:
            raise TimeoutError(f"not ready after {timeout_seconds} s:\n{self.log}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None, "not running"
        self._process.send_signal(number)

    async def wait(self, timeout_seconds: float = 30.0) -> int:
        """Wait for the process to end and return its exit code, also where a request has found out first."""
        if (process := self._process) is None:
            assert self.exit_code is not None, "not running"
            return self.exit_code
        deadline = time.monotonic() + timeout_seconds
        # Not in a thread: one that waits for a process that does not end would keep the test run from ending.
        while (code := process.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still running after {timeout_seconds} s:\n{self.log}")
            await asyncio.sleep(_POLL_SECONDS)
        if self._process is process:
            self._process, self.exit_code = None, code
            await self._close_sessions()
        return code

    async def kill9(self) -> None:
        """End the process as a crash of the machine would, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        await self.wait()

    async def terminate(self, timeout_seconds: float = 30.0) -> int:
        """Ask the process to end, as systemd does, and return its exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.wait(timeout_seconds)

    async def restart(self) -> None:
        """End the process in the orderly way if it runs, and start it again."""
        if self._process is not None:
            code = await self.terminate()
            if code != 0:
                raise DaemonExitedError(code, self.log)
        await self.start()

    async def close(self) -> None:
        """Make sure that nothing is left running, whatever happened."""
        if self._process is not None:
            # A stopped process dies of SIGKILL too.
            self._process.kill()
            self._process.wait()
            self._process = None
        await self._close_sessions()

    async def get(self, path: str, **more: Any) -> Response:
        """Ask over TCP; see `request`."""
        return await self.request("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> Response:
        """Post over TCP; see `request`."""
        return await self.request("POST", path, body, **more)

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        unix: Path | None = None,
        timeout_seconds: float = 10.0,
    ) -> Response:
        """Make one request over TCP, or over the socket `unix`; a `body` that is not bytes is sent as JSON.

        Raises DaemonExitedError if the process has ended meanwhile, else what aiohttp raises.
        """
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None and not isinstance(body, bytes) and "Content-Type" not in sent:
            sent["Content-Type"] = "application/json"
        session = self._session(str(unix) if unix else "")
        try:
            async with session.request(
                method,
                f"http://localhost{path}" if unix else f"{self.url}{path}",
                data=data,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:
                lowered = {name.lower(): value for name, value in response.headers.items()}
                return Response(status=response.status, headers=lowered, body=await response.read())
        except (aiohttp.ClientError, OSError):
            if self._process is not None and (code := self._process.poll()) is not None:
                await self.wait()
                raise DaemonExitedError(code, self.log) from None
            raise

    async def send(self, type: str, payload: object, **more: Any) -> Any:  # noqa: A002
        """Hand in an event over the unix socket, with further envelope keys, and return the 202's JSON."""
        envelope = {"type": type, "payload": payload, **more}
        response = await self.request("POST", "/v1/events", envelope, unix=self.ingest_socket)
        assert response.status in {200, 202}, f"{response.status}: {response.body!r}"
        return response.json()

    async def deliveries(self, **filters: str) -> list[Any]:
        """Return every delivery that passes the filters, newest first, over all pages."""
        query, found, cursor = "&".join(f"{key}={value}" for key, value in filters.items()), [], ""
        while True:
            page = (await self.get(f"/v1/deliveries?limit=500&{query}{cursor}")).json()
            found += page["data"]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    async def settled(self, timeout_seconds: float = 20.0) -> list[Any]:
        """Return every delivery once none is pending."""

        async def is_settled() -> bool:
            page = (await self.get("/v1/deliveries?state=pending&limit=1")).json()
            return not page["data"]

        await eventually(is_settled, timeout_seconds=timeout_seconds)
        return await self.deliveries()

    def _session(self, unix: str) -> aiohttp.ClientSession:
        if unix not in self._sessions:
            connector = aiohttp.UnixConnector(unix) if unix else aiohttp.TCPConnector()
            self._sessions[unix] = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._sessions[unix]

    async def _close_sessions(self) -> None:
        # Taken out first: who asks meanwhile must not be given one that is about to close.
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()


@contextlib.asynccontextmanager
async def running_daemon(
    directory: Path, config: str | Table | None = None, *, start: bool = True, **more: Any
) -> AsyncIterator[Daemon]:
    """Run a daemon with its files in `directory`, ready for requests; `config` is TOML or its table, see Daemon.

    `start=False` leaves the starting to the test. Whatever happens, the process is gone afterwards.
    """
    table = tomllib.loads(config) if isinstance(config, str) else config or {}
    # Paths of unix sockets end at 107 bytes, which a test with a long name uses up by itself.
    sockets = Path(tempfile.mkdtemp(prefix="webhookd-"))
    daemon = Daemon(directory, sockets, table, **more)
    RECENT.append(daemon)
    try:
        if start:
            await daemon.start()
        yield daemon
    finally:
        await daemon.close()
        shutil.rmtree(sockets, ignore_errors=True)


async def eventually(
    condition: Callable[[], Awaitable[T]], *, timeout_seconds: float = 10.0, every_seconds: float = _POLL_SECONDS
) -> T:
    """Return what `condition` returns as soon as that is true; TimeoutError after `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = await condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout_seconds} s")
        await asyncio.sleep(every_seconds)


def recent_logs() -> Iterator[tuple[str, str]]:
    """Return title and text, cut to its end, of the log of every daemon of the present test."""
    for daemon in RECENT:
        yield f"log of the daemon in {daemon.directory}", daemon.log[-_SHOWN_CHARACTERS:]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now, and that nobody gets who does not ask for it by its number.

    One of the kernel's choice might be some connection's own end when a daemon that was ended asks for it again.
    """
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def to_toml(table: Table) -> str:
    """Return `table` as TOML, one top-level key a line."""
    return "".join(f"{json.dumps(key)} = {_value(value)}\n" for key, value in table.items())


def _value(value: object) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case Path():
            return _value(str(value))
        case str():
            # JSON's escapes are TOML's, but for surrogate pairs and the delete character.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")
