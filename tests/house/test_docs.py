"""What the documentation names exists: files, keys, metrics, routes, exit codes, commands, log lines, tests."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.__main__ import BENCHMARKS
from bench.__main__ import parse as parse_benchmark
from tests.kit import builders
from tests.kit.described import roles_of_routes
from webhookd import config
from webhookd.cli import main
from webhookd.cli.exits import Exit
from webhookd.config.environment import SECTIONS
from webhookd.core.attempt import ErrorClass
from webhookd.core.delivery import EndReason
from webhookd.core.endpoint import DisabledReason, Health
from webhookd.core.news import Cause, NewsType, Subject, of_death
from webhookd.metrics import OUTCOMES, Metrics, Readings
from webhookd.store.sqlite.retention import HELD_TOO_LONG

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE, GUARANTEES, OPERATIONS, PERFORMANCE = (
    ROOT / "docs" / f"{name}.md" for name in ("architecture", "guarantees", "operations", "performance")
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
CODE = re.compile(r"`([^`\n]+)`")


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def code_words(page: Path) -> list[str]:
    """Return what stands between single backticks."""
    return CODE.findall(prose(page))


def fenced(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def table_under(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its own heading."""
    after = page.read_text().split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\|\n)+", after, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.group().splitlines()[2:]]


@cache
def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def said_by_the_code() -> set[str]:
    """Return every text that stands in the package as a literal."""
    found: set[str] = set()
    for path in (ROOT / "webhookd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@cache
def names_of_tests(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@cache
def long_tests(path: Path) -> set[str]:
    """Return the tests that only run with `-m long`, whatever their parameters."""
    module = ast.parse(path.read_bytes())
    return {
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and "pytest.mark.long" in {ast.unparse(decorator) for decorator in [*node.decorator_list, *marks_of(module)]}
    }


def marks_of(module: ast.Module) -> Iterator[ast.expr]:
    """Yield what `pytestmark` of a module puts on all of its tests."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from node.value.elts if isinstance(node.value, ast.List) else [node.value]


def listed_log_lines() -> set[str]:
    """Return the messages in the table of log lines; some begin like a section of the configuration."""
    return {message for row in table_under(OPERATIONS, "### Logs") for message in CODE.findall(row[0])}


def metric_names() -> set[str]:
    readings = Readings(
        pending=0, held=0, oldest_due_timestamp_seconds=None, in_flight={}, endpoints={}, store_bytes=0, wal_bytes=0
    )
    families = text_string_to_metric_families(Metrics().render(readings).decode())
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def routes_with_roles() -> dict[str, str]:
    """Return the role that each route needs, by method and path."""
    return {route: str(role or "none") for route, role in roles_of_routes().items()}


def commands_on(page: Path) -> Iterator[list[str]]:
    """Yield the words of every call of webhookd that the page shows."""
    for text in code_words(page):
        if text.startswith("webhookd "):
            yield shlex.split(text)[1:]
    for block in fenced(page, "sh"):
        for call in re.findall(r"(?:^|\.venv/bin/|&& |\$\()webhookd ([^|&)\n>]*)", block, re.MULTILINE):
            yield shlex.split(re.sub(r'"\$\(.*', "ID", call))


@every_page
def test_links_lead_somewhere(page):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            missing.append(target)
    assert missing == []


def test_every_page_can_be_found_from_the_readme():
    linked = set(re.findall(r"\]\(([^)\s#]+)", prose(ROOT / "README.md")))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - {"README.md"} <= linked


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        for number, text in enumerate(fenced(page, "toml"))
    ],
)
def test_a_configuration_that_is_shown_is_valid(text, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("whsec_ZXhhbXBsZSBvbmx5LCBub3QgYSBzZWNyZXQ=\n")
    secret.chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(re.sub(r'^secret_file = ".*"$', f'secret_file = "{secret}"', text, flags=re.MULTILINE))
    settings = config.load_settings(path, environ={"HOME": str(tmp_path)})
    assert settings.warnings == ()


@every_page
def test_keys_that_are_named_exist(page):
    known = {f"{section}.{key.name}" for section, keys in SECTIONS.items() for key in keys}
    named = {
        match.group(1)
        for word in code_words(page)
        if (match := re.match(rf"((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?: = .*)?\Z", word))
    }
    assert named - known - listed_log_lines() == set()


def test_variables_that_are_named_exist():
    known = {f"WEBHOOKD_{section}__{key.name}".upper() for section, keys in SECTIONS.items() for key in keys}
    named = {name for page in PAGES for name in re.findall(r"WEBHOOKD_[A-Z]+__[A-Z_]+", page.read_text())}
    assert named
    assert named - known == set()


@every_page
def test_words_with_underscores_are_words_of_the_code(page):
    """Keys, reasons, classes and problems: whatever is written like a name must be one."""
    named = {
        match.group(1)
        for word in code_words(page)
        if (match := re.match(r"([a-z]+(?:_[a-z0-9]+)+)(?: = .*)?\Z", word)) and not word.startswith("webhookd_")
    }
    assert named - said_by_the_code() - {"sd_notify", "_litestream_seq", "_litestream_lock"} == set()


@every_page
def test_problems_that_are_named_exist(page):
    assert set(re.findall(r"urn:webhookd:problem:(\w+)", page.read_text())) - said_by_the_code() == set()


@every_page
def test_metrics_that_are_named_exist(page):
    named = set(re.findall(r"\bwebhookd_[a-z_]+", page.read_text()))
    assert {name.removesuffix("_bucket") for name in named} - metric_names() == set()


def test_the_table_of_metrics_is_complete():
    rows = table_under(OPERATIONS, "### Metrics")
    assert sorted(row[0].strip("`") for row in rows) == sorted(metric_names())
    (outcomes,) = [row[1] for row in rows if row[0] == "`webhookd_attempts_total`"]
    assert set(CODE.findall(outcomes)) - {"endpoint", "outcome"} == set(OUTCOMES)


@every_page
def test_routes_that_are_named_exist(page):
    named = {word for word in code_words(page) if re.match(r"(GET|POST|PUT|PATCH|DELETE) /", word)}
    assert named - routes_with_roles().keys() == set()


def test_the_table_of_routes_is_complete_with_roles():
    shown = {route: row[1] for row in table_under(OPERATIONS, "## HTTP API") for route in CODE.findall(row[0])}
    assert shown == routes_with_roles()


def test_for_every_alert_it_is_said_what_to_do():
    alerts = re.findall(r"- alert: (\w+)", "".join(fenced(OPERATIONS, "yaml")))
    assert [row[0].strip("`") for row in table_under(OPERATIONS, "### Alerts")] == alerts != []


def test_the_table_of_exit_codes_is_complete():
    assert [int(row[0]) for row in table_under(OPERATIONS, "## Exit codes")] == sorted(Exit)


def test_codes_that_are_not_restarted_are_those_of_the_unit():
    unit = (ROOT / "systemd" / "webhookd.service").read_text()
    (prevented,) = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    (said,) = re.findall(r"restarts after every failure but ([\d, and]+)\.", OPERATIONS.read_text())
    assert re.findall(r"\d+", said) == prevented.split()


def test_every_way_a_delivery_can_end_is_explained():
    rows = table_under(GUARANTEES, "## Delivery")
    reasons = {reason for row in rows for reason in CODE.findall(row[1])}
    assert reasons == {*map(str, EndReason), HELD_TOO_LONG}


def test_every_reason_for_disabling_is_explained():
    rows = table_under(GUARANTEES, "## When an endpoint is disabled")
    assert [row[0].strip("`") for row in rows] == [str(reason) for reason in DisabledReason]


def test_every_operational_event_is_explained():
    rows = table_under(OPERATIONS, "### Operational events")
    assert [row[0].strip("`") for row in rows] == [str(type_) for type_ in NewsType]


def test_the_operational_event_that_is_shown_is_one():
    work = builders.work(attempt_count=9)
    cause = Cause(work=work, outcome=builders.outcome(503))
    subject = Subject(id=builders.ORDERS, declared=True, tenant="default")
    (news,) = of_death(Health(), subject=subject, at_ms=0, cause=cause, end=EndReason.RETRIES_EXHAUSTED)
    shown = next(text for text in fenced(OPERATIONS, "json") if "webhookd.delivery.dead" in text)
    made, shown = json.loads(news.payload()), json.loads(shown)
    assert shown.keys() == made.keys()
    assert shown["endpoint"].keys() == made["endpoint"].keys()
    assert shown["delivery"].keys() == made["delivery"].keys()


def test_every_class_of_error_is_explained():
    rows = table_under(OPERATIONS, "## Trouble, by symptom")
    assert {row[0].strip("`") for row in rows} == {str(kind) for kind in ErrorClass}


def test_log_lines_that_are_listed_are_logged():
    listed = listed_log_lines()
    assert listed
    assert listed - said_by_the_code() == set()


@every_page
def test_commands_and_options_that_are_shown_exist(page):
    for words in commands_on(page):
        command: click.Command = main
        context = click.Context(main)
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(context, rest[0])
            assert found is not None, f"there is no command webhookd {' '.join(words)}"
            command = found
            rest.pop(0)
        # Not get_params: that would have click remember a help option made for this context, for all tests to come.
        options = {name for parameter in command.params for name in parameter.opts}
        options |= {"-h", "--help"}
        unknown = [word for word in rest if word.startswith("-") and word != "-" and word not in options]
        assert unknown == [], f"webhookd {' '.join(words)}"


def test_commands_are_found_on_the_pages():
    shown = [words for page in PAGES for words in commands_on(page)]
    assert ["serve"] in shown
    assert ["endpoints", "enable", "orders"] in shown


def benchmarks_on(page: Path) -> list[list[str]]:
    """Return the words of every call of the benchmarks that the page shows."""
    shown = [*code_words(page), *(line for block in fenced(page, "sh") for line in block.splitlines())]
    return [shlex.split(text, comments=True)[3:] for text in shown if text.startswith("python -m bench")]


@every_page
def test_benchmarks_that_are_shown_exist(page):
    for words in benchmarks_on(page):
        if "--help" not in words:
            parse_benchmark(words)


def test_every_benchmark_is_shown():
    assert {words[0] for words in benchmarks_on(PERFORMANCE) if words} >= BENCHMARKS.keys()


def test_the_tests_that_are_named_exist():
    named = NAMED_TEST.findall(GUARANTEES.read_text())
    assert len(named) == GUARANTEES.read_text().count("tests/")
    missing = [name for path, name in named if not (ROOT / path).is_file() or name not in names_of_tests(ROOT / path)]
    assert missing == []


def test_every_class_of_fault_names_its_test():
    rows = [row for row in table_under(GUARANTEES, "## Faults, and the tests that bring them about") if row[0]]
    assert list(dict.fromkeys(row[0] for row in rows)) == [f"F{number}" for number in range(1, 28)]
    assert [row[1] for row in rows if "`tests/" not in row[3]] == []


def test_the_tests_of_faults_are_called_long_where_they_are():
    for row in table_under(GUARANTEES, "## Faults, and the tests that bring them about"):
        quick, _, long = row[3].partition("long: ")
        for part, is_long in ((quick, False), (long, True)):
            wrong = [
                name for path, name in NAMED_TEST.findall(part) if (name in long_tests(ROOT / path)) is not is_long
            ]
            assert wrong == [], row[1]


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.split(r"[<>=!~]", dependency)[0] for dependency in project["dependencies"]]
    assert sorted(row[0] for row in table_under(ARCHITECTURE, "## Dependencies")) == sorted(needed)
