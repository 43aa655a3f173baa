"""Breaks a promise on purpose, in a copy of the package, and sees the test that is to notice go red.

A row stands for a mistake that somebody might make. Its edits must each fit exactly one place, so that a row that no
longer says anything is noticed too; all its tests must be green without them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("webhookd", "tests", "pyproject.toml")
LONGEST_SECONDS = 300

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """In `file` of the package, `new` in the one place of `old`."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        path = root / "webhookd" / self.file
        text = path.read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.file} has this {text.count(self.old)} times:\n{self.old}"
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A mistake, and the tests each of which must notice it; a test stands below `tests` and may name one case."""

    name: str
    edits: tuple[Edit, ...]
    noticed_by: tuple[str, ...]


WAY = (
    "faults/test_crashpoints.py::"
    "test_on_the_way_of_an_event_what_was_acknowledged_is_delivered_once_or_known_to_be_sent_again"
)
ORDER = "faults/test_durability_order.py::"
POWER = "faults/test_power_loss.py::test_nothing_acknowledged_is_lost_with_the_power"
REFUSED = (
    "faults/test_refused_rows.py::"
    "test_what_was_refused_is_not_in_the_file_and_does_not_go_in_with_the_next[full-left open]"
)
NEIGHBOURS = "integration/store/test_writer.py::test_a_call_that_cannot_be_stored_does_not_fail_its_neighbours"
MIGRATION = "faults/test_upgrades.py::test_a_crash_in_a_migration_leaves_the_schema_of_before_or_of_after"
BACKUP = "faults/test_crashpoints.py::test_in_a_backup_its_target_is_whole_or_as_it_was"
SPELLING = "integration/net/test_guard.py::test_no_spelling_of_a_private_address_is_connected_to"

MUTATIONS = [
    Mutation(
        name="an answer before the commit",
        edits=(
            Edit(
                file="engine/intake.py",
                old="        committed.add_done_callback(answer)\n",
                new="        for submissions, answered in handed_in:\n"
                "            answered([Acceptance(one.event.id, duplicate=False, deliveries=len(one.deliveries))"
                " for one in submissions])\n"
                "        handed_in = [(submissions, lambda _: None) for submissions, _ in handed_in]\n"
                "        committed.add_done_callback(partial(self._committed, handed_in))\n",
            ),
        ),
        noticed_by=(
            f"{WAY}[intake.before-commit]",
            f"{ORDER}test_no_202_leaves_before_the_fdatasync_that_covers_it_has_returned",
        ),
    ),
    Mutation(
        name="a request before the commit",
        edits=(
            Edit(
                file="engine/intake.py",
                old="        committed.add_done_callback(answer)\n",
                new="        committed.add_done_callback(answer)\n"
                "        owed = []\n"
                "        for submissions, _ in handed_in:\n"
                "            for submission in submissions:\n"
                "                _add_work(owed, submission)\n"
                "        self._dispatcher.offer(owed)\n",
            ),
        ),
        noticed_by=(f"{ORDER}test_no_request_leaves_before_the_event_it_carries_is_on_disk",),
    ),
    Mutation(
        name="a commit that is not synced",
        edits=(
            Edit(file="store/sqlite/session.py", old="PRAGMA synchronous = FULL;", new="PRAGMA synchronous = NORMAL;"),
        ),
        noticed_by=(POWER, f"{ORDER}test_no_202_leaves_before_the_fdatasync_that_covers_it_has_returned"),
    ),
    Mutation(
        name="no rollback",
        edits=(Edit(file="store/sqlite/transaction.py", old="            _roll_back(db)\n", new=""),),
        noticed_by=(REFUSED, NEIGHBOURS),
    ),
    Mutation(
        name="a commit in place of the rollback",
        edits=(Edit(file="store/sqlite/transaction.py", old='db.execute("ROLLBACK")', new='db.execute("COMMIT")'),),
        noticed_by=(REFUSED, NEIGHBOURS),
    ),
    Mutation(
        name="a migration without a transaction around it",
        edits=(
            Edit(
                file="store/sqlite/schema.py",
                old="                    db.execute(statement)\n",
                new='                    db.execute(statement)\n                    db.execute("COMMIT")\n'
                '                    db.execute("BEGIN IMMEDIATE")\n',
            ),
        ),
        noticed_by=(f"{MIGRATION}[start.migration-half-2-False]",),
    ),
    Mutation(
        name="a new database made under its own name",
        edits=(
            Edit(
                file="store/sqlite/schema.py",
                old='    draft = path.with_name(f"{path.name}.new")\n',
                new="    draft = path\n",
            ),
        ),
        noticed_by=("faults/test_crashpoints.py::test_in_the_making_of_a_new_file[start.creation-half]",),
    ),
    Mutation(
        name="a backup made under its own name",
        edits=(
            Edit(
                file="store/sqlite/backup.py",
                old="        passing = directory / _passing_name(self._database)\n",
                new="        passing = self._target\n",
            ),
        ),
        noticed_by=(f"{BACKUP}[backup.torn-new]", f"{BACKUP}[backup.torn-replaced]"),
    ),
    Mutation(
        name="a redirect followed",
        edits=(
            Edit(
                file="net/response.py",
                old="            self.retry_after = value\n",
                new="            self.retry_after = value\n"
                '        elif name.lower() == b"location":\n            LOCATIONS.append(value.decode())\n',
            ),
            Edit(file="net/response.py", old="MAX_INTERIM = 8\n", new="MAX_INTERIM = 8\nLOCATIONS = []\n"),
            Edit(
                file="net/sender.py",
                old="        if isinstance(outcome, Exception):\n",
                new="        from dataclasses import replace\n"
                "        from webhookd.net.response import LOCATIONS\n"
                "        if LOCATIONS:\n"
                "            return await self.send(work, replace(endpoint, url=LOCATIONS.pop()))\n"
                "        if isinstance(outcome, Exception):\n",
            ),
        ),
        noticed_by=("integration/net/test_guard.py::test_a_redirect_is_an_answer_and_not_followed",),
    ),
    Mutation(
        name="addresses judged by what the standard library calls global",
        edits=(
            Edit(
                file="core/addresses.py",
                old="    if isinstance(address, IPv4Address):\n        return next(",
                new='    return None if address.is_global else "not global"\n'
                "    if isinstance(address, IPv4Address):\n        return next(",
            ),
        ),
        noticed_by=(
            "faults/test_ssrf.py::test_the_rules_refuse_and_allow_what_the_corpus_says",
            f"{SPELLING}[uvloop-[64:ff9b::7f00:1]-https]",
        ),
    ),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of the package and its tests that may be changed."""
    root = tmp_path / "copy"
    root.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    return root


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python over the copy, and over nothing of this checkout."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    environment = {**inherited, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )


def ran(root: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    seen = run(root, "-c", "import tests, webhookd; print(tests.__file__, webhookd.__file__)")
    assert seen.stdout.split() == [str(root / "tests/__init__.py"), str(root / "webhookd/__init__.py")], seen.stderr
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "long or not long")
    return run(root, *options, *(f"tests/{test}" for test in tests))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_is_noticed(copy: Path, mutation: Mutation) -> None:
    for edit in mutation.edits:
        edit.apply(copy)
    result = ran(copy, *mutation.noticed_by)
    # 1 is a test that failed; 2 to 5 are a run that did not come that far.
    assert result.returncode == 1, result.stdout + result.stderr
    for test in mutation.noticed_by:
        assert f"FAILED tests/{test}" in result.stdout, result.stdout
    counts = result.stdout.splitlines()[-1]
    assert not re.search(r"error|passed|skipped", counts), counts


def test_without_them_the_same_tests_are_green(copy: Path) -> None:
    result = ran(copy, *sorted({test for mutation in MUTATIONS for test in mutation.noticed_by}))
    assert result.returncode == 0, result.stdout + result.stderr
    counts = result.stdout.splitlines()[-1]
    assert not re.search(r"error|failed|skipped", counts), counts
