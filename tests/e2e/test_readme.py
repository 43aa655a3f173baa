"""The first delivery of README.md, copied and pasted: every block as it stands there, against the real daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

README = Path(__file__).parents[2] / "README.md"
PATIENCE_SECONDS = 20.0
ORDER = ["prepare", "serve", "listen", "unix", "tcp", "look"]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt-get install curl")


def blocks() -> dict[str, str]:
    """Return the fenced blocks under `<!-- first delivery: NAME -->`, in their order."""
    found = re.findall(
        r"^<!-- first delivery: (\w+) -->\n```sh\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE
    )
    return dict(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Desk:
    """A directory and three terminals."""

    directory: Path
    ports: dict[str, str]
    background: dict[str, subprocess.Popen[bytes]]

    def text(self, name: str) -> str:
        block = blocks()[name]
        for written, free in self.ports.items():
            block = block.replace(written, free)
        return block

    def run(self, name: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(name)],
            cwd=self.directory,
            env=self.environ(),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> None:
        with (self.directory / f"{name}.out").open("wb") as out:
            self.background[name] = subprocess.Popen(
                ["bash", "-c", f"exec {self.text(name)}"],
                cwd=self.directory,
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def output(self, name: str) -> str:
        return (self.directory / f"{name}.out").read_text(errors="backslashreplace")

    def wait_for(self, name: str, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.output(name).count(text) < times:
            assert self.background[name].poll() is None, f"{name} ended: {self.output(name)}"
            assert time.monotonic() < deadline, f"no {text!r} from {name}: {self.output(name)}"
            time.sleep(0.05)

    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOKD_")}
        return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert self.background["serve"].poll() is None, self.output("serve")
            try:
                with urlopen(f"http://127.0.0.1:{self.ports['8470']}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                assert time.monotonic() < deadline, self.output("serve")
                time.sleep(0.05)


@pytest.fixture
def desk() -> Iterator[Desk]:
    # A socket's path may have 107 bytes, which a directory of pytest's can use up.
    directory = Path(tempfile.mkdtemp(prefix="readme-"))
    opened = Desk(directory, {"8470": str(free_port()), "8471": str(free_port())}, {})
    yield opened
    for process in opened.background.values():
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def test_the_readme_has_every_step_in_order():
    assert list(blocks()) == ORDER


def test_the_first_delivery_works_as_it_is_written(desk):
    assert desk.run("prepare").strip() == "good"
    assert (desk.directory / "orders.secret").stat().st_mode & 0o077 == 0
    desk.start("serve")
    desk.start("listen")
    desk.wait_until_ready()
    desk.wait_for("listen", "listening on")

    answers = [json.loads(desk.run("unix")), json.loads(desk.run("tcp"))]
    assert [(answer["duplicate"], answer["deliveries"]) for answer in answers] == [(False, 1), (False, 1)]
    desk.wait_for("listen", "signature holds", times=2)
    for payload in ('{"order": 17, "total": "40.00"}', '{"order": 18, "total": "12.50"}'):
        assert payload in desk.output("listen")
    for answer in answers:
        assert f"webhook-id: {answer['id']}" in desk.output("listen")

    repeated = json.loads(desk.run("tcp"))
    assert repeated == {**answers[1], "duplicate": True}

    # The receiver prints a request before its answer is on record here.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "2 delivered" not in (looked := desk.run("look")):
        assert time.monotonic() < deadline, looked
    assert len(re.findall(r"^dlv_\w+ +delivered +order\.completed +orders +1 ", looked, re.MULTILINE)) == 2
    assert f"{answers[1]['id']} (order.completed)" in looked, "what is shown is the latest delivery"

    desk.background["serve"].send_signal(signal.SIGTERM)
    assert desk.background["serve"].wait(PATIENCE_SECONDS) == 0, desk.output("serve")
