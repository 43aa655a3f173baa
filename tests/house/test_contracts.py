"""Every promise in docs/contracts.md has its test, and every test of a contract its promise, document and heading."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.kit.contracts import endpoint, example, profile
from webhookd.config.credentials import URL_SOURCE_NAMES
from webhookd.config.endpoints import ENDPOINT_KEYS, FILE_ONLY_NAMES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contracts.md").read_text()
TESTS = [
    *sorted((ROOT / "tests" / "e2e").glob("test_contract_*.py")),
    ROOT / "tests" / "integration" / "engine" / "test_contract_schedules.py",
]
SOURCE = re.compile(r'From "([^"]+)", under ("[^"]+"(?:,? and "[^"]+")*)\.')
COMMON = {"profile", "url"}
"""Keys of an endpoint that promise nothing by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One promise."""

    product: str
    document: str
    heading: str
    keys: frozenset[str]
    tests: tuple[str, ...]


def sections() -> dict[str, str]:
    """Return the text under each heading."""
    return dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def rows() -> list[Row]:
    found = []
    for product, text in sections().items():
        (document,) = re.findall(r'^From "([^"]+)"', text, re.MULTILINE)
        table = re.findall(r"^\| (?!under |-)(.*) \|$", text, re.MULTILINE)
        for line in table:
            heading, _, keys, tests = (cell.strip() for cell in line.split("|"))
            found.append(
                Row(
                    product=product,
                    document=document,
                    heading=heading,
                    keys=frozenset(re.findall(r"`(\w+)`", keys)),
                    tests=tuple(re.findall(r"`([^`]+)`", tests)),
                )
            )
    return found


@cache
def docstrings() -> dict[str, str]:
    """Return the docstring of each test of a contract, by path and name."""
    return {
        f"{path.relative_to(ROOT)}::{node.name}": " ".join((ast.get_docstring(node) or "").split())
        for path in TESTS
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_there_are_rows_for_five_products():
    assert [product for product in sections() if any(row.product == product for row in rows())] == [
        "FlyBuy",
        "Impact Stack",
        "Chord OMS",
        "Forage",
        "Stripe and Razorpay",
    ]
    assert len(rows()) > 30
    assert len(TESTS) == 6


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.product}: {row.heading}")
def test_a_promise_has_tests_that_name_its_document_and_heading(row):
    assert any(test.startswith("tests/e2e/") for test in row.tests), "a real daemon has to keep it"
    for test in row.tests:
        assert test in docstrings(), "there is no such test"
        source = SOURCE.search(docstrings()[test])
        assert source is not None, test
        assert source[1] == row.document
        assert f'"{row.heading}"' in source[2], test


def test_a_test_of_a_contract_stands_in_a_row_and_names_its_source():
    listed = {test for row in rows() for test in row.tests}
    assert docstrings().keys() - listed == set()
    assert [test for test, text in docstrings().items() if SOURCE.search(text) is None] == []


def test_every_heading_that_a_test_names_has_a_row_with_it():
    promised = {(row.document, row.heading, test) for row in rows() for test in row.tests}
    named = {
        (source[1], heading, test)
        for test, text in docstrings().items()
        if (source := SOURCE.search(text)) is not None
        for heading in re.findall(r'"([^"]+)"', source[2])
    }
    assert named == promised


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.product}: {row.heading}")
def test_the_keys_of_a_promise_are_keys(row):
    known = {key.name for key in ENDPOINT_KEYS} | FILE_ONLY_NAMES | URL_SOURCE_NAMES | {"basic_auth"}
    assert row.keys - known == set()


@pytest.mark.parametrize("product", sections())
def test_every_key_of_a_contract_keeps_a_promise(product):
    """What stands in a profile for no reason that a document gives would be a habit, and no contract."""
    text = sections()[product]
    explained = frozenset().union(*(row.keys for row in rows() if row.product == product))
    named = re.findall(r"`([a-z]+(?:-[a-z0-9]+)*)`", re.search(r"Profiles? .*?\n\n", text, re.DOTALL).group())
    profiles = [name for name in named if name in example()["profiles"]]
    endpoints = [name for name in named if name in example()["endpoints"]]
    assert profiles
    assert endpoints
    keys = {key for name in profiles for key in profile(name)} | {key for name in endpoints for key in endpoint(name)}
    assert keys - COMMON - explained == set()
