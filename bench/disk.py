"""The disk under a measurement: a directory of its own on a file system that really writes, and how fast it does."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.processes import MeasurementError

DEFAULT = Path("/var/tmp")  # noqa: S108 - unlike /tmp it is on a disk nearly everywhere; what is made in it is private
_IN_MEMORY = {"tmpfs", "ramfs"}
_WRITES = 200
_PAGE = b"x" * 4096


def file_system(directory: Path, mounts: str) -> str:
    """Return the type of the file system that holds `directory`, from the text of /proc/self/mountinfo (proc(5))."""
    found, kind = "", "unknown"
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        if len(mount) >= len(found) and directory.is_relative_to(mount):
            found, kind = mount, right.split()[0]
    return kind


@contextlib.contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """Lend a new directory in `parent`, removed at the end; MeasurementError where nothing would reach a disk."""
    if not parent.is_dir():
        raise MeasurementError(f"{parent} is not a directory")
    kind = file_system(parent.resolve(), Path("/proc/self/mountinfo").read_text())
    if kind in _IN_MEMORY:
        raise MeasurementError(f"{parent} is {kind}, where durability costs nothing; name another with --dir")
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-", dir=parent) as made:
        yield Path(made)


def room(workplace: Path, name: str) -> Path:
    """Return a new directory of this name."""
    made = workplace / name
    made.mkdir()
    return made


def sync_ms(directory: Path) -> float:
    """Return the median time of fdatasync after a page was appended, in milliseconds."""
    took = []
    path = directory / "sync"
    with path.open("wb", buffering=0) as file:
        for _ in range(_WRITES):
            file.write(_PAGE)
            begun = perf_counter()
            os.fdatasync(file.fileno())
            took.append(perf_counter() - begun)
    path.unlink()
    return median(took) * 1000
