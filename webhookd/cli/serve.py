"""`serve` runs the daemon, `check-config` says beforehand what it would run with."""

from __future__ import annotations

import click

from webhookd.cli.commands import Command, Session, accepts, pass_session
from webhookd.cli.output import emit, emit_json, note


@click.command(cls=Command)
@accepts("config")
@pass_session
def serve(session: Session) -> None:
    """Run the daemon.

    Without -c the first of ./webhookd.toml, $XDG_CONFIG_HOME/webhookd/config.toml and /etc/webhookd/config.toml is
    used; without any of them the built-in defaults are: loopback TCP port 8470, and a database under the XDG state
    directory.

    It stays in the foreground. SIGTERM finishes the attempts in flight and ends with 0; SIGHUP reads the
    configuration again.
    """
    from webhookd.daemon import run

    raise click.exceptions.Exit(run(session.config))


@click.command("check-config", cls=Command)
@accepts("config", "json")
@pass_session
def check_config(session: Session) -> None:
    """Check the configuration file.

    Prints what is in force: every setting, secrets masked, and each retry schedule as a timeline. Every mistake is
    named with its key; the exit code is 78 then.
    """
    import os

    from webhookd import config

    settings = config.load_settings(session.config, environ=os.environ)
    for warning in settings.warnings:
        note(f"warning: {warning}")
    described = config.describe(settings)
    if session.as_json:
        emit_json(described)
        return
    emit(str(described))
