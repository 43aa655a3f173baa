"""The settings in force, for people and for programs, with every secret masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from webhookd.config.credentials import TLS_NAMES
from webhookd.config.endpoints import IDENTITY_KEYS
from webhookd.config.environment import SECTIONS
from webhookd.config.listeners import LISTEN_KEYS, TOKEN_KEYS
from webhookd.config.rules import DELIVERY_KEYS
from webhookd.config.tables import Key, show_table
from webhookd.config.timeline import Timeline, timeline
from webhookd.core.masking import MASK, masked_basic_auth, masked_header
from webhookd.core.settings import (
    DeliveryRules,
    EndpointDefinition,
    Listen,
    Settings,
    TcpAddress,
    TlsFiles,
    UnixAddress,
)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_MOST_COLUMNS = 120


class Description(dict[str, object]):
    """The settings in force as a JSON object; as text, the same in the manner of TOML with each schedule spelled out.

    `schedules` holds one timeline for each table of delivery rules, by the dotted name of the table.
    """

    __slots__ = ("_text",)

    def __init__(self, data: Mapping[str, object], text: str) -> None:
        super().__init__(data)
        self._text = text

    def __str__(self) -> str:
        return self._text


def describe(settings: Settings) -> Description:
    """Return what a daemon would run with, with everything secret masked.

    That is: secrets, passwords, secret URLs, values in the query of other URLs, and credential headers. The object
    holds every key of every table. The text leaves out, under profiles and endpoints, the delivery keys that are as in
    [delivery].
    """
    filled = {
        "ingest": settings.ingest,
        "store": settings.storage,
        "network": settings.network,
        "delivery": settings.delivery,
    }
    rules: dict[tuple[str, ...], DeliveryRules] = {
        ("delivery",): settings.delivery,
        **{("profiles", name): profile for name, profile in settings.profiles.items()},
        **{("endpoints", name): endpoint.rules for name, endpoint in settings.endpoints.items()},
    }
    timelines = {path: timeline(rule) for path, rule in rules.items()}
    data: dict[str, object] = {
        "source": None if settings.source is None else str(settings.source),
        "listen": [_show_listener(listener) for listener in settings.listen],
        "token": [{**show_table(TOKEN_KEYS, token), "secret": MASK} for token in settings.tokens],
        **{section: _show(keys, filled[section]) for section, keys in SECTIONS.items()},
        "profiles": {name: _show(DELIVERY_KEYS, profile) for name, profile in settings.profiles.items()},
        "endpoints": {
            name: _show_endpoint(endpoint) | _show(DELIVERY_KEYS, endpoint.rules)
            for name, endpoint in settings.endpoints.items()
        },
        "schedules": {".".join(path): found.show() for path, found in timelines.items()},
        "warnings": list(settings.warnings),
    }
    return Description(data, "\n".join(_text(settings, data, timelines)))


def _show(keys: tuple[Key, ...], filled: object) -> dict[str, object]:
    shown = show_table(keys, filled)
    headers = shown.get("headers")
    if isinstance(headers, dict):
        shown["headers"] = {name: masked_header(name, value) for name, value in headers.items()}
    return shown


def _show_listener(listener: Listen) -> dict[str, object]:
    address = listener.address
    fields: dict[str, object] = {"address": address, "role": listener.role}
    if isinstance(address, UnixAddress):
        fields["mode"] = address.mode
    if isinstance(address, TcpAddress):
        fields["hosts"] = sorted(listener.hosts)
    return {key.name: key.form.show(fields[key.field]) for key in LISTEN_KEYS if key.field in fields}


def _show_endpoint(endpoint: EndpointDefinition) -> dict[str, object]:
    given = {key.name: getattr(endpoint, key.field) for key in IDENTITY_KEYS}
    shown = {key.name: None if given[key.name] is None else key.form.show(given[key.name]) for key in IDENTITY_KEYS}
    auth, tls = endpoint.basic_auth, endpoint.tls or TlsFiles()
    return {
        **shown,
        "url": endpoint.shown_url,
        "secret": None if endpoint.secret is None else MASK,
        "basic_auth": None if auth is None else masked_basic_auth({"username": auth.username, "password": MASK}),
        **{name: None if (path := getattr(tls, name)) is None else str(path) for name in TLS_NAMES},
    }


def _text(
    settings: Settings, data: Mapping[str, object], timelines: Mapping[tuple[str, ...], Timeline]
) -> Iterator[str]:
    yield f"# {settings.source}" if settings.source else "# built-in defaults: there is no configuration file"
    for name, entries in (("listen", data["listen"]), ("token", data["token"])):
        for table in _tables(entries):
            yield f"\n[[{name}]]"
            yield from _assignments(table)
    for section in SECTIONS:
        yield f"\n[{section}]"
        yield from _assignments(_table(data[section]))
    usual = timelines["delivery",]
    yield from (f"# {line}" for line in usual.lines())
    defaults = _table(data["delivery"])
    for section in ("profiles", "endpoints"):
        for name, entry in _table(data[section]).items():
            yield f"\n[{section}.{_key(name)}]"
            yield from _assignments(
                {key: value for key, value in _table(entry).items() if key not in defaults or value != defaults[key]}
            )
            if timelines[section, name] != usual:
                yield from (f"# {line}" for line in timelines[section, name].lines())


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, object]]:
    return [_table(entry) for entry in value] if isinstance(value, list) else []


def _assignments(table: Mapping[str, object]) -> Iterator[str]:
    for name, value in table.items():
        if value is None:
            continue
        line = f"{_key(name)} = {_toml(value)}"
        if len(line) > _MOST_COLUMNS and isinstance(value, list):
            yield f"{_key(name)} = ["
            yield from (f"  {_toml(element)}," for element in value)
            yield "]"
        else:
            yield line


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _toml(name)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return "[" + ", ".join(_toml(element) for element in value) + "]"
        case dict():
            inner = ", ".join(f"{_key(name)} = {_toml(element)}" for name, element in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case str():
            # A basic string of TOML escapes as JSON does, and the delete character besides.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return str(value)
