"""The command line: `serve` runs the daemon, everything else is a client of it; each command is loaded when named."""

from __future__ import annotations

import traceback

import click

from webhookd.cli.commands import CONNECTION, Commands, Session, accepts
from webhookd.cli.exits import CommandFailedError, Exit, failure_of
from webhookd.errors import WebhookdError

__all__ = ["main"]


class _Root(Commands):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader of our output has left, as `head` does; click ends quietly then.
            raise
        except CommandFailedError as failure:
            raise self._failed(ctx, failure) from failure
        except WebhookdError as error:
            raise self._failed(ctx, failure_of(error)) from error
        except Exception as error:
            traceback.print_exc()
            raise click.exceptions.Exit(Exit.INTERNAL) from error

    def _failed(self, ctx: click.Context, failure: CommandFailedError) -> click.exceptions.Exit:
        failure.show(as_json=ctx.ensure_object(Session).as_json)
        return click.exceptions.Exit(failure.code)


@click.group(
    cls=_Root,
    members={
        "serve": "webhookd.cli.serve:serve",
        "check-config": "webhookd.cli.serve:check_config",
        "demo": "webhookd.cli.demo:demo",
        "send": "webhookd.cli.send:send",
        "status": "webhookd.cli.status:status",
        "events": "webhookd.cli.events:events",
        "deliveries": "webhookd.cli.deliveries:deliveries",
        "endpoints": "webhookd.cli.endpoints:endpoints",
        "replay": "webhookd.cli.replay:replay",
        "tail": "webhookd.cli.tail:tail",
        "backup": "webhookd.cli.backup:backup",
        "listen": "webhookd.cli.listen:listen",
        "verify": "webhookd.cli.verify:verify",
        "completion": "webhookd.cli.completion:completion",
    },
)
@accepts(*CONNECTION)
def main() -> None:
    """Accept events on a local socket, keep them on disk, deliver them as signed webhooks until they are acknowledged.

    `webhookd demo` shows all of it in a minute; `webhookd serve` runs the daemon; the other commands talk to it.
    """
