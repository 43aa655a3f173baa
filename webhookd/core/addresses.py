"""What may be dialled: the syntax of an endpoint's URL, and the table of addresses where no public receiver can be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from webhookd.core.settings import Network

Address = IPv4Address | IPv6Address

MAX_URL_CHARACTERS = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}

_DENIED_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host (0.0.0.0/8)"),
        ("10.0.0.0/8", "private (10.0.0.0/8)"),
        ("100.64.0.0/10", "carrier-grade NAT (100.64.0.0/10)"),
        ("127.0.0.0/8", "loopback (127.0.0.0/8)"),
        ("168.63.129.16/32", "a cloud provider's host agent"),
        ("169.254.0.0/16", "link-local (169.254.0.0/16)"),
        ("172.16.0.0/12", "private (172.16.0.0/12)"),
        ("192.0.0.0/24", "reserved (192.0.0.0/24)"),
        ("192.0.2.0/24", "documentation (192.0.2.0/24)"),
        ("192.88.99.0/24", "a 6to4 relay (192.88.99.0/24)"),
        ("192.168.0.0/16", "private (192.168.0.0/16)"),
        ("198.18.0.0/15", "benchmarking (198.18.0.0/15)"),
        ("198.51.100.0/24", "documentation (198.51.100.0/24)"),
        ("203.0.113.0/24", "documentation (203.0.113.0/24)"),
        ("224.0.0.0/4", "multicast (224.0.0.0/4)"),
        ("240.0.0.0/4", "reserved (240.0.0.0/4)"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_DENIED_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("2001::/23", "reserved (2001::/23)"),
        ("2001:db8::/32", "documentation (2001:db8::/32)"),
        ("2002::/16", "6to4 (2002::/16)"),
        ("3fff::/20", "documentation (3fff::/20)"),
    )
)
# Where clouds hand credentials to whoever asks, so that a wide range in `network.allow` does not open it: link-local,
# the host agents and metadata services of those that use another address, and AWS's own part of fc00::/7.
_KEPT_SHUT: tuple[Network, ...] = (
    IPv4Network("169.254.0.0/16"),
    IPv4Network("100.100.100.200/32"),
    IPv4Network("168.63.129.16/32"),
    IPv4Network("192.0.0.192/32"),
    IPv6Network("fe80::/10"),
    IPv6Network("fd00:ec2::/32"),
    IPv6Network("fd20:ce::254/128"),
)
# Prefixes that translate or tunnel to the IPv4 address in them, with how far from the right its bits begin: NAT64,
# IPv4-compatible, IPv4-translated, 6to4.
_EMBEDDING: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<rest>.*)\Z")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_MAX_HOST_CHARACTERS = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint's URL taken apart.

    `host` is lower case, an IDNA A-label or a literal address without brackets; `path` is path and query in ASCII,
    starting with a slash; `literal` is the address where the host is one.
    """

    scheme: str
    host: str
    port: int
    path: str
    literal: Address | None

    @property
    def authority(self) -> str:
        """Return the host as a `Host` header carries it, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Return the URL taken apart, or raise ValueError with a sentence that says what is wrong with it.

    Nothing is said about where a name leads: only the addresses it resolves to are judged, when it is dialled.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    if any(character <= " " or "\x7f" <= character <= "\xa0" for character in url):
        raise ValueError("must not contain spaces or control characters")
    if "\\" in url:
        raise ValueError("must not contain a backslash")
    if "#" in url:
        raise ValueError("must not have a fragment (#)")
    parts = _URL.match(url)
    if parts is None:
        raise ValueError("must look like https://host/path")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise ValueError("must start with https:// or http://")
    if "@" in parts["authority"]:
        raise ValueError("must not contain a user name or password: give them as basic_auth")
    host, literal, port = _parse_authority(parts["authority"])
    rest = parts["rest"]
    return Target(
        scheme=scheme,
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else port,
        path=_ascii_path(rest if rest.startswith("/") else f"/{rest}"),
        literal=literal,
    )


def judge(address: Address, allow: Iterable[Network]) -> str | None:
    """Return None when `address` may be dialled, else what it is, as in "link-local (169.254.0.0/16)".

    `allow` opens what the table denies; link-local and what else hands out a cloud's credentials only open to a range
    that lies within them.
    """
    address = unwrap(address)
    denied = _denied(address)
    if denied is None or is_listed(address, allow):
        return None
    return denied


def is_listed(address: Address, allow: Iterable[Network]) -> bool:
    """Say whether a range in `allow` covers the address, by the rule for link-local that `judge` follows."""
    address = unwrap(address)
    home = _home(address)
    return any(address in network and (home is None or _lies_within(network, home)) for network in allow)


def unwrap(address: Address) -> Address:
    """Return the IPv4 address inside an IPv4-mapped IPv6 one, and any other address as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _home(address: Address) -> Network | None:
    """Return the range within which a range in `allow` must lie to open the address, None where any opens it."""
    home = next((network for network in _KEPT_SHUT if address in network), None)
    if home is None and any(inner in network for inner in _embedded(address) for network in _KEPT_SHUT):
        return IPv6Network(int(address))
    return home


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """Yield each IPv4 address that the IPv6 one may be translated or tunnelled to."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    for network, shift in _EMBEDDING:
        if address in network:
            yield IPv4Address(number >> shift & 0xFFFF_FFFF)
    if address in _LOCAL_NAT64:
        # Whoever runs it chooses the length of the prefix, 96, 64, 56 or 48, and with it where the address stands; in
        # the shorter ones around eight bits of zeros (RFC 6052, section 2.2).
        yield IPv4Address(number & 0xFFFF_FFFF)
        yield IPv4Address(number >> 24 & 0xFFFF_FFFF)
        yield IPv4Address((number >> 64 & 0xFF) << 24 | number >> 32 & 0xFF_FFFF)
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)


def _denied(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((what for network, what in _DENIED_V4 if address in network), None)
    if address not in _GLOBAL_V6:
        return _what_v6(address)
    return next((what for network, what in _DENIED_V6 if address in network), None)


def _what_v6(address: IPv6Address) -> str:
    if address.is_loopback:
        return "loopback (::1)"
    if address in IPv6Network("fe80::/10"):
        return "link-local (fe80::/10)"
    if address in IPv6Network("fc00::/7"):
        return "private (fc00::/7)"
    if address in IPv6Network("ff00::/8"):
        return "multicast (ff00::/8)"
    return "outside the public range (2000::/3)"


def _lies_within(network: Network, home: Network) -> bool:
    return network.version == home.version and network.prefixlen >= home.prefixlen and network.network_address in home


def _parse_authority(authority: str) -> tuple[str, Address | None, int | None]:
    parts = _AUTHORITY.match(authority)
    if parts is None:
        raise ValueError("has a host that is neither a name nor an address (an IPv6 address needs brackets)")
    if "%" in authority:
        raise ValueError("must not have a percent sign in its host")
    port = None
    if parts["port"] is not None:
        port = int(parts["port"]) if _PORT.match(parts["port"]) else 0
        if not 1 <= port <= 65535:
            raise ValueError("has a port that is not between 1 and 65535")
    if parts["v6"] is not None:
        try:
            v6 = IPv6Address(parts["v6"])
        except ValueError:
            raise ValueError("has no valid IPv6 address between its brackets") from None
        return str(v6), v6, port
    host = _ascii_host(parts["name"])
    try:
        literal = ip_address(host)
    except ValueError:
        return host, None, port
    return host, literal, port


def _ascii_host(name: str) -> str:
    if not name:
        raise ValueError("has no host")
    try:
        host = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("has a host name that cannot be encoded (IDNA)") from None
    labels = host.removesuffix(".").split(".")
    if len(host) > _MAX_HOST_CHARACTERS or not all(_LABEL.match(label) for label in labels):
        raise ValueError("has a host name that is not valid")
    return host


def _ascii_path(path: str) -> str:
    if path.isascii():
        return path
    try:
        return "".join(
            character if character.isascii() else "".join(f"%{byte:02X}" for byte in character.encode())
            for character in path
        )
    except UnicodeEncodeError:
        raise ValueError("contains characters that cannot be encoded as UTF-8") from None
