"""Opens every configured listener before the first is served, or says what keeps each of them from being opened."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence

from webhookd.api.listener import bind
from webhookd.core.settings import ActivatedAddress, Listen
from webhookd.errors import AddressInUseError, ConfigError, ConfigErrors

log = logging.getLogger(__name__)

Claim = Callable[[str, str], Sequence[socket.socket]]
"""Returns the sockets that the service manager passed under a name, for the key that asks; raises ConfigError."""


def open_listeners(listeners: Sequence[Listen], claim: Claim) -> list[tuple[Listen, socket.socket]]:
    """Return the listening sockets, each with the listener it belongs to.

    Raises ConfigErrors with every listener that cannot be, and AddressInUseError at the first that another program has.
    """
    opened: list[tuple[Listen, socket.socket]] = []
    complaints: list[ConfigError] = []
    for number, listen in enumerate(listeners):
        key = f"listen[{number}].address"
        try:
            if isinstance(listen.address, ActivatedAddress):
                opened += [(listen, passed) for passed in claim(listen.address.name, key)]
            else:
                opened.append((listen, bind(listen.address)))
        except ConfigError as error:
            complaints.append(error)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(f"{key}: {listen.address} is in use by another program") from error
            complaints.append(ConfigError(key, f"cannot listen on {listen.address}: {error.strerror or error}"))
    if complaints:
        raise ConfigErrors(complaints)
    for listen, listening in opened:
        log.info("listener.opened", extra={"fields": {"address": _name_of(listen, listening), "role": listen.role}})
    return opened


def _name_of(listen: Listen, listening: socket.socket) -> str:
    if listening.family == socket.AF_UNIX:
        return str(listen.address)
    host, port = listening.getsockname()[:2]
    return f"{listen.address} ({host} port {port})"
