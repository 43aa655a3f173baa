"""What a benchmark is asked to do, and what it says about the machine it ran on."""

from __future__ import annotations

import os
import platform
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import disk, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run: the options of the command line."""

    events: int
    connections: int
    subjects: tuple[str, ...]
    rounds: int
    socket: str
    directory: Path
    profile: Path | None
    seconds: int
    pending: int
    rows: int

    def with_subjects(self, *names: str) -> Plan:
        """Return the same plan for other subjects, without a profile."""
        return replace(self, subjects=names, profile=None)

    def with_events(self, events: int) -> Plan:
        """Return the same plan for another number of events."""
        return replace(self, events=events)


def circumstances(plan: Plan, workplace: Path) -> dict[str, Any]:
    """Return what a figure has to be read with: machine, versions, the disk under `workplace`."""
    return {
        "events": plan.events,
        "connections": plan.connections,
        "payload_bytes": sample.PAYLOAD_BYTES,
        "socket": plan.socket,
        "rounds": plan.rounds,
        "directory": str(plan.directory),
        "fdatasync_ms": disk.sync_ms(workplace),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
