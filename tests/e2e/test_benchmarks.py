"""Every benchmark, at a small size: it reports its figures, counts no run that lost or doubled, and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import backlog, fanout, growth, idle, isolation, latency, runs, throughput
from bench.__main__ import BENCHMARKS, main
from bench.disk import file_system

ROOT = Path(__file__).parents[2]
MARK = "BENCHMARK_UNDER_TEST"
FAMILIES = ["throughput", "fanout", "latency", "backlog", "isolation", "idle"]
"""Those that run a subject each in its own way; batch, growth and tls measure as throughput does."""

SMALL = {
    "backlog": ["--pending", "60000"],
    "growth": ["--rows", "500"],
}


@pytest.fixture
def on_disk(short_path, monkeypatch):
    """Return a directory that a benchmark accepts."""
    if file_system(short_path, Path("/proc/self/mountinfo").read_text()) in {"tmpfs", "ramfs"}:
        pytest.skip("the temporary directory is in memory; TMPDIR on a disk brings this test back")
    monkeypatch.setenv(MARK, str(short_path))
    return short_path


@pytest.fixture
def small(monkeypatch):
    """Make benchmarks small whose size no option changes."""
    monkeypatch.setattr(runs, "LANES_OPEN_SECONDS", 0.0)
    for module in (growth, latency, throughput):
        monkeypatch.setattr(module, "WARM_UP_EVENTS", 100)
    monkeypatch.setattr(isolation, "TARPIT_SECONDS", 0.5)
    for module, endpoints in ((backlog, 20), (fanout, 5), (idle, 50), (isolation, 50)):
        monkeypatch.setattr(module, "ENDPOINTS", endpoints)


def asked(name, directory):
    sizes = ["--events", "200", "--rounds", "1", "--seconds", "1", "--connections", "8"]
    return [name, "--json", *sizes, *SMALL.get(name, []), "--dir", str(directory)]


def processes_of(directory):
    """Return the numbers of all processes started on behalf of the test that has this directory."""
    mark, found = f"{MARK}={directory}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_reports_figures_and_leaves_nothing(name, on_disk, small, capsys):
    assert main(asked(name, on_disk)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["benchmark"] == name
    figures = [
        *report.get("figures", {}).values(),
        *(run["events_per_second"] for run in report.get("runs", {}).values()),
    ]
    assert figures
    assert max(figures) > 0
    assert [one for one in report.get("goals", []) if one["measured"] < 0] == []
    assert list(on_disk.iterdir()) == []
    assert processes_of(on_disk) == []


@pytest.mark.parametrize("fault", ["lost", "doubled"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_that_lost_or_doubled_a_delivery_does_not_count(name, fault, on_disk, small, capsys, monkeypatch):
    monkeypatch.setattr(runs, "RECEIVER", ["-m", "tests.e2e.miscounting", fault, "--patience", "0.2"])
    assert main(asked(name, on_disk)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{name} failed: " in said.err
    assert "not delivered" in said.err or "came" in said.err
    assert list(on_disk.iterdir()) == []
    assert processes_of(on_disk) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_stopped_leaves_nothing(number, on_disk):
    arguments = [sys.executable, "-m", "bench", "--events", "1000000", "--dir", str(on_disk)]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        # The benchmark itself, the receiver, the bare pipeline, and the load that keeps it busy.
        while len(processes_of(on_disk)) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert said == b""
    assert list(on_disk.iterdir()) == []
    assert processes_of(on_disk) == []


def test_a_directory_in_memory_is_refused(capsys):
    assert main(["--dir", "/dev/shm", "--events", "1"]) == 1
    assert "is tmpfs" in capsys.readouterr().err
