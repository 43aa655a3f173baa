"""Each module says what it is for, stays small, and leaves nothing for later."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "webhookd").rglob("*.py"))
PYTHON = PACKAGE + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "bench").rglob("*.py"))
TEXTS = [
    *PYTHON,
    *sorted((ROOT / "webhookd").rglob("*.sql")),
    *sorted((ROOT / "systemd").iterdir()),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("*.toml")),
    ROOT / ".ci" / "run",
]

MOST_LINES = 350
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
# Written so that this line does not find itself.
LEFT_FOR_LATER = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at():
    assert ROOT / "webhookd" / "__init__.py" in PACKAGE
    assert Path(__file__) in PYTHON


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_a_module_opens_with_a_sentence(path):
    opening = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    assert re.match(r"\S.{8,}?[.:;!?](\s|$)", opening, re.DOTALL), f"{relative(path)} does not say what it is for"


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_a_module_is_short_enough_to_be_read_in_one_go(path):
    lines = path.read_text().count("\n")
    assert lines <= MOST_LINES


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_a_module_is_named_for_what_it_does(path):
    names = {part for name in path.relative_to(ROOT).with_suffix("").parts for part in name.split("_")}
    assert not names & NAMES_THAT_SAY_NOTHING


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_nothing_is_left_for_later(path):
    found = [line for line in path.read_text().splitlines() if LEFT_FOR_LATER.search(line)]
    assert found == []
