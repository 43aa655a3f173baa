"""What the `list` commands share: filters, paging, times that may be said as `2h` ago."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from webhookd.cli.commands import Session
from webhookd.cli.output import emit_json, note, table

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Row = Mapping[str, object]

DEFAULT_LIMIT = 50

_AGO = re.compile(r"(\d{1,9})(s|m|h|d)\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Turn `2h` into the moment two hours ago; the daemon judges everything else."""
    if value is None or (ago := _AGO.match(value)) is None:
        return value
    from datetime import UTC, datetime, timedelta

    try:
        moment = datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    except OverflowError as error:
        raise click.BadParameter(f"{value} ago is before all time") from error
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_FILTERS: dict[str, Callable[[Any], Any]] = {
    "endpoint": click.option("--endpoint", metavar="ID", help="Only deliveries to this endpoint."),
    "event": click.option("--event", metavar="ID", help="Only deliveries of this event."),
    "state": click.option(
        "--state",
        type=click.Choice(["pending", "delivered", "dead", "cancelled"]),
        help="Only deliveries in this state.",
    ),
    "type": click.option("--type", metavar="TYPE", help="Only this event type."),
    "tenant": click.option("--tenant", help="Only this tenant."),
    "since": click.option(
        "--since", metavar="TIME", callback=_moment, help="Accepted at or after: RFC 3339, or 30m, 2h, 3d ago."
    ),
    "until": click.option("--until", metavar="TIME", callback=_moment, help="Accepted before: RFC 3339, or 2h ago."),
}

_PAGING: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=DEFAULT_LIMIT,
        show_default=True,
        help="Most rows to print.",
    ),
    click.option("--cursor", help="Go on behind an earlier list."),
    click.option("--all", "everything", is_flag=True, help="Print every row there is, whatever --limit says."),
)


def filtered(*names: str) -> Callable[[Decorated], Decorated]:
    """Add the filters `names` and the paging options; they arrive as one keyword argument each."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed([*(_FILTERS[name] for name in names), *_PAGING]):
            function = option(function)
        return function

    return decorate


def between(function: Decorated) -> Decorated:
    """Add the bounds on the time of acceptance, `since` and `until`."""
    for name in ("until", "since"):
        function = _FILTERS[name](function)
    return function


def print_list(
    session: Session,
    path: str,
    noun: str,
    heads: Sequence[str],
    row: Callable[[Row], Sequence[object]],
    options: Mapping[str, Any],
) -> None:
    """Print what `path` lists, newest first; says on stderr how to see the rest."""
    query = {name: value for name, value in options.items() if name in _FILTERS}
    limit = None if options["everything"] else options["limit"]
    rows: list[Row] = []
    following: str | None = None
    for items, following in session.client().pages(path, query=query, cursor=options["cursor"], limit=limit):  # noqa: B007 - the last one is what counts
        if session.as_json:
            for item in items:
                emit_json(item)
        rows += items if not session.as_json else []
    if not session.as_json:
        if rows:
            table(heads, [row(item) for item in rows])
        else:
            note(f"no {noun}")
    if following is not None:
        if session.as_json:
            import json

            note(json.dumps({"next": following}))
        else:
            note(f"there are more: --cursor {following}, or --all")
