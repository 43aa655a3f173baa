"""Runs a function in network, mount and process namespaces of its own, where every address may be this machine's.

`python -m tests.kit.netns` is the inside of it. Nothing is left behind: with the first process in a process namespace
all others in it end, and with the last of them go its interfaces, rules and mounts.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

NAMESERVER = "127.0.0.1"
"""Where names are asked for inside; nobody answers there unless the function does."""

_ROOT = Path(__file__).parents[2]
_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_PACKAGES = {"ip": "iproute2", "unshare": "util-linux", "nft": "nftables"}
_RESOLV_CONF = f"nameserver {NAMESERVER}\n"
# A route of type `local` makes this machine take whatever address a packet is for.
_LOOPBACK_UP = ("link set lo up",)
_EVERYWHERE_V4 = ("route add local default dev lo",)
_EVERYWHERE_V6 = ("route add local default dev lo",)


@functools.cache
def why_not(*tools: str) -> str | None:
    """Return why no namespace can be made here, or one of `tools` is missing; None if all is well."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = sorted(_PACKAGES.get(tool, tool) for tool in {"ip", "unshare", "mount", *tools} if not shutil.which(tool))
    if missing:
        return f"needs Debian packages: apt-get install --yes {' '.join(missing)}"
    tried = subprocess.run([*_UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"namespaces cannot be made here: {tried.stderr.strip()}"


def needs_namespace(*tools: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test, with the reason, where `run` would not work or one of `tools` is missing."""
    reason = why_not(*tools)
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def run(
    function: Callable[..., Any],
    *arguments: Any,
    everywhere: bool = False,
    timeout_seconds: float = 120.0,
) -> Any:
    """Return what `function(*arguments)` returns in fresh namespaces, both by way of JSON.

    The function stands at the top of its module and may be a coroutine function. Loopback is up; with `everywhere`,
    every unicast address leads to this machine. Names are asked for at `NAMESERVER`. Raises AssertionError with what
    was written to stderr if it fails, and TimeoutError.
    """
    with tempfile.TemporaryDirectory(prefix="ns") as directory:
        result = Path(directory) / "result.json"
        resolv_conf = Path(directory) / "resolv.conf"
        resolv_conf.write_text(_RESOLV_CONF)
        job = {
            "module": function.__module__,
            "function": function.__qualname__,
            "arguments": arguments,
            "everywhere": everywhere,
            "resolv_conf": str(resolv_conf),
            "result": str(result),
        }
        # A file and no pipe: what was written is there when time is up, too.
        output = Path(directory) / "output"
        try:
            with output.open("wb") as written:
                code = subprocess.run(
                    [*_UNSHARE, sys.executable, "-m", "tests.kit.netns", json.dumps(job)],
                    cwd=_ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=written,
                    timeout=timeout_seconds,
                    check=False,
                ).returncode
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not done after {timeout_seconds} s:\n{output.read_text(errors='replace')}") from None
        assert code == 0, f"failed in its namespace with {code}:\n{output.read_text(errors='replace')}"
        return json.loads(result.read_text())


def ip(commands: Sequence[str], *options: str) -> None:
    """Have `ip` carry out commands such as "addr add 10.0.0.1/32 dev lo"; for use inside."""
    subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(commands), text=True, check=True)


def nft(rules: str) -> None:
    """Load a ruleset of nftables; for use inside."""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def _main() -> None:
    job = json.loads(sys.argv[1])
    ip(_LOOPBACK_UP)
    if job["everywhere"]:
        ip(_EVERYWHERE_V4)
        ip(_EVERYWHERE_V6, "-6")
    subprocess.run(["mount", "--bind", job["resolv_conf"], os.path.realpath("/etc/resolv.conf")], check=True)
    function = getattr(importlib.import_module(job["module"]), job["function"])
    found = function(*job["arguments"])
    if inspect.isawaitable(found):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(_awaited(found))
    Path(job["result"]).write_text(json.dumps(found))


async def _awaited(what: Awaitable[Any]) -> Any:
    return await what


if __name__ == "__main__":
    _main()
