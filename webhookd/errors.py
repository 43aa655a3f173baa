"""What can go wrong, split by whose fault it is; each error is turned into words once, at the border it leaves by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class WebhookdError(Exception):
    """Base of every error webhookd raises on purpose; a process that ends because of one exits with `exit_code`."""

    exit_code: ClassVar[int] = 70


class ConfigError(WebhookdError):
    """One complaint about the configuration; `key` is its dotted path, such as `endpoints.orders.url`."""

    exit_code = 78

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}" if key else text)
        self.key = key
        self.text = text


class ConfigErrors(WebhookdError):
    """Every complaint about one configuration, in file order; never empty."""

    exit_code = 78

    def __init__(self, complaints: list[ConfigError]) -> None:
        super().__init__("\n".join(str(complaint) for complaint in complaints))
        self.complaints = complaints


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request; `pointer` is the field's JSON pointer (RFC 6901), empty for the whole body."""

    pointer: str
    detail: str


class InvalidRequestError(WebhookdError):
    """The caller sent something we cannot take; `slug` names the kind of problem, `status` is the HTTP answer."""

    def __init__(self, slug: str, detail: str, *, status: int = 422, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.status = status
        self.faults = faults


class NotFoundError(WebhookdError):
    """The event, endpoint or delivery that was named does not exist."""


class ConflictError(WebhookdError):
    """The request contradicts what is stored; `slug` names the kind of conflict."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


class StoreError(WebhookdError):
    """The database could not do what was asked."""


class StoreUnavailableError(StoreError):
    """The outcome of a write is unknown; the same request may be repeated with the same idempotency key.

    Where it keeps the store from being opened at all, a later start may well succeed.
    """

    exit_code = 75


class StoreFullError(StoreUnavailableError):
    """A write was refused because the disk or the configured size is exhausted; nothing was stored."""


class StoreIOError(StoreUnavailableError):
    """The disk failed under the database; the process must stop and recover from the log at the next start."""

    exit_code = 74


class StoreMovedError(StoreIOError):
    """The file is no longer where it was opened; a start now would make a new one in its place."""

    exit_code = 78


class BackupFailedError(StoreError):
    """A copy of the database could not be made; the database itself is not touched by that."""


class SchemaVersionError(StoreError):
    """The file was written by a newer webhookd, or by another program; it is left untouched."""

    exit_code = 65


class StoreCorruptError(StoreError):
    """The file fails its checks; it is left untouched."""

    exit_code = 65


class AlreadyRunningError(WebhookdError):
    """Another daemon holds the lock of this database; `pid` is the holder's, 0 where it is not known."""

    exit_code = 75

    def __init__(self, path: str, pid: int) -> None:
        super().__init__(f"already running, pid {pid}: {path}" if pid else f"already running: {path}")
        self.path = path
        self.pid = pid


class AddressInUseError(WebhookdError):
    """A listener cannot be opened because another program, perhaps another webhookd, holds its address."""

    exit_code = 75


class StateDirectoryError(WebhookdError):
    """The directory for the database cannot be used; the text names the path and the user id."""

    exit_code = 78
