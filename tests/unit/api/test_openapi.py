"""The description of the API is whole, valid, and says of every route what the route's own code says."""

from __future__ import annotations

import ast
import json
import re
from http import HTTPStatus
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.kit.described import complaints_about, roles_of_routes
from webhookd.api.openapi import openapi_document, problems_of
from webhookd.api.problems import http_problem
from webhookd.api.spec.operations import OPERATIONS
from webhookd.api.spec.schemas import SCHEMAS
from webhookd.config.endpoints import API_ONLY_NAMES, ENDPOINT_KEYS
from webhookd.config.filters import OPERATORS
from webhookd.config.rules import GROWTH_KEYS
from webhookd.config.signatures import SIGNATURE_KEYS

PACKAGE = Path(__file__).parents[3] / "webhookd"
ROLES = roles_of_routes()
DOCUMENT = openapi_document(ROLES, version="9.9.9")

every_route = pytest.mark.parametrize("route", OPERATIONS)


def operation(route: str) -> dict:
    method, path = route.split(" ")
    return DOCUMENT["paths"][path][method.lower()]


def test_every_route_is_described_and_nothing_else():
    assert OPERATIONS.keys() == ROLES.keys()
    described = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == ROLES.keys()


def test_the_document_is_openapi():
    errors = [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]
    assert errors == []


def test_names_of_operations_are_unique_and_their_tags_known():
    names = [each.name for each in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert {each.tag for each in OPERATIONS.values()} == {tag["name"] for tag in DOCUMENT["tags"]}


@every_route
def test_the_role_is_that_of_the_route(route):
    role = ROLES[route]
    assert operation(route)["x-role"] == (None if role is None else role.value)
    assert operation(route)["security"] == ([] if role is None else [{}, {"token": []}])


@every_route
def test_the_parameters_of_the_path_are_described(route):
    described = {item["name"] for item in operation(route).get("parameters", ()) if item["in"] == "path"}
    assert described == set(re.findall(r"\{(\w+)\}", route))


def test_every_schema_is_used():
    text = json.dumps(DOCUMENT)
    assert [name for name in SCHEMAS if f'"#/components/schemas/{name}"' not in text] == []


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if "examples" in schema])
def test_an_example_of_a_schema_is_one(name):
    for example in SCHEMAS[name]["examples"]:
        assert complaints_about(example, {"$ref": f"#/components/schemas/{name}"}) == []


def test_examples_inside_of_schemas_are_examples():
    def walk(schema):
        if isinstance(schema, list):
            for item in schema:
                yield from walk(item)
        if isinstance(schema, dict):
            if "examples" in schema:
                yield schema
            for value in schema.values():
                yield from walk(value)

    found = list(walk(SCHEMAS))
    assert len(found) > 20
    wrong = [text for schema in found for example in schema["examples"] for text in complaints_about(example, schema)]
    assert wrong == []


def test_the_keys_of_an_endpoint_are_those_of_the_configuration():
    known = {key.name for key in ENDPOINT_KEYS} | {"secret", "basic_auth"} | API_ONLY_NAMES
    assert SCHEMAS["NewEndpoint"]["properties"].keys() == known
    assert SCHEMAS["EndpointPatch"]["properties"].keys() == known - {"id"}


def test_the_keys_inside_of_keys_are_those_of_the_configuration():
    properties = SCHEMAS["NewEndpoint"]["properties"]
    assert properties["signatures"]["items"]["properties"].keys() == {key.name for key in SIGNATURE_KEYS}
    assert properties["retry"]["anyOf"][1]["properties"].keys() == {key.name for key in GROWTH_KEYS}
    assert properties["where"]["additionalProperties"]["anyOf"][2]["properties"].keys() == set(OPERATORS)


def slugs_in_the_code() -> set[str]:
    """Return what the package calls problems, where it makes them."""
    makers = {"refuse", "invalid", "InvalidRequestError", "ConflictError"}
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Call):
                continue
            slugs = [word.value for word in node.keywords if word.arg == "slug"]
            if getattr(node.func, "id", "") in makers:
                slugs += node.args[:1]
            for slug in slugs:
                match slug:
                    case ast.Constant(value=str(text)):
                        found.add(text)
                    case ast.JoinedStr():
                        found |= {f"not_ready_{state}" for state in ("draining", "refusing", "stuck")}
    return found | {http_problem(status).slug for status in HTTPStatus if status >= 400}


def test_every_problem_the_code_can_answer_is_described_and_no_other():
    described = {slug for each in OPERATIONS.values() for slugs in problems_of(each).values() for slug in slugs}
    assert described == slugs_in_the_code()


def test_every_description_is_a_sentence():
    for route, each in OPERATIONS.items():
        assert not each.summary.endswith("."), route
        assert each.description == "" or each.description.endswith("."), route
