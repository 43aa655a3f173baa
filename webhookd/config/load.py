"""File and environment become settings, with every complaint at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from webhookd.config.document import Document, find_file, read_document, state_directory
from webhookd.config.endpoints import parse_profile_name, read_endpoints
from webhookd.config.environment import SECTIONS, read_overrides
from webhookd.config.listeners import check_reach, read_listeners, read_tokens
from webhookd.config.rules import DELIVERY_KEYS
from webhookd.config.secret_sources import SecretSources
from webhookd.config.signatures import with_secrets
from webhookd.config.tables import Report, as_table, config_error, read_table
from webhookd.core.settings import DeliveryRules, Ingest, Listen, NetworkRules, Settings, Storage
from webhookd.errors import ConfigError, ConfigErrors

TOP_LEVEL_NAMES = ("listen", "token", *SECTIONS, "profiles", "endpoints")


def load_settings(path: Path | None, *, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the file at `path`, or of the first one found, or the built-in defaults.

    Without `path` the order is `webhookd.toml` in the working directory, then `webhookd/config.toml` under
    `$XDG_CONFIG_HOME`, then `/etc/webhookd/config.toml`. Nothing but files is touched: no socket is bound and no
    directory made. Raises ConfigErrors with everything that is wrong, in the order of the file.
    """
    document = read_document(path if path is not None else find_file(environ))
    report = Report()
    settings = _fill(document, environ, report)
    if report.complaints:
        raise ConfigErrors(_in_file_order(document, report))
    return replace(settings, warnings=tuple(report.warnings))


def reload_conflicts(old: Settings, new: Settings) -> list[ConfigError]:
    """Return what of `new` a running daemon with `old` cannot take over, empty where it can take all."""
    conflicts = []
    if new.listen != old.listen:
        conflicts.append(ConfigError("listen", "has changed, which needs restart"))
    if new.storage.path != old.storage.path:
        conflicts.append(ConfigError("store.path", f"has changed from {old.storage.path}, which needs restart"))
    return conflicts


def _fill(document: Document, environ: Mapping[str, str], report: Report) -> Settings:
    for name in document.tables:
        if name not in TOP_LEVEL_NAMES:
            report.complain_unknown((name,), name, TOP_LEVEL_NAMES)
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    secrets = SecretSources(base=document.base, credentials=Path(credentials) if credentials else None)
    sections = _read_sections(document, environ, secrets, report)
    listeners: tuple[Listen, ...] = (Listen(),)
    if "listen" in document.tables:
        listeners = read_listeners(document.tables["listen"], document.base, report)
    tokens = read_tokens(document.tables.get("token", []), secrets, report)
    # A token that drew a complaint of its own is still a token that was meant.
    check_reach(listeners, has_token=bool(document.tables.get("token")), report=report)
    delivery = DeliveryRules(**sections["delivery"])
    settings = Settings(
        source=document.path,
        listen=listeners,
        tokens=tokens,
        ingest=Ingest(**sections["ingest"]),
        storage=_fill_storage(document, sections["store"], environ, report),
        network=NetworkRules(**sections["network"]),
        delivery=delivery,
        profiles=_read_profiles(document, delivery, secrets, report),
        endpoints={},
    )
    _check_ingest(settings.ingest, report)
    declared = as_table(document.tables.get("endpoints", {}), ("endpoints",), report)
    return replace(settings, endpoints=read_endpoints(settings, declared, secrets, report))


def _read_sections(
    document: Document, environ: Mapping[str, str], secrets: SecretSources, report: Report
) -> dict[str, dict[str, Any]]:
    overrides = read_overrides(environ, report)
    sections = {}
    for section, keys in SECTIONS.items():
        table = as_table(document.tables.get(section, {}), (section,), report)
        if section == "delivery":
            table = with_secrets(table, (section,), secrets, report)
        sections[section] = read_table(keys, table, (section,), report) | overrides[section]
    return sections


def _fill_storage(document: Document, fields: Mapping[str, Any], environ: Mapping[str, str], report: Report) -> Storage:
    if "path" in fields:
        return Storage(**{**fields, "path": document.base / fields["path"]})
    home = state_directory(environ)
    if home is None:
        report.complain(("store", "path"), "is needed where neither $XDG_STATE_HOME nor $HOME says where state is kept")
        home = document.base
    return Storage(**{"path": home / "webhookd" / "webhookd.db", **fields})


def _check_ingest(ingest: Ingest, report: Report) -> None:
    if ingest.max_request_bytes < ingest.max_payload_bytes:
        report.warn(("ingest", "max_request"), "is smaller than max_payload, so that it is the limit of payloads too")


def _read_profiles(
    document: Document, delivery: DeliveryRules, secrets: SecretSources, report: Report
) -> dict[str, DeliveryRules]:
    profiles = {}
    for name, value in as_table(document.tables.get("profiles", {}), ("profiles",), report).items():
        where = ("profiles", name)
        try:
            parse_profile_name(name)
        except ValueError as error:
            report.complain(where, str(error))
        table = with_secrets(as_table(value, where, report), where, secrets, report)
        fields = read_table(DELIVERY_KEYS, table, where, report)
        profiles[name] = replace(delivery, **fields)
    return profiles


def _in_file_order(document: Document, report: Report) -> list[ConfigError]:
    index = document.lines()
    placed = [(index.line_of(where), where, text) for where, text in report.complaints]
    # What has no line stands in the environment, or nowhere: it comes first.
    placed.sort(key=lambda complaint: complaint[0] or 0)
    complaints = [
        config_error(where, text if line is None else f"{text} (line {line})") for line, where, text in placed
    ]
    if report.found > len(placed):
        complaints.append(ConfigError(str(document.path), f"{report.found - len(placed)} more complaints are left out"))
    return complaints
