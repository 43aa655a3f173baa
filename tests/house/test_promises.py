"""What the repository says about itself is so: its commands, its version, its packaging, its imports."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import webhookd

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def marked_command(name: str) -> str:
    """Read the one line in the fence directly under `<!-- command: name -->` of README.md."""
    blocks = re.findall(
        rf"^<!-- command: {name} -->\n```\w*\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 1, f"README.md needs exactly one fence marked as command {name!r}"
    return str(blocks[0])


def test_ci_runs_the_commands_of_the_readme():
    printed = subprocess.run([ROOT / ".ci/run", "--print-commands"], check=True, capture_output=True, text=True)
    assert printed.stdout.splitlines() == [marked_command("test"), marked_command("demo") + " --once"]


@pytest.mark.parametrize("name", ["demo", "test"])
def test_a_command_of_the_readme_starts_from_nothing(name):
    command = marked_command(name)
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_changelog_speaks_of_this_version():
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading.lower() != "unreleased"]
    assert released[:1] == [webhookd.__version__]


def test_every_file_of_the_package_is_installed_with_it():
    """A file that is not Python is left out of an installation unless package-data names it."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["webhookd"]
    package = ROOT / "webhookd"
    data = [path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert package / "py.typed" in data
    left_out = [
        str(path.relative_to(package))
        for path in data
        # Globs of setuptools, where `**/` also stands for no folder at all.
        if not any(fnmatch(str(path.relative_to(package)), pattern.removeprefix("**/")) for pattern in patterns)
    ]
    assert left_out == []


def test_every_folder_of_the_package_is_a_package():
    """A folder without `__init__.py` works from the checkout and is missing from an installation."""
    folders = {path.parent for path in (ROOT / "webhookd").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
