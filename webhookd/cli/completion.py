"""`completion` prints what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from webhookd.cli.commands import Command
from webhookd.cli.exits import CommandFailedError

_VARIABLE = "_WEBHOOKD_COMPLETE"


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for SHELL.

    \b
    bash: webhookd completion bash > ~/.local/share/bash-completion/completions/webhookd
    zsh:  webhookd completion zsh > some/directory/of/your/fpath/_webhookd
    fish: webhookd completion fish > ~/.config/fish/completions/webhookd.fish
    """  # noqa: D301 - click wants the character itself before lines that it should leave alone
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandFailedError(f"there is no completion for {shell}")
    # Formed here and not by source(), which for bash starts one to ask for its version.
    made = kind(ctx.find_root().command, {}, "webhookd", _VARIABLE)
    click.echo(made.source_template % made.source_vars())
