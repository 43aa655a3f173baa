"""What is measured: the daemon as it is shipped, and the bare pipeline beside it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import sample
from bench.processes import Child, MeasurementError, child

_START_SECONDS = 20.0
_POLL_SECONDS = 0.02

CONFIG = """
[[listen]]
address = "{address}"
role = "operate"

[store]
path = "{database}"

[network]
allow = ["127.0.0.0/8"]
"""
"""Everything else is left at its default, the `concurrency` of 32 of each endpoint included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Somebody to deliver to: the path at the receiver, and the one event type it gets (all if none is given)."""

    path: str = "/hook"
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a subject listens and writes, the URL of the receiver, and the endpoints there, `e0` and so on."""

    directory: Path
    address: str
    target: str
    endpoints: Sequence[Endpoint] = (Endpoint(),)
    ca_file: Path | None = None

    @property
    def database(self) -> Path:
        """Return the path of the database; its table `deliveries` has a column `state` in both subjects."""
        return self.directory / "bench.db"


def bare(place: Place) -> list[str]:
    """Return the arguments that start the bare pipeline."""
    database = str(place.database)
    where = ["--listen", place.address, "--database", database, "--target", place.target + place.endpoints[0].path]
    return ["-m", "bench.bare", *where, "--secret", sample.SECRET]


def daemon(place: Place) -> list[str]:
    """Return the arguments that start the daemon, its configuration written."""
    config = place.directory / "bench.toml"
    tables = [
        f'[endpoints.e{number}]\nurl = "{place.target}{endpoint.path}"\nsecret = "{sample.SECRET}"\n'
        + (f'types = ["{endpoint.type}"]\n' if endpoint.type else "")
        + (f'ca_file = "{place.ca_file}"\n' if place.ca_file else "")
        for number, endpoint in enumerate(place.endpoints)
    ]
    config.write_text("\n".join([CONFIG.format(address=place.address, database=place.database), *tables]))
    config.chmod(0o600)
    return ["-m", "webhookd", "serve", "-c", str(config)]


SUBJECTS: dict[str, Callable[[Place], list[str]]] = {"bare": bare, "daemon": daemon}


@contextlib.asynccontextmanager
async def running(name: str, place: Place, *, profile: Path | None = None) -> AsyncIterator[Child]:
    """Run a subject, ready for its first event; with `profile`, under cProfile, which makes it about twice as slow."""
    arguments = SUBJECTS[name](place)
    if profile is not None:
        arguments = ["-m", "cProfile", "-o", str(profile), *arguments]
    async with child(arguments, place.directory) as process:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await _is_ready(place.address):
                    if process.process.returncode is not None:
                        raise MeasurementError(f"{name} did not start:\n{process.last_words()}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise MeasurementError(f"{name} was not ready in time:\n{process.last_words()}") from None
        yield process


async def _is_ready(address: str) -> bool:
    """Ask for /readyz; the bare pipeline answers any GET, and listens only once it is ready."""
    kind, _, place = address.partition(":")
    try:
        if kind == "unix":
            reader, writer = await asyncio.open_unix_connection(place)
        else:
            host, _, port = place.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()
    return answer.startswith(b"HTTP/1.1 200")


def free_address(kind: str, directory: Path) -> str:
    """Return an address to listen on: a socket in `directory`, or a loopback port that is free at this moment."""
    if kind == "unix":
        return f"unix:{directory / 'bench.sock'}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp:127.0.0.1:{server.getsockname()[1]}"
