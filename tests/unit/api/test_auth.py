"""Roles, tokens and the checks against web pages, as tables."""

from __future__ import annotations

import socket

import pytest

from webhookd.api.auth import NOBODY, Gate, Tokens, grant_of, require
from webhookd.api.problems import ProblemError
from webhookd.core.settings import Listen, Role, TcpAddress, Token, UnixAddress
from webhookd.errors import InvalidRequestError

TOKENS = Tokens(
    [
        Token(name="in", role=Role.INGEST, secret="in-secret"),
        Token(name="look", role=Role.READ, secret="look-secret"),
        Token(name="all", role=Role.OPERATE, secret="all-secret"),
    ]
)
EVERYTHING = frozenset(Role)


class Bound:
    """A socket as far as a gate looks at it."""

    def __init__(self, family: int, name: object) -> None:
        self.family = family
        self._name = name

    def getsockname(self) -> object:
        return self._name


LOOPBACK = Bound(socket.AF_INET, ("127.0.0.1", 8470))
LOOPBACK_6 = Bound(socket.AF_INET6, ("::1", 8470, 0, 0))
OUTSIDE = Bound(socket.AF_INET, ("192.0.2.7", 8470))
ANYWHERE = Bound(socket.AF_INET6, ("::", 8470, 0, 0))
UNIX = Bound(socket.AF_UNIX, "/run/x.sock")


def gate(bound: Bound, role: Role = Role.INGEST, hosts: frozenset[str] = frozenset()) -> Gate:
    return Gate(Listen(role=role, hosts=hosts), bound, TOKENS)  # type: ignore[arg-type]


def status_of(action) -> int:
    try:
        action()
    except ProblemError as error:
        return error.problem.status
    except InvalidRequestError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("bound", "listener", "token", "granted"),
    [
        (UNIX, Role.INGEST, None, {Role.INGEST}),
        (UNIX, Role.READ, None, {Role.READ}),
        (UNIX, Role.OPERATE, None, EVERYTHING),
        (LOOPBACK, Role.INGEST, None, {Role.INGEST}),
        (LOOPBACK_6, Role.INGEST, None, {Role.INGEST}),
        (OUTSIDE, Role.OPERATE, None, NOBODY),
        (ANYWHERE, Role.OPERATE, None, NOBODY),
        (LOOPBACK, Role.INGEST, "look-secret", {Role.INGEST, Role.READ}),
        (LOOPBACK, Role.OPERATE, "in-secret", EVERYTHING),
        (LOOPBACK, Role.READ, "all-secret", EVERYTHING),
        (OUTSIDE, Role.INGEST, "look-secret", {Role.INGEST, Role.READ}),
        (OUTSIDE, Role.OPERATE, "in-secret", EVERYTHING),
        (OUTSIDE, Role.INGEST, "in-secret", {Role.INGEST}),
    ],
)
def test_the_wider_of_listener_and_token_counts(bound, listener, token, granted):
    header = None if token is None else f"Bearer {token}".encode()
    assert gate(bound, listener).grant(header) == granted


@pytest.mark.parametrize(
    "header", [b"Bearer nope", b"Bearer ", b"", b"in-secret", b"Basic in-secret", b"Bearer in-secre"]
)
@pytest.mark.parametrize("bound", [UNIX, LOOPBACK, OUTSIDE])
def test_a_token_that_is_not_known_is_401_everywhere(header, bound):
    with pytest.raises(ProblemError) as caught:
        gate(bound, Role.OPERATE).grant(header)
    assert caught.value.problem.status == 401
    assert ("WWW-Authenticate", "Bearer") in caught.value.problem.headers


def test_the_scheme_is_read_in_any_case():
    assert TOKENS.grant(b"bearer  in-secret ") == {Role.INGEST}


