"""The keys of an endpoint, and how a table of them becomes a definition, from the file and over the API alike."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from typing import Any

from webhookd.config.credentials import (
    TLS_NAMES,
    URL_SOURCE_NAMES,
    Credentials,
    read_credentials,
)
from webhookd.config.filters import WHERE
from webhookd.config.forms import FLAG, Form, Where, line, list_of, parse_path, quote, take_text
from webhookd.config.rules import DELIVERY_KEYS
from webhookd.config.secret_sources import SECRET, SECRET_NAMES, SecretSources, read_regular_file
from webhookd.config.signatures import check_endpoint_secret, check_headers, with_secrets, without_secrets
from webhookd.config.tables import Key, Report, fault, read_table, read_value
from webhookd.config.targets import URL, check_target, target_of
from webhookd.core.event import DEFAULT_TENANT, EVERY_TENANT, TENANT
from webhookd.core.filtering import EVERYTHING
from webhookd.core.ids import EndpointId, is_endpoint_id
from webhookd.core.recipes import written_names
from webhookd.core.services import SecretMaker
from webhookd.core.settings import Body, DeliveryRules, EndpointDefinition, Settings
from webhookd.core.signing import check_header
from webhookd.errors import InvalidRequestError

MOST_TYPES = 1000
MOST_SAMPLE_BYTES = 1024 * 1024

FILE_ONLY_NAMES = (SECRET_NAMES - {"secret"}) | URL_SOURCE_NAMES | {*TLS_NAMES, "sample_file"}
"""Keys that point into the file system of the daemon, which is nobody's business over the API."""
API_ONLY_NAMES = frozenset({"id", "sample", "url_secret"})

_GLOB = re.compile(r"[A-Za-z0-9_.:/*?\[\]-]{1,256}\Z")
_ID_RULE = "must be 1 to 64 of a-z 0-9 _ - and begin with a letter or digit"
_PROFILE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def _parse_tenant(value: object) -> str:
    tenant = take_text(value)
    if tenant != EVERY_TENANT and not TENANT.match(tenant):
        raise ValueError(f'{quote(tenant)} must be "*", or 1 to 64 of A-Z a-z 0-9 _ . -')
    return tenant


def _parse_glob(value: object) -> str:
    pattern = take_text(value)
    if not _GLOB.match(pattern):
        raise ValueError(f"{quote(pattern)} must be 1 to 256 of A-Z a-z 0-9 _ . : / - and the wildcards * ? [ ]")
    opening = pattern.find("[")
    if opening < 0:
        return pattern
    # As fnmatch reads it: a bracket right after the opening one belongs to the set.
    while opening >= 0:
        closing = pattern.find("]", opening + 2)
        if closing < 0:
            raise ValueError(f"{quote(pattern)} has a [ without its ], and no event type contains one")
        opening = pattern.find("[", closing)
    try:
        re.compile(translate(pattern))
    except re.error:
        raise ValueError(f"{quote(pattern)} is not a pattern") from None
    return pattern


def parse_profile_name(value: object) -> str:
    """Return the name of a profile."""
    name = take_text(value)
    if not _PROFILE.match(name):
        raise ValueError(f"{quote(name)} must be 1 to 64 of A-Z a-z 0-9 _ . -")
    return name


IDENTITY_KEYS = (
    Key("url", "url", URL),
    Key("tenant", "tenant", Form(_parse_tenant, str)),
    Key("types", "types", list_of(Form(_parse_glob, str), most=MOST_TYPES)),
    Key("where", "where", WHERE),
    Key("profile", "profile", Form(parse_profile_name, str)),
    Key("description", "description", line(1024)),
)
ENDPOINT_KEYS = IDENTITY_KEYS + DELIVERY_KEYS
"""Everything an endpoint may say in the file and over the API alike."""

