"""The directory of the database: made if missing, refused if unusable, and locked against a second daemon."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from webhookd.errors import AlreadyRunningError, StateDirectoryError

LOCK_NAME = "webhookd.lock"
_LOOKS = 50
_LOOK_EVERY_SECONDS = 0.02
_NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4"})
_LAYERED_FILESYSTEMS = frozenset({"overlay"})


def prepare_directory(directory: Path, *, filesystem: Callable[[Path], str] | None = None) -> tuple[str, ...]:
    """Make sure `directory` exists and can hold the database; return warnings, each a sentence.

    Raises StateDirectoryError naming the path and the user id. `filesystem` tells the type of the file system.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(directory, error.strerror or str(error)) from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise unusable(directory, "not readable and writable")
    kind = (filesystem or filesystem_type)(directory)
    if kind in _NETWORK_FILESYSTEMS:
        raise unusable(directory, f"on {kind}, which does not keep what it acknowledges; use a local disk")
    if kind in _LAYERED_FILESYSTEMS:
        return (f"{directory} is on an overlay file system: it may vanish with its container; mount a volume there",)
    return ()


def unusable(path: Path, why: str) -> StateDirectoryError:
    """Build the error for a directory or file that `why` keeps us from using."""
    return StateDirectoryError(f"cannot use {path} as user id {os.geteuid()}: {why}")


def filesystem_type(path: Path) -> str:
    """Return the type of the file system that holds `path`, as the kernel calls it; empty where it does not say."""
    try:
        device = path.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            # See proc(5): the device is the third field, the type the first after the lone hyphen.
            mount, _, source = line.partition(" - ")
            if mount.split(" ", 3)[2] == wanted:
                return source.split(" ", 1)[0]
    except (OSError, IndexError):
        pass
    return ""


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` survive a loss of power."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _holder(handle: int) -> int:
    """Return the process id in the lock, 0 if there is none: one that began just now has yet to write its own."""
    looks = 0
    while True:
        written = os.pread(handle, 32, 0).strip()
        holder = int(written) if written.isdigit() else 0
        looks += 1
        # What an earlier holder left names a process that is gone; one in another container cannot be seen from here.
        if looks == _LOOKS or (holder and Path(f"/proc/{holder}").exists()):
            return holder
        time.sleep(_LOOK_EVERY_SECONDS)


class DirectoryLock:
    """An exclusive lock on `webhookd.lock` beside the database, held until released or until the process ends.

    The lock is on a file of its own: closing any descriptor of the database itself would drop SQLite's own locks.
    """

    def __init__(self, directory: Path) -> None:
        """Take the lock. Raises AlreadyRunningError, or StateDirectoryError where the file cannot be made."""
        path = directory / LOCK_NAME
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(directory, f"{LOCK_NAME}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = _holder(handle)
            os.close(handle)
            raise AlreadyRunningError(str(path), holder) from error
        except OSError as error:
            os.close(handle)
            raise unusable(directory, f"{LOCK_NAME}: {error.strerror}") from error
        self._handle: int | None = handle

    def release(self) -> None:
        """Let go; the file stays, since removing it would let two daemons each lock a file of that name."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
