"""What an endpoint is reached and known by besides its secret: a secret URL, Basic credentials, certificates."""

from __future__ import annotations

import hashlib
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from webhookd.config.forms import Form, Where, kind_of, line, parse_path
from webhookd.config.secret_sources import SecretSources, read_regular_file
from webhookd.config.tables import Key, Report, read_table, read_value
from webhookd.config.targets import URL
from webhookd.core.masking import MASK
from webhookd.core.settings import BasicAuth, TlsFiles

URL_SOURCE_NAMES = frozenset({"url_file", "url_credential"})
PASSWORD_SOURCE_NAMES = frozenset({"password_file", "password_credential"})
TLS_NAMES = ("ca_file", "client_cert_file", "client_key_file")
MOST_PEM_BYTES = 1024 * 1024

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = "PRIVATE KEY-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What was read for one endpoint; `url` is None where it stands in the table or drew a complaint.

    `url_source` is the key the URL comes from, as far as any was given.
    """

    url: str | None = None
    url_source: str = "url"
    basic_auth: BasicAuth | None = None
    tls: TlsFiles | None = None


def _parse_username(value: object) -> str:
    username = line(1024).parse(value)
    # The first colon ends the user name (RFC 7617 section 2).
    if ":" in username:
        raise ValueError("must not contain a colon: what follows it would be taken for the password")
    return username


def _parse_password(value: object) -> str:
    password = line(4096).parse(value)
    if password == MASK:
        raise ValueError("is how a password is shown: give the password itself")
    return password


USERNAME: Form[str] = Form(_parse_username, str, str)
PASSWORD: Form[str] = Form(_parse_password, str, str)
BASIC_AUTH_KEYS = (Key("username", "username", USERNAME),)


def read_credentials(
    table: Mapping[str, object], where: Where, sources: SecretSources | None, report: Report
) -> Credentials:
    """Return what `table` gives; without `sources` it came over the API, and nothing is read from files."""
    basic_auth = _read_basic_auth(table, where, sources, report) if "basic_auth" in table else None
    if sources is None:
        return Credentials(basic_auth=basic_auth)
    source = next((name for name in ("url_file", "url_credential") if name in table), None)
    return Credentials(
        url=None if source is None else sources.read(table, where, report, name="url", what="URL", form=URL),
        url_source=source or "url",
        basic_auth=basic_auth,
        tls=_read_tls(table, where, sources, report),
    )


def _read_basic_auth(
    table: Mapping[str, object], where: Where, sources: SecretSources | None, report: Report
) -> BasicAuth | None:
    value, where = table["basic_auth"], (*where, "basic_auth")
    if not isinstance(value, Mapping):
        report.complain(where, f"must be a table with username and password, not {kind_of(value)}")
        return None
    before = report.found
    fields = read_table(BASIC_AUTH_KEYS, value, where, report, also=PASSWORD_SOURCE_NAMES | {"password"})
    if "username" not in value:
        report.complain(where, "needs a username")
    given = sorted((PASSWORD_SOURCE_NAMES | {"password"}) & value.keys())
    if not given:
        more = "" if sources is None else ", or a password_file, or a password_credential"
        report.complain(where, f"needs a password{more}; an empty one is written as such")
    password: str | None = None
    if given == ["password"]:
        # Unlike one in a file, an empty password that stands here was meant: some receivers take a key as the user.
        password = read_value(PASSWORD, value["password"], (*where, "password"), report)
    elif sources is not None:
        password = sources.read(value, where, report, name="password", what="password", form=PASSWORD)
    else:
        for name in sorted(PASSWORD_SOURCE_NAMES & value.keys()):
            report.complain((*where, name), "is for the configuration file only; over the API give password itself")
    if password is None or report.found > before:
        return None
    return BasicAuth(username=fields["username"], password=password)


def _read_tls(table: Mapping[str, object], where: Where, sources: SecretSources, report: Report) -> TlsFiles | None:
    given = [name for name in TLS_NAMES if table.get(name, "") != ""]
    if not given:
        return None
    before = report.found
    paths: dict[str, Path] = {}
    contents: dict[str, str] = {}
    digest = hashlib.sha256()
    for name in given:
        try:
            paths[name] = sources.base / parse_path(table[name])
            content, mode = read_regular_file(paths[name], most_bytes=MOST_PEM_BYTES)
            contents[name] = content.decode("ascii", "replace")
            digest.update(hashlib.sha256(content).digest())
            _check_kind(name, paths[name], contents[name])
            if mode & stat.S_IROTH and _PRIVATE_KEY in contents[name]:
                report.warn((*where, name), f"{paths[name]} can be read by everyone on this machine; chmod o-r")
        except ValueError as error:
            report.complain((*where, name), str(error))
    if "client_key_file" in given and "client_cert_file" not in given:
        report.complain((*where, "client_key_file"), "belongs to a client_cert_file, and there is none")
    if report.found > before:
        return None
    files = TlsFiles(**paths, fingerprint=digest.hexdigest())
    name = "ca_file"
    try:
        if name in contents:
            _load_authorities(files, contents[name])
        name = "client_key_file" if "client_key_file" in given else "client_cert_file"
        if files.client_cert_file is not None:
            _load_identity(files.client_cert_file, files.client_key_file)
    except ValueError as error:
        report.complain((*where, name), str(error))
        return None
    return files


def _check_kind(name: str, path: Path, content: str) -> None:
    wanted = (_PRIVATE_KEY, "private key") if name == "client_key_file" else (_CERTIFICATE, "certificate")
    if wanted[0] not in content:
        raise ValueError(f"{path} holds no {wanted[1]} in PEM form (a line that ends with {wanted[0]})")


def _load_authorities(files: TlsFiles, content: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content)
    except ssl.SSLError as error:
        raise ValueError(f"{files.ca_file} is not a list of certificates in PEM form: {_reason(error)}") from None


def _load_identity(certificate: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=_refuse_encrypted)
    except ssl.SSLError as error:
        raise ValueError(f"{key or certificate} is no private key for {certificate}: {_reason(error)}") from None
    except OSError as error:
        raise ValueError(f"{key or certificate} cannot be read: {error.strerror}") from None


def _refuse_encrypted() -> NoReturn:
    # Without this, OpenSSL would ask for a password on the terminal.
    raise ValueError("the private key is encrypted, and there is nobody to ask for its password: store it decrypted")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "it cannot be parsed").replace("_", " ").lower()
