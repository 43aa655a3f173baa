"""What went wrong, in the words of RFC 9457: every error leaves the API through here, and only through here."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import orjson

from webhookd.errors import (
    BackupFailedError,
    ConflictError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    StoreCorruptError,
    StoreFullError,
    StoreUnavailableError,
    WebhookdError,
)

PROBLEM_CONTENT_TYPE = "application/problem+json"

_TITLES = {
    "backup_exists": "There is a file of this name already",
    "backup_failed": "The backup could not be made",
    "backup_refused": "A backup cannot be put there",
    "backup_running": "A backup is being made already",
    "body_too_large": "The request is larger than is accepted",
    "expectation_failed": "The expectation cannot be met",
    "forbidden": "Not allowed",
    "host_refused": "This host name is not served here",
    "idempotency_conflict": "The idempotency key was used for other content",
    "internal": "Something went wrong inside webhookd",
    "malformed_request": "The request is malformed",
    "method_not_allowed": "The method is not allowed here",
    "no_match": "No endpoint subscribes to this event",
    "not_found": "There is no such thing",
    "origin_refused": "Requests from other sites are refused",
    "overloaded": "Too much at once",
    "payload_too_large": "The payload is larger than is accepted",
    "request_timeout": "The request did not arrive in time",
    "shutting_down": "The daemon is stopping",
    "store_full": "There is no room to store it",
    "store_unavailable": "The outcome is unknown",
    "unauthorized": "A valid token is needed",
    "unsupported_media_type": "The content type is not accepted here",
}

STORE_FULL_RETRY_SECONDS = 30
UNAVAILABLE_RETRY_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One answer that is not a success; `slug` is stable, `detail` is a sentence for people."""

    slug: str
    status: int
    detail: str
    faults: tuple[Fault, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The slug in words."""
        return _TITLES.get(self.slug) or self.slug.replace("_", " ").capitalize()

    def body(self) -> bytes:
        """Return the problem as JSON."""
        document: dict[str, object] = {
            "type": f"urn:webhookd:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            document["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        try:
            return orjson.dumps(document)
        except TypeError:
            # A lone surrogate got into a detail: JSON in UTF-8 cannot say it, an escape can.
            return orjson.dumps(_printable(document))


class ProblemError(WebhookdError):
    """A refusal the API itself decides on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refuse(slug: str, status: int, detail: str, *, retry_after_seconds: int | None = None) -> ProblemError:
    """Build the error for a refusal without field errors."""
    headers = () if retry_after_seconds is None else (("Retry-After", str(retry_after_seconds)),)
    return ProblemError(Problem(slug=slug, status=status, detail=detail, headers=headers))


def body_too_large(limit_bytes: int) -> ProblemError:
    """Build the refusal for a body that is longer than `limit_bytes`."""
    return refuse("body_too_large", 413, f"a body holds at most {limit_bytes} bytes here")


def malformed(detail: str) -> InvalidRequestError:
    """Build the error for a request that cannot be understood."""
    return InvalidRequestError("malformed_request", detail, status=400)


def invalid(slug: str, detail: str, *faults: Fault) -> InvalidRequestError:
    """Build the error for a well-formed request that asks for something wrong."""
    return InvalidRequestError(slug, detail, faults=faults)


def problem_of(error: BaseException) -> Problem | None:
    """Return the problem an error is told as, or None for one that is a fault of ours and has to be logged."""
    match error:
        case ProblemError():
            return error.problem
        case InvalidRequestError():
            return Problem(slug=error.slug, status=error.status, detail=error.detail, faults=error.faults)
        case NotFoundError():
            return Problem(slug="not_found", status=404, detail=str(error) or "there is no such thing")
        case ConflictError():
            return Problem(slug=error.slug, status=409, detail=error.detail)
        case BackupFailedError():
            return Problem(slug="backup_failed", status=500, detail=str(error))
        case StoreFullError():
            return Problem(
                slug="store_full",
                status=507,
                detail="nothing was stored; events are accepted again once there is room",
                headers=(("Retry-After", str(STORE_FULL_RETRY_SECONDS)),),
            )
        case StoreUnavailableError() | StoreCorruptError():
            return Problem(
                slug="store_unavailable",
                status=503,
                detail="the outcome is unknown; repeat the request with the same idempotency key",
                headers=(("Retry-After", str(UNAVAILABLE_RETRY_SECONDS)),),
            )
        case _:
            return None


INTERNAL = Problem(
    slug="internal",
    status=500,
    detail="the cause is in the log of the daemon; repeating with the same idempotency key is safe",
)


def http_problem(status: int, headers: tuple[tuple[str, str], ...] = ()) -> Problem:
    """Return the problem for a bare HTTP status, as routers and parsers raise them."""
    match status:
        case 404:
            slug, detail = "not_found", "there is no such route"
        case 405:
            slug, detail = "method_not_allowed", "the Allow header lists the methods of this route"
        case 413:
            slug, detail = "body_too_large", "the body is larger than this route accepts"
        case _ if 400 <= status < 500:
            slug, detail = "malformed_request", HTTPStatus(status).phrase.lower()
        case _:
            return INTERNAL
    return Problem(slug=slug, status=status, detail=detail, headers=headers)


def _printable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: _printable(item) for key, item in value.items()}
        case list():
            return [_printable(item) for item in value]
        case _:
            return value