_RULE_FIELDS = frozenset(key.field for key in DELIVERY_KEYS)
_ENDPOINT_NAMES = frozenset(key.name for key in ENDPOINT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An endpoint as its owner wrote it, in the file (`declared`) or over the API, with what stands elsewhere at hand.

    `secret_refused` says that one was given and drew a complaint, so that its absence needs no other.
    """

    id: EndpointId
    table: Mapping[str, object]
    secret: str | None
    sample: bytes | None
    declared: bool
    credentials: Credentials
    url_is_secret: bool
    secret_refused: bool = False
    make_secret: SecretMaker | None = None

    @property
    def where(self) -> Where:
        """Where the table stands: in the file under its id, over the API it is the whole body."""
        return ("endpoints", self.id) if self.declared else ()

    @property
    def also(self) -> frozenset[str]:
        """Names that may stand in the table and whose values are here already."""
        return (FILE_ONLY_NAMES if self.declared else API_ONLY_NAMES) | {"secret", "basic_auth"}


class Schema:
    """Turns the keys of API-made endpoints into definitions, by the profiles and defaults of `settings`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def resolve(
        self,
        endpoint_id: EndpointId,
        given: Mapping[str, object],
        *,
        secret: str | None,
        sample: bytes | None,
        make_secret: SecretMaker | None = None,
    ) -> EndpointDefinition:
        """Return the definition. Raises InvalidRequestError (`invalid_endpoint`) with a Fault for every wrong field.

        Of `given`, the keys `id`, `secret` and `sample` are passed over: their values are the arguments. Without a
        secret, `make_secret` is asked for one.
        """
        report = Report()
        keys = {name: value for name, value in given.items() if name not in FILE_ONLY_NAMES}
        for name in sorted(FILE_ONLY_NAMES & given.keys()):
            instead = "" if name in TLS_NAMES else f"; over the API give {name.partition('_')[0]} itself"
            report.complain((name,), f"is for the configuration file only{instead}")
        if not is_endpoint_id(endpoint_id):
            report.complain(("id",), _ID_RULE)
        checked = None if secret is None else _checked_secret(secret, report)
        written = Written(
            id=endpoint_id,
            table=keys,
            secret=checked,
            sample=sample,
            declared=False,
            credentials=read_credentials(keys, (), None, report),
            url_is_secret="url_secret" in keys and bool(read_value(FLAG, keys["url_secret"], ("url_secret",), report)),
            secret_refused=checked is None and secret is not None,
            make_secret=make_secret,
        )
        definition = build_endpoint(self._settings, written, report)
        if report.complaints or definition is None:
            faults = tuple(fault(where, text) for where, text in report.complaints)
            detail = "; ".join(f"{found.pointer}: {found.detail}" for found in faults[:3])
            more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise InvalidRequestError("invalid_endpoint", detail + more, faults=faults)
        return definition


def _checked_secret(secret: str, report: Report) -> str | None:
    try:
        if not SECRET.parse(secret):
            raise ValueError("the secret is empty")  # noqa: TRY301 - every refusal leaves by the same door
    except ValueError as error:
        report.complain(("secret",), str(error))
        return None
    return secret


def read_endpoints(
    settings: Settings, tables: Mapping[str, object], sources: SecretSources, report: Report
) -> dict[EndpointId, EndpointDefinition]:
    """Return the endpoints declared in the file, by the profiles and defaults in `settings`."""
    endpoints: dict[EndpointId, EndpointDefinition] = {}
    for name, value in tables.items():
        where = ("endpoints", name)
        if not is_endpoint_id(name):
            report.complain(where, _ID_RULE)
        if not isinstance(value, Mapping):
            report.complain(where, f"must be a table: [endpoints.{name}]")
            continue
        before = report.found
        table = with_secrets(value, where, sources, report)
        refused = report.found > before
        secret = sources.read(value, where, report)
        written = Written(
            id=EndpointId(name),
            table=table,
            secret=secret,
            sample=_read_sample(value, where, sources, report),
            declared=True,
            credentials=read_credentials(value, where, sources, report),
            url_is_secret=not URL_SOURCE_NAMES.isdisjoint(value),
            secret_refused=refused or (secret is None and not SECRET_NAMES.isdisjoint(value)),
        )
        definition = build_endpoint(settings, written, report)
        if definition is not None and report.found == before:
            endpoints[definition.id] = definition
    return endpoints


def _read_sample(table: Mapping[str, object], where: Where, sources: SecretSources, report: Report) -> bytes | None:
    if "sample_file" not in table:
        return None
    try:
        path = sources.base / parse_path(table["sample_file"])
        return read_regular_file(path, most_bytes=MOST_SAMPLE_BYTES)[0]
    except ValueError as error:
        report.complain((*where, "sample_file"), str(error))
        return None


def build_endpoint(settings: Settings, written: Written, report: Report) -> EndpointDefinition | None:
    """Return the definition that `written` makes over its profile and the defaults, None without a usable URL.

    Rules are taken from the endpoint, then its profile, then [delivery].
    """
    where = written.where
    fields = read_table(ENDPOINT_KEYS, written.table, where, report, also=written.also)
    if "signatures" in written.table:
        # Where they drew a complaint, it would mislead to judge the rest by those of the profile.
        fields.setdefault("signatures", ())
    rules = _resolve_rules(settings, fields, where, report)
    if written.secret is None and not written.secret_refused and written.make_secret is not None:
        written = replace(written, secret=written.make_secret(rules.signatures))
    _check_secret(written, rules, report)
    _check_authorization(written, rules, report)
    _check_sample(written, rules, report)
    credentials = written.credentials
    url = fields.get("url") if credentials.url is None else credentials.url
    if url is None:
        if "url" not in written.table and credentials.url_source == "url":
            report.complain((*where, "url"), "is missing")
        return None
    check_target(settings, url, (*where, credentials.url_source), report)
    if credentials.tls is not None and target_of(url).scheme != "https":
        given = next(name for name in TLS_NAMES if getattr(credentials.tls, name) is not None)
        report.complain((*where, given), "is for https:// only, and the URL begins with http://")
    return EndpointDefinition(
        id=written.id,
        url=url,
        url_is_secret=written.url_is_secret,
        basic_auth=credentials.basic_auth,
        tls=credentials.tls,
        tenant=fields.get("tenant", DEFAULT_TENANT),
        types=fields.get("types", ()),
        where=fields.get("where", EVERYTHING),
        profile=fields.get("profile"),
        secret=written.secret,
        sample=written.sample,
        description=fields.get("description", ""),
        rules=rules,
        given=_given(written),
        declared=written.declared,
    )


def _given(written: Written) -> dict[str, object]:
    given = {name: value for name, value in written.table.items() if name in _ENDPOINT_NAMES}
    if written.declared and "signatures" in given:
        given["signatures"] = without_secrets(given["signatures"])
    return given


def _resolve_rules(settings: Settings, fields: Mapping[str, Any], where: Where, report: Report) -> DeliveryRules:
    below = settings.delivery
    profile = fields.get("profile")
    if profile is not None:
        if profile in settings.profiles:
            below = settings.profiles[profile]
        else:
            report.complain_unknown((*where, "profile"), profile, settings.profiles.keys(), what="profile")
    rules = replace(below, **{name: value for name, value in fields.items() if name in _RULE_FIELDS})
    check_headers(rules, at=(*where, "headers" if "headers" in fields else "signatures"), report=report)
    return rules


def _check_secret(written: Written, rules: DeliveryRules, report: Report) -> None:
    where, secret = written.where, written.secret
    source = next((name for name in sorted(SECRET_NAMES) if name in written.table), "secret")
    check_endpoint_secret(
        rules, secret, refused=written.secret_refused, name=written.id, where=where, source=source, report=report
    )
    if secret is None:
        return
    for name, value in rules.headers:
        try:
            if "{secret}" in value:
                check_header(name, value, secret=secret)
        except ValueError as error:
            report.complain((*where, source), f"the secret cannot stand in the header {name}: its value {error}")


def _check_sample(written: Written, rules: DeliveryRules, report: Report) -> None:
    if rules.body is not Body.ENVELOPE or written.sample is None:
        return
    try:
        json.loads(written.sample.decode(), parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        name = "sample_file" if written.declared else "sample"
        report.complain((*written.where, name), "must be JSON to stand in an envelope (body)")


def _check_authorization(written: Written, rules: DeliveryRules, report: Report) -> None:
    at = (*written.where, "basic_auth")
    if "basic_auth" not in written.table:
        return
    if any(name.lower() == "authorization" for name, _ in rules.headers):
        report.complain(at, "writes Authorization, and so do the configured headers: leave one out")
    if "authorization" in written_names(rules.signatures):
        report.complain(at, "writes Authorization, and so does a signature: leave one out")
