"""Tables of keys: the one list of what each section may hold, and how a section is read and shown by it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any

from webhookd.config.forms import Form, Where, faults_of, kind_of
from webhookd.errors import ConfigError, Fault

MOST_COMPLAINTS = 1000
"""Complaints that are kept: a file that is not ours at all has one for every line, and nobody reads on."""
MOST_NEIGHBOURS = 200
"""Known names that an unknown one is compared with."""

_MOST_NAME_CHARACTERS = 80
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section: its name as written, the field it fills, and the form of its value."""

    name: str
    field: str
    form: Form[Any]


@dataclass(slots=True)
class Report:
    """What was found wrong, place by place, and what is only worth a warning.

    `found` counts every complaint; the first `MOST_COMPLAINTS` of them are kept.
    """

    complaints: list[tuple[Where, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    found: int = 0

    def complain(self, where: Where, text: str) -> None:
        """Note that what stands at `where` cannot be taken."""
        self.found += 1
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append((where, text))

    def complain_unknown(self, where: Where, name: str, known: Collection[str], *, what: str = "key") -> None:
        """Note that `name` means nothing at `where`, with the known name that was probably meant."""
        text = f"unknown {what}"
        # Looking for neighbours is slow, and a file full of foreign keys asks for it on every line.
        if len(self.complaints) < MOST_COMPLAINTS:
            near = get_close_matches(name, list(islice(known, MOST_NEIGHBOURS)), n=1)
            text += f"; did you mean {near[0]}?" if near else ""
        self.complain(where, text)

    def warn(self, where: Where, text: str) -> None:
        """Note what is allowed and unwise."""
        self.warnings.append(f"{dotted(where)}: {text}")


def dotted(where: Where) -> str:
    """Return the place as it is said to people: `endpoints.orders.retry[2]`."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{_name(step)}" if text else _name(step)
    return text


def _name(key: str) -> str:
    if len(key) > _MOST_NAME_CHARACTERS:
        key = key[:_MOST_NAME_CHARACTERS] + "…"
    return key if _BARE_KEY.match(key) else json.dumps(key)


def pointer(where: Where) -> str:
    """Return the place as a JSON pointer (RFC 6901): `/retry/2`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in where)


def config_error(where: Where, text: str) -> ConfigError:
    """Return a complaint for whoever wrote the file."""
    return ConfigError(dotted(where), text)


def fault(where: Where, text: str) -> Fault:
    """Return a complaint for whoever sent the JSON."""
    return Fault(pointer(where), text)


def read_value(form: Form[Any], value: object, where: Where, report: Report) -> Any:  # noqa: ANN401 - the form knows
    """Return the parsed value, or None after a complaint."""
    try:
        return form.parse(value)
    except ValueError as error:
        for inner, text in faults_of(error):
            report.complain((*where, *inner), text)
        return None


def read_table(
    keys: Collection[Key], table: Mapping[str, object], where: Where, report: Report, *, also: Collection[str] = ()
) -> dict[str, Any]:
    """Return the fields that `table` fills, without those that drew a complaint.

    Names in `also` are left to the caller; every other unknown one is a complaint.
    """
    by_name = {key.name: key for key in keys}
    fields: dict[str, Any] = {}
    for name, value in table.items():
        key = by_name.get(name)
        if key is not None:
            before = report.found
            parsed = read_value(key.form, value, (*where, name), report)
            if report.found == before:
                fields[key.field] = parsed
        elif name not in also:
            report.complain_unknown((*where, name), name, [*by_name, *also])
    return fields


def as_table(value: object, where: Where, report: Report) -> Mapping[str, object]:
    """Return `value` if it is a table, else an empty one after a complaint."""
    if isinstance(value, Mapping):
        return value
    report.complain(where, f"must be a table, not {kind_of(value)}")
    return {}


def as_tables(value: object, where: Where, report: Report, *, most: int) -> list[tuple[int, Mapping[str, object]]]:
    """Return the tables of a list of them, `[[…]]` in TOML, each with its index; all else draws complaints."""
    if not isinstance(value, list):
        name = dotted(where)
        report.complain(where, f"must be a list of tables, not {kind_of(value)}: write [[{name}]] above each")
        return []
    if len(value) > most:
        report.complain(where, f"must have at most {most} entries")
    tables = []
    for index, entry in enumerate(value[:most]):
        if isinstance(entry, Mapping):
            tables.append((index, entry))
        else:
            report.complain((*where, index), f"must be a table, not {kind_of(entry)}")
    return tables


def show_table(keys: Iterable[Key], filled: object) -> dict[str, object]:
    """Return the fields of `filled` as they could have been written."""
    return {key.name: key.form.show(getattr(filled, key.field)) for key in keys}
