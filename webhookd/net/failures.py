"""How the operating system, the resolver and TLS fail, mapped once to the classes an attempt is recorded with."""

from __future__ import annotations

import errno
import os
import socket
import ssl

from webhookd.core.attempt import ErrorClass

_OURS = frozenset(
    {
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
    }
)

# Some router near the receiver may say so, or our own machine; one at a time they speak against the receiver.
_NO_WAY = frozenset({errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT})


class AttemptFailedError(Exception):
    """An attempt ended without an answer; travels inside `net` only and leaves it as the error of an Outcome.

    `no_way` is what `AttemptError` says it is.
    """

    def __init__(self, kind: ErrorClass, text: str, *, no_way: bool | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.no_way = no_way


class StaleConnectionError(Exception):
    """A kept-alive connection ended before any byte of an answer; the attempt may be made once on a new one."""


def dial_failure(error: OSError, where: str) -> AttemptFailedError:
    """Map what went wrong while connecting to `where`: our own machine's limits and routes are `local`."""
    kind = ErrorClass.LOCAL if error.errno in _OURS else ErrorClass.CONNECT
    return AttemptFailedError(kind, f"connecting to {where}: {_words(error)}", no_way=_no_way(error))


def tls_failure(error: OSError) -> AttemptFailedError:
    """Map what went wrong in or after the TLS handshake, with the reason OpenSSL gives."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return AttemptFailedError(ErrorClass.TLS, f"certificate refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        # Those that a loop raises by itself have no reason.
        reason = getattr(error, "reason", None) or _words(error)
        return AttemptFailedError(ErrorClass.TLS, f"TLS failed: {reason.replace('_', ' ').lower()}")
    if error.errno in _OURS:
        return AttemptFailedError(ErrorClass.LOCAL, f"TLS failed: {_words(error)}")
    text = f"the connection ended during the TLS handshake: {_words(error)}"
    return AttemptFailedError(ErrorClass.TLS, text, no_way=_no_way(error))


def lookup_failure(error: Exception, host: str) -> AttemptFailedError:
    """Map what getaddrinfo raised for `host`; running out of descriptors or memory there is `local`."""
    if isinstance(error, socket.gaierror):
        kind = ErrorClass.LOCAL if error.errno in {socket.EAI_MEMORY, socket.EAI_SYSTEM} else ErrorClass.DNS
        # What getaddrinfo says when no name server answered, or all of them had trouble themselves.
        no_way = True if error.errno == socket.EAI_AGAIN else None
        return AttemptFailedError(kind, f"looking up {host}: {(error.strerror or str(error)).lower()}", no_way=no_way)
    if isinstance(error, OSError):
        kind = ErrorClass.LOCAL if error.errno in _OURS else ErrorClass.DNS
        return AttemptFailedError(kind, f"looking up {host}: {_words(error)}")
    return AttemptFailedError(ErrorClass.DNS, f"looking up {host}: {error}")


def lost_failure(error: Exception | None) -> AttemptFailedError:
    """Map the end of a connection that came before the headers of an answer were complete."""
    if isinstance(error, ssl.SSLError):
        return tls_failure(error)
    if error is None:
        return AttemptFailedError(ErrorClass.PROTOCOL, "the connection was closed before an answer was complete")
    words = _words(error) if isinstance(error, OSError) else str(error)
    no_way = _no_way(error) if isinstance(error, OSError) else None
    text = f"the connection broke before an answer was complete: {words}"
    return AttemptFailedError(ErrorClass.PROTOCOL, text, no_way=no_way)


def _no_way(error: OSError) -> bool | None:
    return True if error.errno in _NO_WAY else None


def _words(error: OSError) -> str:
    # asyncio and uvloop put sentences of their own into strerror; the number says it the same way everywhere.
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno).lower()
    return str(error).lower() or "closed by the other side"
