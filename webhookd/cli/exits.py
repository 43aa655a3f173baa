"""What a command ends with: exit codes, and failures as words on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import IntEnum

import click

from webhookd.cli.text import printable
from webhookd.errors import ConfigErrors, WebhookdError


class Exit(IntEnum):
    """The exit codes of commands; those above 64 are of sysexits.h, and every error of ours carries its own."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NEGATIVE = 3
    NOT_FOUND = 4
    DATABASE_REFUSED = 65
    UNREACHABLE = 69
    INTERNAL = 70
    DATABASE_IO = 74
    ALREADY_RUNNING = 75
    CONFIG = 78


def failure_of(error: WebhookdError) -> CommandFailedError:
    """Return `error` as a failure to show: every complaint about a configuration on a line of its own."""
    complaints = error.complaints if isinstance(error, ConfigErrors) else []
    problem: dict[str, object] | None = None
    if complaints:
        problem = {
            "title": Exit.CONFIG.name.lower(),
            "detail": str(error),
            "errors": [{"key": complaint.key, "detail": complaint.text} for complaint in complaints],
        }
    return CommandFailedError(str(error), code=Exit(error.exit_code), problem=problem)


class CommandFailedError(Exception):
    """A command cannot do what it was asked; carries the words for stderr and the exit code.

    `faults` are pairs of field and complaint, `hint` says what to do next. `problem` is the daemon's own answer
    (RFC 9457), which is what a machine gets to read.
    """

    def __init__(
        self,
        text: str,
        *,
        code: Exit = Exit.FAILED,
        faults: Sequence[tuple[str, str]] = (),
        hint: str = "",
        problem: dict[str, object] | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.faults = tuple(faults)
        self.hint = hint
        self.problem = problem

    def show(self, *, as_json: bool) -> None:
        """Write the failure to stderr: for people one line each, for machines one JSON object."""
        if as_json:
            said = self.problem if self.problem is not None else {"title": self.code.name.lower(), "detail": self.text}
            whole = {**said, "exit_code": int(self.code), **({"hint": self.hint} if self.hint else {})}
            click.echo(json.dumps(whole, ensure_ascii=False), err=True)
            return
        for line in self.text.splitlines():
            click.echo(f"webhookd: {printable(line)}", err=True)
        for field, complaint in self.faults:
            click.echo("  " + printable(f"{field}: {complaint}" if field else complaint), err=True)
        if self.hint:
            click.echo(self.hint, err=True)
