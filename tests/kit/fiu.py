"""Makes system calls of a running process fail as a test says, by libfiu, unknown to the process itself."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

needs_fiu = pytest.mark.skipif(
    shutil.which("fiu-run") is None or shutil.which("fiu-ctrl") is None,
    reason="needs fiu-run and fiu-ctrl: apt-get install fiu-utils",
)

_CONTROL_SECONDS = 20.0


class Faults:
    """What fails in the processes that are started by `command`; nothing does until `enable`.

    A point is one of those that `fiu-ls` lists, such as `posix/io/sync/fdatasync`; it is the same for every file.
    """

    def __init__(self, directory: Path) -> None:
        self._prefix = directory / "fiu"
        self.at_start: list[str] = []
        """What is told to the next process at its start, such as `enable name=posix/io/sync/fdatasync,failinfo=5`."""

    @property
    def command(self) -> list[str]:
        """What to run the daemon by; it becomes the daemon, so its process id is the daemon's."""
        orders = [part for order in self.at_start for part in ("-c", order)]
        return ["fiu-run", "-x", *orders, "-f", str(self._prefix), sys.executable, "-m", "webhookd"]

    async def enable(self, pid: int, point: str, number: int, *, once: bool = False) -> None:
        """Let the calls of `point` fail with the errno `number`, or only the next one."""
        await self._tell(pid, f"enable name={point},failinfo={number}" + (",onetime" if once else ""))

    async def disable(self, pid: int, point: str) -> None:
        """Let the calls of `point` go through again."""
        await self._tell(pid, f"disable name={point}")

    async def _tell(self, pid: int, order: str) -> None:
        control = await asyncio.create_subprocess_exec("fiu-ctrl", "-f", str(self._prefix), "-c", order, str(pid))
        try:
            async with asyncio.timeout(_CONTROL_SECONDS):
                code = await control.wait()
        except TimeoutError:
            # It waits in a pipe that the process does not read.
            control.kill()
            await control.wait()
            raise
        if code != 0:
            raise RuntimeError(f"fiu-ctrl ended with {code} at: {order}")
