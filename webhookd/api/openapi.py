"""The API's description of itself: an OpenAPI 3.1 document, made of its table of routes and what `spec` says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from webhookd.api.spec.operations import COMMON_PROBLEMS, OPERATIONS, TAGS
from webhookd.api.spec.schemas import SCHEMAS
from webhookd.api.spec.shorthand import PROBLEM_MEDIA, Json, Operation, ref
from webhookd.core.settings import Role

_ABOUT = """\
webhookd accepts events, keeps them on disk, and delivers them as signed webhooks until they are acknowledged.

What a request needs is a role: `ingest` hands in events, `read` looks, `operate` does everything. A role comes from the
listener the request arrives at (`role` of `[[listen]]`), from a bearer token (`[[token]]`), or from both, whichever is
wider; on a TCP listener that is not on loopback, the listener's role counts only with a valid token.

Every answer that is not a success is a problem as of RFC 9457. Times are RFC 3339, in UTC with milliseconds. Wherever
there is `GET` there is `HEAD`. Keys may be added to answers; unknown keys in a request are an error.
"""

_PROBLEM: Json = {
    "description": "A problem that any request may meet.",
    "content": {PROBLEM_MEDIA: {"schema": ref("Problem")}},
}


def openapi_document(roles: Mapping[str, Role | None], *, version: str) -> Json:
    """Return the document for the routes in `roles`, which says by method and path what role each needs."""
    paths: dict[str, Json] = {}
    for route, operation in OPERATIONS.items():
        if route in roles:
            method, path = route.split(" ")
            paths.setdefault(path, {})[method.lower()] = _operation(operation, roles[route])
    return {
        "openapi": "3.1.0",
        "info": {"title": "webhookd", "version": version, "description": _ABOUT},
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {"Problem": _PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `[[token]]`. Not needed where the listener's role is enough.",
                }
            },
        },
    }


def _operation(operation: Operation, role: Role | None) -> Json:
    document: Json = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "x-role": None if role is None else role.value,
        "security": [] if role is None else [{}, {"token": []}],
    }
    if operation.description:
        document["description"] = operation.description
    if operation.parameters:
        document["parameters"] = list(operation.parameters)
    if operation.body is not None:
        document["requestBody"] = operation.body
    answers: Json = {str(status): answer for status, answer in operation.answers.items()}
    for status, slugs in sorted(operation.problems.items()):
        answers[str(status)] = {
            "description": f"Problem {_words(slugs)}.",
            "content": {PROBLEM_MEDIA: {"schema": ref("Problem")}},
            "x-problems": list(slugs),
        }
    document["responses"] = answers | {"default": {"$ref": "#/components/responses/Problem"}}
    return document


def problems_of(operation: Operation) -> dict[int, frozenset[str]]:
    """Return every problem the operation can answer, its own and those any request may meet, by status."""
    found: dict[int, frozenset[str]] = {}
    for problems in (operation.problems, COMMON_PROBLEMS):
        for status, slugs in problems.items():
            found[status] = found.get(status, frozenset()) | frozenset(slugs)
    return found


def _words(slugs: Iterable[str]) -> str:
    return ", ".join(f"`{slug}`" for slug in slugs)
