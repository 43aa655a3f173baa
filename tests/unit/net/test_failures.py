"""The classes of failure: what is the receiver's fault, and what is ours."""

import errno
import socket
import ssl

import pytest

from webhookd.core.attempt import ErrorClass
from webhookd.net.failures import dial_failure, lookup_failure, lost_failure, tls_failure


@pytest.mark.parametrize(
    "number",
    [
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EPERM,
        errno.EACCES,
    ],
)
def test_our_own_limits_and_routes_are_local(number):
    assert dial_failure(OSError(number, "whatever"), "192.0.2.1:443").kind is ErrorClass.LOCAL


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_what_the_other_side_does_is_a_connect_error(number):
    failure = dial_failure(OSError(number, "whatever"), "192.0.2.1:443")
    assert failure.kind is ErrorClass.CONNECT
    assert failure.text.startswith("connecting to 192.0.2.1:443: ")


@pytest.mark.parametrize(
    ("failure", "no_way"),
    [
        (dial_failure(OSError(errno.EHOSTUNREACH, "x"), "192.0.2.1:443"), True),
        (dial_failure(OSError(errno.ECONNREFUSED, "x"), "192.0.2.1:443"), None),
        (lookup_failure(socket.gaierror(socket.EAI_AGAIN, "x"), "a.example"), True),
        (lookup_failure(socket.gaierror(socket.EAI_NONAME, "x"), "a.example"), None),
        (lost_failure(OSError(errno.ETIMEDOUT, "x")), True),
        (lost_failure(OSError(errno.ECONNRESET, "x")), None),
        (tls_failure(OSError(errno.EHOSTUNREACH, "x")), True),
    ],
)
def test_where_it_may_be_our_own_network_is_said_so(failure, no_way):
    assert failure.no_way is no_way


def test_the_words_are_those_of_the_system_on_either_loop():
    ours = dial_failure(OSError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 443)"), "192.0.2.1:443")
    assert ours.text == "connecting to 192.0.2.1:443: connection refused"


def test_an_error_without_a_number_still_says_something():
    assert tls_failure(ConnectionResetError()).text.endswith("closed by the other side")


def test_a_tls_error_after_the_handshake_is_of_class_tls():
    assert lost_failure(ssl.SSLError(1, "[SSL] certificate required")).kind is ErrorClass.TLS


@pytest.mark.parametrize("error", [None, ConnectionResetError(errno.ECONNRESET, "x"), RuntimeError("odd")])
def test_an_answer_that_breaks_off_is_a_protocol_error(error):
    assert lost_failure(error).kind is ErrorClass.PROTOCOL