@pytest.mark.parametrize(
    ("grant", "needed", "status"),
    [
        (NOBODY, None, 200),
        (NOBODY, Role.INGEST, 401),
        (NOBODY, Role.READ, 401),
        (grant_of(Role.INGEST), Role.INGEST, 200),
        (grant_of(Role.INGEST), Role.READ, 403),
        (grant_of(Role.READ), Role.INGEST, 403),
        (grant_of(Role.READ), Role.OPERATE, 403),
        (grant_of(Role.OPERATE), Role.INGEST, 200),
        (grant_of(Role.OPERATE), Role.READ, 200),
        (grant_of(Role.OPERATE), Role.OPERATE, 200),
    ],
)
def test_who_gets_through(grant, needed, status):
    assert status_of(lambda: require(grant, needed)) == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LocalHost:8470", 200),
        (b"localhost.", 200),
        (b"localhost:1", 200),
        (b"127.0.0.1:8470", 200),
        (b"127.9.9.9", 200),
        (b"[::1]:8470", 200),
        (b"[::ffff:127.0.0.1]", 200),
        (b"hooks.internal", 200),
        (b"HOOKS.internal:99", 200),
        (b"10.0.0.5", 403),
        (b"evil.example", 403),
        (b"localhost.evil.example", 403),
        (b"127.0.0.1.evil.example", 403),
        (b"", 403),
        (b"2130706433", 403),
        (b"local host", 400),
        (b"localhost:http", 400),
        (b"localhost/..", 400),
        (b"a@localhost", 400),
        (b"localhost, localhost", 400),
        (b"\xff", 400),
    ],
)
def test_names_on_tcp(host, status):
    checked = gate(LOOPBACK, hosts=frozenset({"Hooks.Internal"}))
    for _ in range(2):
        assert status_of(lambda: checked.check_site({b"host": host}, "127.0.0.1")) == status


def test_the_bound_address_is_a_name_of_ours():
    assert status_of(lambda: gate(OUTSIDE).check_site({b"host": b"192.0.2.7:8470"}, "192.0.2.7")) == 200


def test_the_host_of_the_listen_table_is_a_name_of_ours():
    listening = Gate(Listen(address=TcpAddress("box.lan", 80)), OUTSIDE, TOKENS)  # type: ignore[arg-type]
    assert status_of(lambda: listening.check_site({b"host": b"box.lan"}, "192.0.2.7")) == 200


def test_on_a_wildcard_the_address_the_connection_came_in_on_is_a_name_of_ours():
    anywhere = gate(ANYWHERE)
    assert status_of(lambda: anywhere.check_site({b"host": b"198.51.100.3"}, "::ffff:198.51.100.3")) == 200
    assert status_of(lambda: anywhere.check_site({b"host": b"198.51.100.4"}, "::ffff:198.51.100.3")) == 403


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({b"origin": b"http://localhost:8470"}, 200),
        ({b"origin": b"https://localhost:8470"}, 200),
        ({b"origin": b"http://localhost:3000"}, 403),
        ({b"origin": b"http://localhost"}, 403),
        ({b"origin": b"https://evil.example"}, 403),
        ({b"origin": b"null"}, 403),
        ({b"origin": b""}, 403),
        ({b"sec-fetch-site": b"none"}, 200),
        ({b"sec-fetch-site": b"same-origin"}, 200),
        ({b"sec-fetch-site": b"same-site"}, 403),
        ({b"sec-fetch-site": b"cross-site"}, 403),
        ({b"sec-fetch-site": b"none", b"origin": b"https://evil.example"}, 403),
    ],
)
def test_web_pages_of_other_sites_are_kept_out_on_tcp(fields, status):
    fields = {b"host": b"localhost:8470"} | fields
    assert status_of(lambda: gate(LOOPBACK).check_site(fields, "127.0.0.1")) == status
    assert status_of(lambda: gate(UNIX).check_site(fields, None)) == 200


@pytest.mark.parametrize(("host", "status"), [(b"", 200), (b"anything.example", 200), (b"a b", 400)])
def test_any_name_will_do_on_a_unix_socket(host, status):
    assert status_of(lambda: gate(UNIX).check_site({b"host": host}, None)) == status


def test_a_unix_listener_needs_no_address():
    assert Gate(Listen(address=UnixAddress("x")), UNIX, TOKENS).grant(None) == EVERYTHING  # type: ignore[arg-type]
