"""Which daemon a command talks to: the one that was named, else a listener of the configuration file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from webhookd.cli.exits import CommandFailedError, Exit
from webhookd.core.settings import TcpAddress, UnixAddress

DEFAULT = TcpAddress("127.0.0.1", 8470)

# A wildcard is for binding; what listens on it is reached over loopback.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - never bound here


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address to dial, who named it, and the configuration file a daemon there would be started with."""

    address: UnixAddress | TcpAddress
    named_by: str
    config: Path | None = None

    def __str__(self) -> str:
        match self.address:
            case UnixAddress():
                return str(self.address)
            case TcpAddress(host=host, port=port):
                return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def parse_server(text: str) -> UnixAddress | TcpAddress:
    """Return the address in `unix:/path`, `http://host:port` or `tcp:host:port`. Raises click.UsageError."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return UnixAddress(Path(text.removeprefix("unix:")))
    if text.startswith("tcp:") and (address := _tcp(text.removeprefix("tcp:"))) is not None:
        return address
    if text.startswith("http://"):
        try:
            parts = urlsplit(text)
            if parts.hostname and parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username):
                return TcpAddress(parts.hostname, parts.port if parts.port is not None else 80)
        except ValueError:
            pass
    msg = f"--server: {text!r} is neither unix:/path nor http://host:port"
    raise click.UsageError(msg)


def find_target(server: str | None, config: Path | None, *, roles: Sequence[str], environ: Mapping[str, str]) -> Target:
    """Return where to go: `server`, else $WEBHOOKD_SERVER, else the first listener of the file with one of `roles`.

    Only the listeners are read: a file that is wrong elsewhere, or whose secrets belong to somebody else, will do.
    """
    if server is not None:
        return Target(address=parse_server(server), named_by="--server", config=config)
    if config is None and (named := environ.get("WEBHOOKD_SERVER")):
        return Target(address=parse_server(named), named_by="$WEBHOOKD_SERVER")
    path = config or next((path for path in search_path(environ) if os.path.lexists(path)), None)
    if path is None:
        return Target(address=DEFAULT, named_by="the default, as there is no configuration file")
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        if config is not None:
            raise CommandFailedError(f"{path} cannot be read: {_reason(error)}", code=Exit.CONFIG) from error
        return Target(address=DEFAULT, named_by=f"the default, as {path} cannot be read", config=path)
    except tomllib.TOMLDecodeError:
        return Target(address=DEFAULT, named_by=f"the default, as {path} is not valid TOML", config=path)
    return _from_listeners(path, read.get("listen"), roles)


def search_path(environ: Mapping[str, str]) -> list[Path]:
    """Return the files `serve` would look for, first come first served.

    The same as `webhookd.config` has it, which takes longer to import than most commands take to run.
    """
    homes = []
    if environ.get("XDG_CONFIG_HOME", "").startswith("/"):
        homes.append(Path(environ["XDG_CONFIG_HOME"]))
    elif environ.get("HOME", "").startswith("/"):
        homes.append(Path(environ["HOME"], ".config"))
    return [
        Path("webhookd.toml"),
        *(home / "webhookd" / "config.toml" for home in homes),
        Path("/etc/webhookd/config.toml"),
    ]


def _from_listeners(path: Path, listeners: object, roles: Sequence[str]) -> Target:
    tables = [table for table in listeners if isinstance(table, dict)] if isinstance(listeners, list) else []
    if not tables:
        return Target(address=DEFAULT, named_by=f"the default, as {path} has no [[listen]]", config=path)
    for table in tables:
        role = table.get("role", "operate")
        if role in roles and (address := _dialable(table.get("address"), path.absolute().parent)) is not None:
            return Target(address=address, named_by=f"the first {role} listener of {path}", config=path)
    wanted = " or ".join(roles)
    raise CommandFailedError(
        f"{path} has no listener with role {wanted} and an address to dial (unix:PATH or tcp:HOST:PORT)",
        code=Exit.UNREACHABLE,
        hint="Name the daemon with --server unix:/path or --server http://host:port.",
    )


def _dialable(text: object, base: Path) -> UnixAddress | TcpAddress | None:
    if not isinstance(text, str):
        return None
    if text.startswith("unix:") and len(text) > len("unix:"):
        return UnixAddress(base / text.removeprefix("unix:"))
    if text.startswith("tcp:"):
        address = _tcp(text.removeprefix("tcp:"))
        return address if address is not None and address.port else None
    return None


def _tcp(text: str) -> TcpAddress | None:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        return None
    return TcpAddress(_WILDCARDS.get(host, host), int(port))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
