"""Who may come in: the roles of listeners and tokens, and the checks that keep web pages away from a local daemon."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from webhookd.api.problems import Problem, ProblemError, malformed, refuse
from webhookd.core.settings import Listen, Role, TcpAddress, Token

Grant = frozenset[Role]
"""The needs a caller may have met; empty for somebody of whom nothing is known."""

NOBODY: Grant = frozenset()

_HOST_SYNTAX = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?\Z")
_REMEMBERED_HOSTS = 64


def grant_of(role: Role) -> Grant:
    """Return everything `role` may do."""
    return frozenset(needed for needed in Role if role.allows(needed))


class Tokens:
    """The bearer tokens in force; only their hashes are kept."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._grants = [(_digest(token.secret.encode()), grant_of(token.role)) for token in tokens]

    def grant(self, authorization: bytes) -> Grant | None:
        """Return what the holder of this Authorization value may do, None where it is no token of ours.

        Every hash is compared, each in constant time, so that the answer's timing tells nothing.
        """
        scheme, _, secret = authorization.partition(b" ")
        presented = _digest(secret.strip())
        found: Grant | None = None
        for known, grant in self._grants:
            if hmac.compare_digest(known, presented):
                found = grant if found is None else found | grant
        return found if scheme.lower() == b"bearer" else None


def require(grant: Grant, needed: Role | None) -> None:
    """Let a caller with `grant` through to what needs `needed` (None: anybody), or raise 401 or 403."""
    if needed is None or needed in grant:
        return
    if not grant:
        raise _unauthorized("this needs a bearer token")
    raise refuse("forbidden", 403, f"this needs the role {needed.value}")


class Gate:
    """One listener's way in: its role, and on TCP the names it answers to."""

    def __init__(self, listen: Listen, sock: socket.socket, tokens: Tokens) -> None:
        self.tokens = tokens
        self._granted = grant_of(listen.role)
        self._on_tcp = sock.family in {socket.AF_INET, socket.AF_INET6}
        self._trusted = not self._on_tcp or _is_loopback(sock.getsockname()[0])
        self._names = {"localhost"} | {name.lower().strip("[]") for name in listen.hosts}
        if self._on_tcp:
            self._names.add(_plain(sock.getsockname()[0]))
            if isinstance(listen.address, TcpAddress):
                self._names.add(listen.address.host.lower())
        self._remembered: set[bytes] = set()

    def check_site(self, fields: dict[bytes, bytes], local_address: str | None) -> None:
        """Refuse names we do not answer to, and requests a web page of another site has caused.

        A literal of the very address the connection came in on is as good as a name of ours: rebinding needs a name.
        """
        host = fields.get(b"host", b"")
        if host not in self._remembered:
            self._check_host(host, local_address)
        if not self._on_tcp:
            return
        fetch_site = fields.get(b"sec-fetch-site")
        if fetch_site is not None and fetch_site.lower() not in {b"none", b"same-origin"}:
            raise refuse("origin_refused", 403, "a web page of another site may not use this daemon")
        origin = fields.get(b"origin")
        if origin is not None and origin.lower().partition(b"://")[2] != host.lower():
            raise refuse("origin_refused", 403, "a web page of another site may not use this daemon")

    def knows(self, host: bytes) -> bool:
        """Say whether requests for `host` are let in on every connection."""
        return host in self._remembered

    def grant(self, authorization: bytes | None) -> Grant:
        """Return what the caller may do: the wider of what listener and token give. Raises 401 for an unknown token."""
        if authorization is None:
            return self._granted if self._trusted else NOBODY
        given = self.tokens.grant(authorization)
        if given is None:
            raise _unauthorized("the token is not known")
        return given | self._granted

    def _check_host(self, host: bytes, local_address: str | None) -> None:
        match = _HOST_SYNTAX.match(host)
        if match is None:
            raise malformed("the Host header is not a host name or address")
        if self._on_tcp:
            name = match.group(1).decode("ascii").lower().strip("[]").removesuffix(".")
            local = None if local_address is None else _plain(local_address)
            if name not in self._names and name != local and not _is_loopback(name):
                raise refuse("host_refused", 403, "the Host header names neither this machine nor a name in `hosts`")
        if len(self._remembered) < _REMEMBERED_HOSTS:
            self._remembered.add(host)


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(
        Problem(slug="unauthorized", status=401, detail=detail, headers=(("WWW-Authenticate", "Bearer"),))
    )


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _plain(address: str) -> str:
    """Strip an IPv6 zone, and undress an IPv4 address that came in on an IPv6 socket."""
    literal = address.partition("%")[0].lower()
    try:
        parsed = ip_address(literal)
    except ValueError:
        return literal
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(_plain(name)).is_loopback
    except ValueError:
        return False
