"""The API's description as a judge: whether an answer is one that the document promises, and nothing beyond it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from webhookd.api.app import INGEST_ROUTES, routes
from webhookd.api.openapi import problems_of
from webhookd.api.spec.operations import OPERATIONS
from webhookd.api.spec.schemas import SCHEMAS
from webhookd.core.settings import Role

_formats = FormatChecker(formats=())


def _is_moment(text: object) -> bool:
    return not isinstance(text, str) or re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z", text) is not None


_formats.checks("date-time")(_is_moment)


def _closed(schema: Any) -> Any:
    """Return the schema with every object closed: a key that is not described must not go out."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


_COMPONENTS = {"components": {"schemas": _closed(deepcopy(SCHEMAS))}}


def complaints_about(document: object, schema: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a JSON document by a schema of the description."""
    validator = Draft202012Validator(_closed(dict(schema)) | _COMPONENTS, format_checker=_formats)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def operation_of(method: str, target: str) -> str | None:
    """Return the route, by method and path template, that a request is for; None for none."""
    path = re.sub(r"(?i)\Ahttps?://[^/?]*", "", target).partition("?")[0]
    found = None
    for route in OPERATIONS:
        wanted, template = route.split(" ")
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if template == "/v1/events/{type}":
            pattern = "/v1/events/.+"
        if wanted == ("GET" if method == "HEAD" else method) and re.fullmatch(pattern, path):
            # A type may contain slashes, so the others are more exact.
            found = route if found is None or template != "/v1/events/{type}" else found
    return found


class _Anything:
    """Whatever is asked for is there; for a table of routes that nobody is going to call."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def roles_of_routes() -> dict[str, Role | None]:
    """Return the role that each route of the API needs, by method and path; None lets anybody in."""
    rooms: list[Any] = [_Anything() for _ in signature(routes).parameters]
    return {f"{route.method} {route.path}": route.role for route in routes(*rooms)} | INGEST_ROUTES


@dataclass(slots=True)
class Judge:
    """Judges answers, and remembers which operations were answered how."""

    seen: set[tuple[str, int]] = field(default_factory=set)

    def judge(self, method: str, target: str, status: int, content_type: str, body: bytes) -> list[str]:
        """Return what in an answer the description does not say; nothing if all is as it says."""
        route = operation_of(method, target)
        if route is None:
            return [] if status in {400, 403, 404, 405} else [f"{method} {target} is no operation, but {status}"]
        self.seen.add((route, status))
        operation = OPERATIONS[route]
        if status < 400:
            answer: Any = operation.answers.get(status)
            if answer is None:
                return [f"{route} does not say that it answers {status}"]
            ((media, content),) = answer.get("content", {None: {"schema": None}}).items()
            if media is None:
                return [] if not body else [f"{route} {status}: no body was promised"]
            if content_type.partition(";")[0] != media:
                return [f"{route} {status}: {content_type} instead of {media}"]
            if media != "application/json" or method == "HEAD":
                return []
            return [f"{route} {status}: {text}" for text in complaints_about(json.loads(body), content["schema"])]
        if content_type != "application/problem+json":
            return [f"{route} {status}: {content_type} is no problem"]
        if method == "HEAD":
            return []
        problem = json.loads(body)
        slug = problem["type"].rpartition(":")[2]
        wrong = complaints_about(problem, {"$ref": "#/components/schemas/Problem"})
        if problem["status"] != status:
            wrong.append(f"says {problem['status']}")
        if slug not in problems_of(operation).get(status, ()):
            wrong.append(f"{slug} is not among its problems")
        return [f"{route} {status}: {text}" for text in wrong]

    def missing(self) -> Iterator[str]:
        """Yield every success that was promised and not seen."""
        for route, operation in OPERATIONS.items():
            for status in operation.answers:
                if (route, status) not in self.seen:
                    yield f"{route} {status}"
