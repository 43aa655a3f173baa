"""How commands are declared: options that all of them share, groups that load their members when they are named."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from webhookd import __version__
from webhookd.cli.address import Target, find_target
from webhookd.cli.connection import Client, read_token

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """What was chosen on the command line so far; an option after the subcommand wins over one before it."""

    server: str | None = None
    token_file: Path | None = None
    config: Path | None = None
    as_json: bool = False

    def target(self, *roles: str) -> Target:
        """Return the daemon to talk to. Raises CommandFailedError where the configuration names none for `roles`."""
        return find_target(self.server, self.config, roles=roles, environ=os.environ)

    def client(self, *roles: str) -> Client:
        """Return a client for a listener with one of `roles`; nothing is dialled yet."""
        return Client(self.target(*(roles or ("operate",))), token=read_token(self.token_file, os.environ))


pass_session = click.make_pass_decorator(Session, ensure=True)


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    session = ctx.ensure_object(Session)
    if value is not None and value is not False:
        setattr(session, str(param.name), value)


# What is wrong with the file, a directory in its place included, is for whoever reads it to say: that is exit code 78.
_CONFIG = click.Path(path_type=Path)

_SHARED: dict[str, Callable[[Any], Any]] = {
    "server": click.option(
        "--server",
        metavar="ADDRESS",
        help="The daemon: unix:/path or http://host:port. Default: $WEBHOOKD_SERVER, else the listener of the "
        "configuration file.",
        expose_value=False,
        callback=_remember,
    ),
    "token_file": click.option(
        "--token-file",
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        help="File with the bearer token. Default: $WEBHOOKD_TOKEN_FILE.",
        expose_value=False,
        callback=_remember,
    ),
    "config": click.option(
        "-c",
        "--config",
        type=_CONFIG,
        help="Configuration file. Default: ./webhookd.toml, $XDG_CONFIG_HOME/webhookd/config.toml, "
        "/etc/webhookd/config.toml.",
        expose_value=False,
        callback=_remember,
    ),
    "json": click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON, for lists one object a line; failures too, on stderr.",
        expose_value=False,
        callback=_remember,
    ),
}

CONNECTION = ("server", "token_file", "config", "json")


def accepts(*names: str) -> Callable[[Decorated], Decorated]:
    """Add shared options, which end up in the Session instead of among the arguments."""

    def decorate(function: Decorated) -> Decorated:
        for name in reversed(names):
            function = _SHARED[name](function)
        return function

    return decorate


def _version_option() -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"webhookd {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )


class Command(click.Command):
    """A command with -h/--help and --version, the same everywhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature, passed on whole
        super().__init__(*args, **kwargs)
        self.params.append(_version_option())
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        self.context_settings.setdefault("color", _color())


class Commands(click.Group):
    """A group whose `members`, name → `module:attribute`, are imported when they are asked for, in the order given."""

    command_class = Command

    def __init__(self, *args: Any, members: dict[str, str] | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - as above
        super().__init__(*args, **kwargs)
        self.params.append(_version_option())
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        self.context_settings.setdefault("color", _color())
        self._members = members or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._members, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = self._members.get(cmd_name)
        if where is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def _color() -> bool | None:
    # https://no-color.org: present and not empty; None leaves it to click, which colours terminals only.
    return False if os.environ.get("NO_COLOR") else None
