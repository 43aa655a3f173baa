"""The few forms that schemas, parameters and answers are written in again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Json = dict[str, object]

PROBLEM_MEDIA = "application/problem+json"

EVENT_TYPE_PATTERN = r"^[A-Za-z0-9_.:/-]{1,128}$"
TENANT_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
GLOB_PATTERN = r"^[A-Za-z0-9_.:/*?\[\]-]{1,256}$"
ENDPOINT_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route as it is described: what it takes, what it answers, and the problems it has of its own.

    `problems` are slugs by status; those any request may meet stand in `operations.COMMON_PROBLEMS`.
    """

    name: str
    tag: str
    summary: str
    description: str = ""
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    answers: Mapping[int, Json]
    problems: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def ref(name: str) -> Json:
    """Point to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Json) -> Json:
    """Return `schema`, or null."""
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return schema | {"type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def text(description: str = "", **more: object) -> Json:
    """Return the schema of a text."""
    return {"type": "string"} | ({"description": description} if description else {}) | more


def whole(description: str = "", **more: object) -> Json:
    """Return the schema of a whole number that is not negative."""
    return {"type": "integer", "minimum": 0} | ({"description": description} if description else {}) | more


def moment(description: str) -> Json:
    """Return the schema of a moment."""
    return {"type": "string", "format": "date-time", "description": description}


def shape(
    properties: Mapping[str, Json], *, optional: tuple[str, ...] = (), description: str = "", example: object = None
) -> Json:
    """Return the schema of an object in an answer; keys may be added to it in a later release."""
    schema: Json = {"type": "object"}
    if description:
        schema["description"] = description
    schema["properties"] = dict(properties)
    schema["required"] = [name for name in properties if name not in optional]
    if example is not None:
        schema["examples"] = [example]
    return schema


def keys(
    properties: Mapping[str, Json], *, required: tuple[str, ...] = (), description: str = "", example: object = None
) -> Json:
    """Return the schema of an object in a request, where an unknown key is an error."""
    schema = shape(properties, description=description, example=example)
    schema |= {"required": list(required), "additionalProperties": False}
    if not required:
        del schema["required"]
    return schema


def listed(name: str, what: str) -> Json:
    """Return the schema of one part of a list."""
    return shape(
        {
            "data": {"type": "array", "items": ref(name), "maxItems": 500},
            "next": nullable(text("The `cursor` of the following part; null at the end.")),
        },
        description=f"{what}, newest first.",
    )


def answer(description: str, schema: Json, *, media: str = "application/json", headers: Json | None = None) -> Json:
    """Return an answer with a body."""
    head: Json = {"description": description}
    return head | ({"headers": headers} if headers else {}) | {"content": {media: {"schema": schema}}}


def body(schema: Json, *media: str, required: bool = False, example: object = None) -> Json:
    """Return a request body."""
    content: Json = {"schema": schema} | ({} if example is None else {"example": example})
    return {"required": required, "content": dict.fromkeys(media or ("application/json",), content)}


def query(name: str, schema: Json, description: str) -> Json:
    """Return a query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def in_path(name: str, schema: Json, description: str) -> Json:
    """Return a parameter of the path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
