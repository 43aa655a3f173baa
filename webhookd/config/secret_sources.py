"""Secrets and other files that the configuration points to, read once and with bounds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from webhookd.config.forms import Form, Where, line, parse_path, quote, take_text
from webhookd.config.tables import Report

SECRET_NAMES = frozenset({"secret", "secret_file", "secret_credential"})
MOST_SECRET_BYTES = 64 * 1024
SECRET = line(4096)


def read_regular_file(path: Path, *, most_bytes: int) -> tuple[bytes, int]:
    """Return what is in a regular file, and its mode; anything else is a ValueError that says what is at `path`."""
    try:
        # A FIFO without a writer would hold up an ordinary open for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        reason = "is a socket" if error.errno == errno.ENXIO else f"cannot be read: {error.strerror}"
        raise ValueError(f"{path} {reason}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} {_not_regular(mode)}")
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            content = opened.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes} bytes")
    return content, mode


def _not_regular(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "is a directory"
    return "is a FIFO, not a file" if stat.S_ISFIFO(mode) else "is a device, not a file"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSources:
    """Reads the secret of a table, wherever its owner keeps it.

    Relative paths are taken from `base`; `credentials` is the directory of the service manager, None outside one
    (systemd.exec(5), LoadCredential=).
    """

    base: Path
    credentials: Path | None

    def read(
        self,
        table: Mapping[str, object],
        where: Where,
        report: Report,
        *,
        name: str = "secret",
        what: str = "secret",
        form: Form[str] = SECRET,
    ) -> str | None:
        """Return the secret, None where the table has none or after a complaint.

        It stands under `name`, or in the file of `name`_file, or in the credential of `name`_credential; `what` is what
        a complaint calls it.
        """
        given = [key for key in (name, f"{name}_file", f"{name}_credential") if key in table]
        if len(given) > 1:
            report.complain((*where, given[0]), f"give the {what} once, not as {' and '.join(given)}")
            return None
        if not given:
            return None
        key = given[0]
        try:
            text = form.parse(self._find(key.removeprefix(name), table[key], (*where, key), report))
            if not text:
                raise ValueError(f"the {what} is empty")  # noqa: TRY301 - every refusal leaves by the same door
        except ValueError as error:
            report.complain((*where, key), str(error))
            return None
        return text

    def _find(self, source: str, value: object, where: Where, report: Report) -> object:
        match source:
            case "_file":
                path = self.base / parse_path(value)
                secret, mode = _read_secret(path)
                if mode & stat.S_IROTH:
                    report.warn(where, f"{path} can be read by everyone on this machine; chmod o-r")
                return secret
            case "_credential":
                return _read_secret(self._credential(take_text(value)))[0]
            case _:
                return value

    def _credential(self, name: str) -> Path:
        if not name or "/" in name or "\0" in name or name in {".", ".."}:
            raise ValueError(f"{quote(name)} is not the name of a credential")
        if self.credentials is None:
            raise ValueError("there is no $CREDENTIALS_DIRECTORY: credentials come from a service manager")
        return self.credentials / name


def _read_secret(path: Path) -> tuple[str, int]:
    content, mode = read_regular_file(path, most_bytes=MOST_SECRET_BYTES)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r"), mode
