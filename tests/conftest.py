"""Fixtures that every kind of test may ask for, and the logs of daemons beside the failures of their tests."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kit import daemon
from tests.kit.clock import VirtualClock

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell leaves it for what runs in the background; commands that are to be ended by it would ignore it too.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy with something else is no failure of the property.
settings.register_profile("webhookd", deadline=None, print_blob=True)
settings.load_profile("webhookd")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what makes the random and the repeated tests other or longer than at each commit."""
    group = parser.getgroup("webhookd")
    group.addoption("--seed", type=int, default=1, help="where random histories, kills and networks begin (default: 1)")
    group.addoption("--scale", type=int, default=1, help="how many times as many of them as usual (default: 1)")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the number that all randomness of the test begins with; it is part of the report of a failure."""
    return int(request.config.getoption("--seed"))


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    """Return how many times as often as usual the test is to repeat what it does."""
    return int(request.config.getoption("--scale"))


@pytest.fixture
def clock() -> VirtualClock:
    """Provide a clock that stands still until the test lets time pass."""
    return VirtualClock()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Lend a directory whose name leaves room for sockets in it: their addresses end at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="wd") as name:
        yield Path(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what daemons wrote to the report of a failure; without it an exit code is all there is to go by."""
    report = yield
    if report.failed:
        report.sections.extend(daemon.recent_logs())
        if "seed" in getattr(item, "fixturenames", ()):
            report.sections.append(("to repeat it", f"pytest {item.nodeid} --seed {item.config.getoption('--seed')}"))
    if report.when == "teardown":
        daemon.RECENT.clear()
    return report
