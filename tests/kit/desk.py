"""The blocks of a page that a reader copies and pastes, and the directory and terminals to paste them into."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from tests.kit.daemon import free_port

PATIENCE_SECONDS = 20.0


def blocks(page: Path, story: str) -> dict[str, str]:
    """Return the fenced blocks under `<!-- STORY: NAME -->` by name, in their order."""
    found = re.findall(rf"^<!-- {story}: (\w+) -->\n```sh\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return dict(found)


@dataclass
class Desk:
    """A directory and its terminals; `ports` says which free port stands for one that is written in the blocks."""

    directory: Path
    blocks: dict[str, str]
    ports: dict[str, str]
    background: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a block with its ports replaced."""
        block = self.blocks[name]
        for written, free in self.ports.items():
            block = block.replace(written, free)
        return block

    def run(self, name: str) -> str:
        """Run a block to its end, which has to be a success, and return what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(name)],
            cwd=self.directory,
            env=self._environ(),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> None:
        """Start a block in a terminal of its own."""
        with (self.directory / f"{name}.out").open("wb") as out:
            self.background[name] = subprocess.Popen(
                ["bash", "-c", f"exec {self.text(name)}"],
                cwd=self.directory,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def output(self, name: str) -> str:
        """Return what a started block has printed so far."""
        return (self.directory / f"{name}.out").read_text(errors="backslashreplace")

    def wait_for(self, name: str, text: str, times: int = 1) -> None:
        """Wait until a started block has printed `text` so often."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.output(name).count(text) < times:
            assert self.background[name].poll() is None, f"{name} ended: {self.output(name)}"
            assert time.monotonic() < deadline, f"no {text!r} from {name}: {self.output(name)}"
            time.sleep(0.05)

    def wait_until_ready(self) -> None:
        """Wait for the daemon that the block `serve` has started."""
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

    def run_until(self, name: str, text: str) -> str:
        """Run a block again and again until it prints `text`, and return what it printed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in (printed := self.run(name)):
            assert time.monotonic() < deadline, printed
        return printed

    def stop(self, name: str) -> int:
        """Ask a started block to end, and return its exit code."""
        self.background[name].send_signal(signal.SIGTERM)
        return self.background[name].wait(PATIENCE_SECONDS)

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOKD_")}
        return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}


@contextlib.contextmanager
def opened_desk(page: Path, story: str, *ports: str) -> Iterator[Desk]:
    """Open a desk for the blocks of one story, and end whatever was started at it."""
    # A socket's path may have 107 bytes, which a directory of pytest's can use up.
    directory = Path(tempfile.mkdtemp(prefix="readme-"))
    desk = Desk(directory, blocks(page, story), {port: str(free_port()) for port in ports})
    try:
        yield desk
    finally:
        for process in desk.background.values():
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(directory, ignore_errors=True)
