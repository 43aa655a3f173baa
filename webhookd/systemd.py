"""Talks to the service manager: readiness and pings out, activated sockets in (sd_notify(3), sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

from webhookd.errors import ConfigError

LISTEN_FDS_START = 3
"""The first descriptor that the service manager passes (SD_LISTEN_FDS_START)."""


def notify(*lines: str) -> bool:
    """Tell the service manager, one `NAME=value` a line, such as `READY=1`; say whether it was handed over.

    Never raises and never blocks: a manager that is absent, gone or busy must not hold up the daemon, and a lost
    watchdog ping is followed by another.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A status may quote what someone else wrote; a line break in it would start a field of theirs.
    message = "\n".join(line.replace("\n", " ") for line in lines).encode(errors="replace")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as manager:
            manager.sendto(message, address)
    except OSError:
        return False
    return True


def watchdog_interval_seconds() -> float | None:
    """Say how often to send `WATCHDOG=1`: half its limit (sd_watchdog_enabled(3)), None where it set none."""
    pid = os.environ.get("WATCHDOG_PID", "")
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    if pid and pid != str(os.getpid()):
        return None
    if not (limit_us.isascii() and limit_us.isdigit()) or int(limit_us) == 0:
        return None
    return int(limit_us) / 2_000_000


def listen_sockets() -> dict[str, list[socket.socket]]:
    """Take over the sockets opened for this process, by the name their unit gave them, in the manager's order.

    Call once: the variables are removed, so that neither a child nor a second call takes the same descriptors again.
    Sockets come back non-blocking and close-on-exec. A unit without `FileDescriptorName=` leaves the name `unknown`.
    Raises ConfigError where the variables make no sense or a descriptor is not a listening stream socket.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "")
    # Meant for a process between the manager and us, a wrapper that forgot to clean up: not ours to touch.
    if pid != str(os.getpid()):
        return {}
    if not (count.isascii() and count.isdigit()):
        raise ConfigError("LISTEN_FDS", f"not a number of descriptors: {count!r}")
    given = names.split(":") if names else []
    sockets: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        name = given[index] if index < len(given) and given[index] else "unknown"
        sockets.setdefault(name, []).append(_listening(LISTEN_FDS_START + index, name))
    return sockets


def claim_sockets(sockets: dict[str, list[socket.socket]], name: str, *, key: str) -> list[socket.socket]:
    """Take the sockets called `name` out of what `listen_sockets` returned, for the listener configured at `key`.

    Raises ConfigError with that key where there is none of that name, or where an earlier listener took it.
    """
    claimed = sockets.pop(name, None)
    if claimed:
        return claimed
    offered = ", ".join(sorted(sockets)) or "none at all"
    raise ConfigError(
        key,
        f"no socket named {name!r} was passed by the service manager (passed: {offered}); "
        f"start through a socket unit with FileDescriptorName={name}",
    )


def _listening(descriptor: int, name: str) -> socket.socket:
    key = f"systemd:{name}"
    try:
        os.set_inheritable(descriptor, False)
        passed = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(key, f"descriptor {descriptor} is not a socket: {error.strerror}") from error
    if passed.type != socket.SOCK_STREAM or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.close()
        raise ConfigError(
            key, f"descriptor {descriptor} is not a listening stream socket (ListenStream= with Accept=no)"
        )
    passed.setblocking(False)
    return passed
