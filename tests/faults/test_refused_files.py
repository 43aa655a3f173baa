"""Files and directories that cannot be trusted: the process ends with one clear line and leaves all as it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon, running_daemon
from tests.kit.database_files import (
    FRAME_BYTES,
    PAGE_BYTES,
    Samples,
    flip,
    make_samples,
    overwrite,
    put,
    root_page,
    snapshot,
)
from tests.kit.fiu import Faults, needs_fiu
from webhookd.errors import SchemaVersionError, StoreCorruptError
from webhookd.store.sqlite import schema

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to own files as somebody else and to mount")
needs_unshare = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="needs mount namespaces: apt-get install util-linux, and root",
)
needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv: apt-get install util-linux")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return make_samples(tmp_path_factory.mktemp("samples"))


async def refusal(daemon: Daemon) -> tuple[int, str]:
    """Start a daemon that is not meant to come up; return its exit code and the one line in which it says why."""
    daemon.log_path.unlink(missing_ok=True)
    await daemon.start(ready=False)
    code = await daemon.wait()
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    (said,) = [line for line in lines if line["level"] not in {"info", "warning"}]
    assert said["exit_code"] == code
    assert "\n" not in said["reason"]
    return code, said["reason"]


def header_bytes_flipped(database: Path) -> None:
    flip(database, 21)


def schema_page_overwritten(database: Path) -> None:
    overwrite(database, 100, b"\xff" * 8)


def table_page_overwritten(database: Path) -> None:
    overwrite(database, (root_page(database, "events") - 1) * PAGE_BYTES, b"\xff" * 200)


def index_page_overwritten(database: Path) -> None:
    overwrite(database, (root_page(database, "deliveries_by_event") - 1) * PAGE_BYTES, b"\xff" * 200)


def page_zeroed(database: Path) -> None:
    overwrite(database, (root_page(database, "attempts") - 1) * PAGE_BYTES, bytes(PAGE_BYTES))


def cut_between_pages(database: Path) -> None:
    os.truncate(database, database.stat().st_size - PAGE_BYTES)


def cut_within_a_page(database: Path) -> None:
    os.truncate(database, database.stat().st_size - 1)


def text(database: Path) -> None:
    database.write_text("dear diary\n" * 1000)


def empty(database: Path) -> None:
    os.truncate(database, 0)


def log_of_another_database(database: Path) -> None:
    other = database.with_name("other.db")
    with closing(sqlite3.connect(other, isolation_level=None)) as db:
        db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000));")
        shutil.copy(f"{other}-wal", f"{database}-wal")
    other.unlink()


def log_damaged_in_the_middle(database: Path) -> None:
    log = database.with_name(f"{database.name}-wal")
    flip(log, 32 + 10 * FRAME_BYTES + 1000)


def log_header_damaged(database: Path) -> None:
    flip(database.with_name(f"{database.name}-wal"), 17)


@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        pytest.param("closed", header_bytes_flipped, "damaged", marks=pytest.mark.long),
        ("closed", schema_page_overwritten, "damaged"),
        pytest.param("closed", table_page_overwritten, "damaged", marks=pytest.mark.long),
        ("closed", index_page_overwritten, "damaged"),
        pytest.param("closed", page_zeroed, "damaged", marks=pytest.mark.long),
        pytest.param("closed", cut_between_pages, "damaged", marks=pytest.mark.long),
        ("closed", cut_within_a_page, "cut off"),
        pytest.param("closed", text, "not a SQLite database", marks=pytest.mark.long),
        ("closed", empty, "empty"),
        ("closed", log_of_another_database, "log of another"),
        ("crashed", page_zeroed, "damaged"),
        ("crashed", log_damaged_in_the_middle, "log is not valid"),
        ("crashed", log_header_damaged, "log is not valid"),
    ],
)
async def test_a_damaged_file_is_refused_in_one_line_and_not_touched(
    tmp_path: Path, samples: Samples, kind: str, damage: Callable[[Path], None], words: str
) -> None:
    async with running_daemon(tmp_path, {}, start=False) as daemon:
        put(getattr(samples, kind), daemon.database)
        damage(daemon.database)
        before = snapshot(daemon.database.parent)
        code, said = await refusal(daemon)
        assert code == 65
        assert said.startswith(f"{daemon.database} ")
        assert words in said
        assert "restore a backup, or move the file away" in said
        assert snapshot(daemon.database.parent) == before


async def test_any_damage_to_the_file_is_refused_or_harmless_and_never_written_over(
    tmp_path: Path, samples: Samples, seed: int, scale: int
) -> None:
    """What no check can find is a byte of a payload, or one that nothing is kept in."""
    chance, whole = random.Random(seed), (samples.closed / "webhookd.db").read_bytes()
    path, refused, unclear = tmp_path / "webhookd.db", 0, []
    rounds = 300 * scale
    for _ in range(rounds):
        damaged = bytearray(whole)
        page = chance.randrange(len(whole) // PAGE_BYTES) * PAGE_BYTES
        match chance.randrange(4):
            case 0:
                # The head of a page, which says what is on it.
                damaged[page + chance.randrange(8)] ^= chance.randrange(1, 256)
            case 1:
                at = page + chance.randrange(PAGE_BYTES - 64)
                damaged[at : at + 64] = chance.randbytes(64)
            case 2:
                damaged[page : page + PAGE_BYTES] = bytes(PAGE_BYTES)
            case _:
                del damaged[chance.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            schema.inspect(path)
        except (StoreCorruptError, SchemaVersionError) as error:
            refused += 1
            unclear += [str(error)] if "\n" in str(error) or not str(error).startswith(f"{path} ") else []
        assert snapshot(tmp_path) == {"webhookd.db": hashlib.sha256(damaged).hexdigest()}
    assert unclear == []
    assert refused > rounds * 0.6


async def test_one_wrong_byte_anywhere_in_a_log_is_refused(
    tmp_path: Path, samples: Samples, seed: int, scale: int
) -> None:
    """SQLite would take it for the end of the log. The last commit is the exception: that a crash may cut short."""
    chance, log = random.Random(seed), (samples.crashed / "webhookd.db-wal").read_bytes()
    path = tmp_path / "webhookd.db"
    shutil.copy(samples.crashed / "webhookd.db", path)
    starts = range(32, len(log), FRAME_BYTES)
    current = [start for start in starts if log[start + 8 : start + 16] == log[16:24]]
    commits = [start for start in current if log[start + 4 : start + 8] != bytes(4)]
    assert len(commits) > 20
    for _ in range(100 * scale):
        damaged = bytearray(log)
        damaged[chance.randrange(commits[-2])] ^= chance.randrange(1, 256)
        path.with_name("webhookd.db-wal").write_bytes(damaged)
        with pytest.raises(StoreCorruptError, match="log is not valid"):
            schema.inspect(path)
        assert path.with_name("webhookd.db-wal").read_bytes() == damaged


@needs_fiu
async def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, short_path: Path, samples: Samples) -> None:
    faults = Faults(short_path)
    faults.at_start = [f"enable name=posix/io/rw/pread,failinfo={errno.EIO}"]
    async with running_daemon(tmp_path, {}, start=False, command=faults.command) as daemon:
        put(samples.closed, daemon.database)
        before = snapshot(daemon.database.parent)
        code, said = await refusal(daemon)
        assert code == 65
        assert said.startswith(f"{daemon.database} cannot be read")
        assert "look at the disk" in said
        assert snapshot(daemon.database.parent) == before


def pipe(database: Path) -> None:
    os.mkfifo(database)


def directory(database: Path) -> None:
    database.mkdir()


def dangling_link(database: Path) -> None:
    database.symlink_to("nowhere.db")


@pytest.mark.parametrize("kind", [pipe, directory, dangling_link])
async def test_what_is_no_file_is_refused(tmp_path: Path, kind: Callable[[Path], None]) -> None:
    async with running_daemon(tmp_path, {}, start=False) as daemon:
        kind(daemon.database)
        code, said = await refusal(daemon)
        assert code == 78
        assert str(daemon.database) in said
        assert snapshot(daemon.database.parent) == {"webhookd.db": "no file"}


WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def directory_read_only(state: Path) -> None:
    """All files are there and may be written, but SQLite could not make its log."""
    (state / "webhookd.lock").touch()
    state.chmod(0o500)


def directory_of_another(state: Path) -> None:
    os.chown(state, 65534, 65534)


def file_read_only(state: Path) -> None:
    (state / "webhookd.db").chmod(0o400)


def file_of_another(state: Path) -> None:
    os.chown(state / "webhookd.db", 65534, 65534)


@needs_root
@needs_setpriv
@pytest.mark.parametrize("kind", [directory_read_only, directory_of_another, file_read_only, file_of_another])
async def test_what_belongs_to_others_is_refused_and_named_with_the_user(
    tmp_path: Path, samples: Samples, kind: Callable[[Path], None]
) -> None:
    """Root without privileges is a user like any other who happens to be able to read Python."""
    command = (*WITHOUT_PRIVILEGES, sys.executable, "-m", "webhookd")
    async with running_daemon(tmp_path, {}, start=False, command=command) as daemon:
        state = daemon.database.parent
        put(samples.closed, daemon.database)
        before = snapshot(state)
        kind(state)
        code, said = await refusal(daemon)
        assert code == 78
        assert str(state) in said
        assert "user id 0" in said
        assert snapshot(state) == before


@needs_root
@needs_unshare
async def test_a_read_only_file_system_is_refused(tmp_path: Path, samples: Samples) -> None:
    state = tmp_path / "state"
    mounting = f'mount --bind "{state}" "{state}" && mount -o remount,bind,ro "{state}" && exec "$@"'
    command = ("unshare", "-m", "sh", "-c", mounting, "sh", sys.executable, "-m", "webhookd")
    async with running_daemon(tmp_path, {}, start=False, command=command) as daemon:
        put(samples.crashed, daemon.database)
        before = snapshot(state)
        code, said = await refusal(daemon)
        assert code == 78
        assert str(state) in said
        assert "user id 0" in said
        assert snapshot(state) == before


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, {"store": {"path": "/proc/webhookd/webhookd.db"}}, start=False) as daemon:
        code, said = await refusal(daemon)
        assert code == 78
        assert "/proc/webhookd" in said
