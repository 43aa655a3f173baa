"""Looks at the system calls of a running daemon, or makes some of them fail, by strace."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")


@contextlib.asynccontextmanager
async def tracing(daemon: Daemon, log: Path, *options: str) -> AsyncIterator[None]:
    """Have strace look at the daemon inside, and write to `log`; it ends with the daemon or at the end."""
    strace = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-o", str(log), *options, "-p", str(daemon.pid)), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert strace.stderr is not None
        said = b""
        async with asyncio.timeout(20):
            while b"attached" not in said:
                line = await strace.stderr.readline()
                assert line, said.decode()
                said += line
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            strace.terminate()
        await strace.communicate()
