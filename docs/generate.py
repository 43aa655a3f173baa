"""Writes docs/api.md and docs/cli.md from the code: `python -m docs.generate`; a test holds the pages to it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tests.kit.described import roles_of_routes
from webhookd.api.openapi import openapi_document
from webhookd.api.problems import Problem
from webhookd.api.spec.operations import COMMON_PROBLEMS, OPERATIONS
from webhookd.cli import main as command_line

HERE = Path(__file__).parent

_MADE = "<!-- Made by `python -m docs.generate`: change the code, then run that. -->\n"
_TALKING = {"server", "token_file", "config", "as_json"}
"""What every command that talks to the daemon takes."""

_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "object",
    "array": "list",
}

Schema = Mapping[str, Any]


def api_page() -> str:
    """Return docs/api.md."""
    document: Any = openapi_document(roles_of_routes(), version="")
    parts = [
        _MADE,
        "# HTTP API\n",
        document["info"]["description"],
        "The daemon serves this description as an OpenAPI 3.1 document at `GET /openapi.json`.\n",
    ]
    for tag in document["tags"]:
        parts.append(f"## Routes of {'the daemon' if tag['name'] == 'daemon' else tag['name']}\n")
        parts.append(f"{tag['description']}\n")
        for path, methods in document["paths"].items():
            parts += [
                _operation(f"{method.upper()} {path}", operation)
                for method, operation in methods.items()
                if tag["name"] in operation["tags"]
            ]
    parts += ["## Problems\n", *_problems(), "## Shapes\n", "A key with ? behind it may be missing.\n"]
    parts += [_shape(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "\n".join(parts).rstrip() + "\n"


def _operation(route: str, operation: Schema) -> str:
    role = operation["x-role"]
    lines = [f"### `{route}`", "", f"{operation['summary']}. Role: {role or 'none'}."]
    if operation.get("description"):
        lines += ["", operation["description"]]
    if operation.get("parameters"):
        lines += ["", "| parameter | in | type | |", "|---|---|---|---|"]
        lines += [
            f"| `{item['name']}` | {item['in']} | {_type(item['schema'])} | {_cell(item.get('description', ''))} |"
            for item in operation["parameters"]
        ]
    if "requestBody" in operation:
        lines += ["", f"Body{'' if operation['requestBody']['required'] else ', if any'}:", ""]
        for media, content in operation["requestBody"]["content"].items():
            lines.append(f"- `{media}`: {_type(content['schema']) if content['schema'] else 'anything'}")
        inline = next((c["schema"] for c in operation["requestBody"]["content"].values()), {})
        if "properties" in inline:
            lines += ["", *_keys(inline)]
    lines += ["", "| answer | body | |", "|---|---|---|"]
    for status, answer in operation["responses"].items():
        if status != "default":
            body = ", ".join(_type(content["schema"]) for content in answer.get("content", {}).values())
            lines.append(f"| {status} | {body or 'none'} | {_cell(answer['description'])} |")
    return "\n".join(lines) + "\n"


def _problems() -> Iterator[str]:
    yield "By the last part of `type`. Those marked with * can be the answer to any request.\n"
    own = {
        (status, slug): route
        for route, operation in OPERATIONS.items()
        for status, slugs in operation.problems.items()
        for slug in slugs
    }
    common = {(status, slug) for status, slugs in COMMON_PROBLEMS.items() for slug in slugs}
    rows = ["| status | problem | |", "|---|---|---|"]
    for status, slug in sorted(own.keys() | common):
        title = Problem(slug=slug, status=status, detail="").title
        rows.append(f"| {status}{' *' if (status, slug) in common else ''} | `{slug}` | {title} |")
    yield "\n".join(rows) + "\n"


def _shape(name: str, schema: Schema) -> str:
    lines = [f"### {name}", ""]
    if schema.get("description"):
        lines += [schema["description"], ""]
    lines += _keys(schema)
    for example in schema.get("examples", ()):
        lines += ["", "```json", json.dumps(example, indent=2), "```"]
    return "\n".join(lines) + "\n"


def _keys(schema: Schema) -> list[str]:
    required = schema.get("required", ())
    lines = ["| key | type | |", "|---|---|---|"]
    for name, inner in schema["properties"].items():
        mark = "" if name in required else "?"
        lines.append(f"| `{name}`{mark} | {_type(inner)} | {_cell(inner.get('description', ''))} |")
    return lines


def _type(schema: Schema) -> str:
    """Say in words what a schema takes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(_type(option) for option in schema[union]))
    kind = schema.get("type")
    if isinstance(kind, list):
        names = [_type({**schema, "type": one}) for one in kind]
        return f"{', '.join(names[:-1])} or {names[-1]}"
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and schema.get("properties"):
        return "object with " + ", ".join(f"`{name}`" for name in schema["properties"])
    if kind == "string" and schema.get("format") == "date-time":
        return "time"
    return _KINDS[kind] if kind else "anything"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def cli_page() -> str:
    """Return docs/cli.md."""
    parts = [
        _MADE,
        "# Command line\n",
        f"{_words(command_line.help)}\n",
        (
            "Data goes to standard output, messages to standard error. What each exit code means stands in "
            "[operations.md](operations.md#exit-codes).\n"
        ),
        "## Options of commands that talk to the daemon\n",
        "They may stand before or after the command's name.\n",
        *_options([option for option in command_line.params if option.name in _TALKING]),
        "Every command has `-h`, `--help` and `--version`.\n",
        "## Commands\n",
    ]
    for words, command in _leaves(command_line, ()):
        parts += _command(words, command)
    return "\n".join(parts).rstrip() + "\n"


def _leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None:
            yield from _leaves(found, (*words, name))


def _command(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    name = " ".join(("webhookd", *words))
    yield f"### `{name}`\n"
    yield f"{_words(command.help)}\n"
    metavars = [
        parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    yield f"```text\n{' '.join([name, '[OPTIONS]', *metavars])}\n```\n"
    named = {parameter.name for parameter in command.params}
    own = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    talks = named >= _TALKING
    own = [option for option in own if option.name != "version" and not (talks and option.name in _TALKING)]
    yield from _options(own)
    if talks:
        yield "Talks to the daemon.\n"


def _options(options: list[Any]) -> Iterator[str]:
    if not options:
        return
    rows = ["| option | |", "|---|---|"]
    for option in options:
        record = option.get_help_record(click.Context(click.Command("any")))
        names, text = record
        rows.append(f"| `{_cell(names)}` | {_cell(text)} |")
    yield "\n".join(rows) + "\n"


def _words(text: str | None) -> str:
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


PAGES = {"api.md": api_page, "cli.md": cli_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
