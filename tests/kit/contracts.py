"""The contracts of config.example.toml, taken from there word by word, so that example and proof cannot drift apart."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.kit.daemon import Daemon

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
PAYLOADS = ROOT / "tests" / "e2e" / "payloads"
FRAMING = ("Host", "Content-Length")
"""The headers that any HTTP request with a body has."""

JSON = {"Content-Type": "application/json"}


@cache
def example() -> dict[str, Any]:
    """Return all that stands in the example, what is commented out there as well."""
    return tomllib.loads(re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text()))


def profile(name: str) -> dict[str, Any]:
    """Return a profile as it stands in the example."""
    table: dict[str, Any] = deepcopy(example()["profiles"][name])
    return table


def endpoint(name: str, url: str | None = None, /, **changes: object) -> dict[str, Any]:
    """Return an endpoint as it stands in the example, sent to `url`; a change to None takes the key away."""
    table = {**deepcopy(example()["endpoints"][name]), **({} if url is None else {"url": url}), **changes}
    return {key: value for key, value in table.items() if value is not None}


def contract(name: str, **endpoints: Mapping[str, object]) -> dict[str, Any]:
    """Return the configuration of endpoints that follow the profile `name`; `_` in their ids is written `-`."""
    return {
        "profiles": {name: profile(name)},
        "endpoints": {key.replace("_", "-"): {"profile": name, **table} for key, table in endpoints.items()},
    }


def keep(directory: Path, name: str, content: str) -> str:
    """Write a file that only its owner may read, for an endpoint to point to; return `content`."""
    path = directory / name
    path.write_text(content)
    path.chmod(0o600)
    return content


def payload(name: str) -> bytes:
    """Return the bytes of a payload in tests/e2e/payloads."""
    return (PAYLOADS / f"{name}.json").read_bytes()


async def hand_in(daemon: Daemon, event_type: str, body: bytes, *, tenant: str = "default") -> str:
    """Hand in an event over the socket for producers, as bytes, and return its id."""
    path = f"/v1/events/{event_type}?tenant={tenant}"
    answer = await daemon.request("POST", path, body, headers=JSON, unix=daemon.ingest_socket)
    assert answer.status == 202, f"{answer.status}: {answer.body!r}"
    event_id: str = answer.json()["id"]
    return event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def command(daemon: Daemon, *arguments: str) -> Ended:
    """Run `webhookd` with `arguments` against the daemon."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webhookd", "--server", daemon.url, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(code=process.returncode, out=out.decode(), err=err.decode())
