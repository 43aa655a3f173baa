"""What the environment says over the file: `WEBHOOKD_SECTION__KEY` for the plain values of the main sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhookd.config.rules import DELIVERY_KEYS
from webhookd.config.sections import INGEST_KEYS, NETWORK_KEYS, STORE_KEYS
from webhookd.config.tables import Key, Report, read_value

PREFIX = "WEBHOOKD_"
SECTIONS: dict[str, tuple[Key, ...]] = {
    "ingest": INGEST_KEYS,
    "store": STORE_KEYS,
    "network": NETWORK_KEYS,
    "delivery": DELIVERY_KEYS,
}
"""The sections that are one table each, and so can be named by one variable a key."""


def variable_of(section: str, key: Key) -> str:
    """Return the name of the variable that overrides `key`."""
    return f"{PREFIX}{section}__{key.name}".upper()


_KEYS = {variable_of(section, key): (section, key) for section, keys in SECTIONS.items() for key in keys}
_VARIABLES = [variable for variable, (_, key) in _KEYS.items() if key.form.from_text is not None]


def read_overrides(environ: Mapping[str, str], report: Report) -> dict[str, dict[str, Any]]:
    """Return, for each section, the fields that the environment fills; complaints name the variable.

    Variables of ours without a double underscore are not overrides and belong to the command line.
    """
    fields: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue
        if variable not in _KEYS:
            report.complain_unknown((variable,), variable, _VARIABLES, what="variable")
            continue
        section, key = _KEYS[variable]
        if key.form.from_text is None:
            report.complain((variable,), f"{section}.{key.name} is a list or table and can only be set in the file")
            continue
        before = report.found
        value = read_value(key.form, key.form.from_text(environ[variable]), (variable,), report)
        if report.found == before:
            fields[section][key.field] = value
    return fields
