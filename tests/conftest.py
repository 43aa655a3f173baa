"""Fixtures that every kind of test may ask for."""

from __future__ import annotations

import pytest

from tests.kit.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """Provide a clock that stands still until the test lets time pass."""
    return VirtualClock()
