"""The daemon of the demo: the real one, as a child process, with everything it needs in a directory that goes away."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from webhookd.cli.address import Target
from webhookd.cli.connection import Client
from webhookd.cli.exits import CommandFailedError
from webhookd.core.settings import TcpAddress, UnixAddress

START_TIMEOUT_SECONDS = 20.0
STOP_TIMEOUT_SECONDS = 10.0
LOG_LINES = 20
LOG_LINE_CHARACTERS = 1000

_POLL_SECONDS = 0.05
# The path of a unix socket has 107 bytes (unix(7)); what comes before ours must leave room.
_LONGEST_TEMPORARY = 60
_CONFIG = """\
[[listen]]
address = "unix:{socket}"
mode = "0600"

[[listen]]
address = "tcp:127.0.0.1:{port}"

[store]
path = "{database}"
min_free = "1MiB"

[network]
allow = ["127.0.0.0/8"]
drain_timeout = "1s"

[delivery]
timeout = "5s"
retry = ["1s", "2s", "4s", "8s"]
jitter = 0
headers = {{ X-Event-Type = "{{event_type}}", X-Attempt = "{{attempt}}" }}
"""
_ENDPOINT = """
[endpoints.{name}]
url = "{url}"
secret = "{secret}"
"""


def new_secret() -> str:
    """Return a fresh Standard Webhooks secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


class DemoDaemon:
    """A daemon with the endpoints `receivers` (name → URL and secret), running between entering and leaving.

    Entering waits until it is ready and raises CommandFailedError with its log where it does not get there, or where
    `interrupted` says so.
    """

    def __init__(self, receivers: Mapping[str, tuple[str, str]], *, interrupted: Callable[[], bool]) -> None:
        self._receivers = receivers
        self._interrupted = interrupted
        short = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY
        self._directory = Path(tempfile.mkdtemp(prefix="webhookd-demo-", dir=None if short else "/tmp"))  # noqa: S108 - mkdtemp makes it ours alone
        self.socket = self._directory / "webhookd.sock"
        self.port = _free_port()
        self._log = self._directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> Client:
        """A client over its unix socket."""
        return Client(Target(address=UnixAddress(self.socket), named_by="the demo"))

    @property
    def url(self) -> str:
        """Its address for a browser or curl."""
        return str(Target(address=TcpAddress("127.0.0.1", self.port), named_by="the demo"))

    def __enter__(self) -> Self:
        try:
            self._start()
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def check(self) -> None:
        """Raise CommandFailedError with the daemon's log if it has ended."""
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            raise CommandFailedError(f"the daemon ended with exit code {code}\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="backslashreplace").splitlines()
        except OSError:
            return ""
        return "\n".join(["its log:", *(f"  {line[:LOG_LINE_CHARACTERS]}" for line in lines[-LOG_LINES:])])

    def _start(self) -> None:
        config = self._directory / "webhookd.toml"
        config.touch(mode=0o600)
        text = _CONFIG.format(socket=self.socket, port=self.port, database=self._directory / "webhookd.db")
        for name, (url, secret) in self._receivers.items():
            text += _ENDPOINT.format(name=name, url=url, secret=secret)
        config.write_text(text, encoding="utf-8")
        # Settings, sockets and watchdogs meant for another daemon are not for this one.
        foreign = ("WEBHOOKD_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "CREDENTIALS_DIRECTORY")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "webhookd", "serve", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                # Ctrl-C is for the demo, which then ends the daemon in its turn.
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if self._interrupted():
                raise CommandFailedError("interrupted before the daemon was ready")
            try:
                if self.client.request("GET", "/readyz", timeout_seconds=1.0).status == 200:
                    return
            except CommandFailedError:
                pass
            time.sleep(_POLL_SECONDS)
        raise CommandFailedError(f"the daemon was not ready within {START_TIMEOUT_SECONDS:g} s\n{self.log_tail()}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
