"""Fixtures that every kind of test may ask for, and the logs of daemons beside the failures of their tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.kit import daemon
from tests.kit.clock import VirtualClock

# A machine that is busy with something else is no failure of the property.
settings.register_profile("webhookd", deadline=None, print_blob=True)
settings.load_profile("webhookd")


@pytest.fixture
def clock() -> VirtualClock:
    """Provide a clock that stands still until the test lets time pass."""
    return VirtualClock()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what daemons wrote to the report of a failure; without it an exit code is all there is to go by."""
    report = yield
    if report.failed:
        report.sections.extend(daemon.recent_logs())
    if report.when == "teardown":
        daemon.RECENT.clear()
    return report
