"""Where the daemon listens and who may speak there: the [[listen]] and [[token]] tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from webhookd.config.forms import Form, list_of, parse_path, quote, take_text, word
from webhookd.config.secret_sources import SECRET_NAMES, SecretSources
from webhookd.config.tables import Key, Report, as_tables, dotted, read_table
from webhookd.core.settings import ActivatedAddress, Listen, ListenAddress, Role, TcpAddress, Token, UnixAddress

MOST_LISTENERS = 64
MOST_TOKENS = 1000
MOST_HOSTS = 100
MOST_SOCKET_PATH_BYTES = 107
"""What the kernel takes in `sun_path`, less the closing zero (unix(7))."""
SHORT_TOKEN_CHARACTERS = 16

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63}){0,16}\.?\Z")
_DIGITS = re.compile(r"\d{1,5}\Z", re.ASCII)
# FileDescriptorName= allows any ASCII but control characters and the colon that separates names (systemd.socket(5)).
_ACTIVATION_NAME = re.compile(r"[ -9;-~]{1,255}\Z")
_TOKEN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_TOKEN_SECRET = re.compile(r"[!-~]{1,1024}\Z")


def _parse_address(value: object) -> ListenAddress:
    text = take_text(value)
    kind, _, rest = text.partition(":")
    match kind:
        case "unix":
            return _parse_unix(rest)
        case "tcp":
            return _parse_tcp(rest)
        case "systemd":
            if not _ACTIVATION_NAME.match(rest):
                raise ValueError(f"{quote(text)} needs the FileDescriptorName= of a socket unit after systemd:")
            return ActivatedAddress(rest)
        case _:
            raise ValueError(f"{quote(text)} must begin with unix:, tcp: or systemd:")


def _parse_unix(path: str) -> UnixAddress:
    # Anyone on the machine can connect to an abstract name, since it has no mode and no owner.
    if path.startswith("@"):
        raise ValueError("abstract socket names have no permissions: write the path of a file")
    return UnixAddress(parse_path(path))


def _parse_tcp(text: str) -> TcpAddress:
    host, colon, port = text.rpartition(":")
    if not colon or not _DIGITS.match(port) or int(port) > 65_535:
        raise ValueError(f"{quote('tcp:' + text)} needs a port from 0 to 65535: tcp:HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(f"{quote(host)} is not an IPv6 address in brackets") from None
        return TcpAddress(str(address), int(port))
    if ":" in host:
        raise ValueError(f"{quote(host)}: write an IPv6 address in brackets, such as tcp:[::1]:{port}")
    if host in {"", "*"}:
        raise ValueError(f"needs a host; every address of this machine is tcp:0.0.0.0:{port} or tcp:[::]:{port}")
    if not _NAME.match(host) or _looks_numeric(host):
        raise ValueError(f"{quote(host)} is neither an address nor a host name")
    return TcpAddress(host.lower(), int(port))


def _looks_numeric(host: str) -> bool:
    # The resolver takes 127.1, 0x7f.1 and 2130706433 for addresses; a listener that means one says so in four parts.
    last = host.rstrip(".").rpartition(".")[2].lower()
    if not (last.isdigit() or re.match(r"0x[0-9a-f]*\Z", last)):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _parse_mode(value: object) -> int:
    if not isinstance(value, str) or not re.match(r"0?[0-7]{3}\Z", value, re.ASCII):
        raise ValueError('must be text with the permission bits in octal, such as "0660"')
    return int(value, 8)


def _parse_host(value: object) -> str:
    text = take_text(value)
    literal = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(literal))
    except ValueError:
        pass
    if not _NAME.match(text):
        raise ValueError(f"{quote(text)} is not a host name (without scheme and port)")
    return text.lower().rstrip(".")


def _parse_token_name(value: object) -> str:
    text = take_text(value)
    if not _TOKEN_NAME.match(text):
        raise ValueError("must be 1 to 64 of A-Z a-z 0-9 _ . -")
    return text


ROLE = word(Role)

LISTEN_KEYS = (
    Key("address", "address", Form(_parse_address, str)),
    Key("role", "role", ROLE),
    Key("mode", "mode", Form(_parse_mode, lambda mode: f"{mode:04o}")),
    Key("hosts", "hosts", list_of(Form(_parse_host, str), most=MOST_HOSTS)),
)

TOKEN_KEYS = (
    Key("name", "name", Form(_parse_token_name, str)),
    Key("role", "role", ROLE),
)


def read_listeners(value: object, base: Path, report: Report) -> tuple[Listen, ...]:
    """Return the listeners of the [[listen]] tables; relative socket paths are taken from `base`."""
    tables = as_tables(value, ("listen",), report, most=MOST_LISTENERS)
    if isinstance(value, list) and not value:
        report.complain(("listen",), "needs at least one entry")
    listeners: list[Listen] = []
    seen: dict[str, int] = {}
    for index, table in tables:
        listener = _read_listener(table, index, base, report)
        if listener is None:
            continue
        listeners.append(listener)
        address = listener.address
        # Port 0 asks the kernel for another port each time.
        if isinstance(address, TcpAddress) and address.port == 0:
            continue
        first = seen.setdefault(str(address), index)
        if first != index:
            report.complain(("listen", index, "address"), f"is the address of {dotted(('listen', first))} already")
    return tuple(listeners)


def _read_listener(table: Mapping[str, object], index: int, base: Path, report: Report) -> Listen | None:
    where = ("listen", index)
    fields = read_table(LISTEN_KEYS, table, where, report)
    address = fields.get("address")
    if address is None:
        if "address" not in table:
            report.complain((*where, "address"), "is missing: unix:PATH, tcp:HOST:PORT or systemd:NAME")
        return None
    if isinstance(address, UnixAddress):
        address = UnixAddress(base / address.path, fields.get("mode", address.mode))
        if len(str(address.path).encode()) > MOST_SOCKET_PATH_BYTES:
            report.complain(
                (*where, "address"), f"the path is longer than the {MOST_SOCKET_PATH_BYTES} bytes of a socket"
            )
    elif "mode" in table:
        report.complain((*where, "mode"), "is for unix sockets only")
    if "hosts" in table and not isinstance(address, TcpAddress):
        report.complain((*where, "hosts"), "is for TCP listeners only")
    return Listen(address=address, role=fields.get("role", Listen().role), hosts=frozenset(fields.get("hosts", ())))


def read_tokens(value: object, secrets: SecretSources, report: Report) -> tuple[Token, ...]:
    """Return the tokens of the [[token]] tables; each needs a name, a role and a secret of its own."""
    tokens: list[Token] = []
    names: dict[str, int] = {}
    owners: dict[str, int] = {}
    for index, table in as_tables(value, ("token",), report, most=MOST_TOKENS):
        where = ("token", index)
        fields = read_table(TOKEN_KEYS, table, where, report, also=SECRET_NAMES)
        for name in ("name", "role"):
            if name not in table:
                report.complain((*where, name), "is missing")
        secret = secrets.read(table, where, report)
        if secret is not None:
            _check_token_secret(secret, index, owners, report)
        elif not SECRET_NAMES & table.keys():
            report.complain((*where, "secret"), f"is missing: one of {', '.join(sorted(SECRET_NAMES))}")
        if "name" in fields and names.setdefault(fields["name"], index) != index:
            report.complain((*where, "name"), f"is the name of {dotted(('token', names[fields['name']]))} already")
        if secret is not None and len(fields) == len(TOKEN_KEYS):
            tokens.append(Token(**fields, secret=secret))
    return tuple(tokens)


def _check_token_secret(secret: str, index: int, owners: dict[str, int], report: Report) -> None:
    where = ("token", index, "secret")
    if not _TOKEN_SECRET.match(secret):
        report.complain(where, "must be 1 to 1024 visible ASCII characters without spaces, as a bearer token travels")
    elif len(secret) < SHORT_TOKEN_CHARACTERS:
        report.warn(where, f"has fewer than {SHORT_TOKEN_CHARACTERS} characters and may be guessed")
    if owners.setdefault(secret, index) != index:
        report.complain(where, f"is the secret of {dotted(('token', owners[secret]))} already")


def is_loopback(address: TcpAddress) -> bool:
    """Say whether only this machine can reach `address`; a name other than localhost is taken to be public."""
    if address.host.rstrip(".") == "localhost":
        return True
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return False


def check_reach(listeners: tuple[Listen, ...], *, has_token: bool, report: Report) -> None:
    """Complain about each TCP listener that others can reach while there is no token at all."""
    if has_token:
        return
    for index, listener in enumerate(listeners):
        if isinstance(listener.address, TcpAddress) and not is_loopback(listener.address):
            report.complain(
                ("listen", index, "address"),
                f"{listener.address} can be reached from other machines: it needs at least one [[token]]",
            )
