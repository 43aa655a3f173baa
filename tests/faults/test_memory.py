"""Memory: what producers send is held within a bound, and a process that gets no more ends and is started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
from pathlib import Path
from typing import Any

from tests.kit.daemon import Daemon, running_daemon
from tests.kit.producers import Producers, require_nothing_lost
from tests.kit.receiver import Receiver

MIB = 1024 * 1024
CONNECTIONS = 150
BODY_BYTES = 2 * MIB
BUDGET_BYTES = 64 * MIB


def to(receiver: Receiver) -> dict[str, Any]:
    rules = {"signatures": [], "jitter": 0, "retry": ["1s"] * 20}
    return {"store": {"min_free": "0B"}, "endpoints": {"orders": {"url": receiver.url, **rules}}}


def memory_bytes(daemon: Daemon, figure: str) -> int:
    """Return one of the figures of /proc, such as VmHWM, the most that was ever resident."""
    found = re.search(rf"^{figure}:\s+(\d+) kB", Path(f"/proc/{daemon.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def head(size_bytes: int) -> bytes:
    lines = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    return f"{lines}Content-Length: {size_bytes}\r\n\r\n".encode()


async def test_bodies_that_never_end_are_held_within_their_budget(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        before = memory_bytes(daemon, "VmHWM")

        async def send_all_but_the_end() -> tuple[bytes, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_unix_connection(str(daemon.ingest_socket))
            answer = b""
            try:
                writer.write(head(BODY_BYTES) + b"x" * (BODY_BYTES - 1))
                await asyncio.wait_for(writer.drain(), 4)
                answer = await asyncio.wait_for(reader.read(200), 2)
            except (OSError, TimeoutError):
                pass
            return answer, writer

        done = await asyncio.gather(*(send_all_but_the_end() for _ in range(CONNECTIONS)))
        refused = [answer for answer, _ in done if answer.startswith(b"HTTP/1.1 503 ")]
        # The others wait for the rest of theirs, and are forgotten with it.
        assert len(refused) >= CONNECTIONS - BUDGET_BYTES // BODY_BYTES - 10
        assert memory_bytes(daemon, "VmHWM") - before < BUDGET_BYTES * 2
        assert (await daemon.get("/healthz")).status == 200
        for _, writer in done:
            writer.close()
        producers = Producers(daemon)
        assert (await producers.hand_in()).status == 202
        await require_nothing_lost(producers, receiver)


async def test_without_memory_the_process_ends_and_nothing_is_lost(tmp_path: Path) -> None:
    body = (json.dumps({"type": "order.completed", "payload": "x" * 200_000}).encode() + b"\n") * 60
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        producers = Producers(daemon)
        async with producers.working(4):
            await receiver.wait_for(100)
            limit = memory_bytes(daemon, "VmSize") + 8 * MIB
            resource.prlimit(daemon.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

            async def ask_for_too_much() -> None:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_unix_connection(str(daemon.ingest_socket))
                    writer.write(head(len(body)) + body)
                    await writer.drain()
                    await reader.read(200)
                    writer.close()

            asking = [asyncio.create_task(ask_for_too_much()) for _ in range(8)]
            assert await daemon.wait(20) == 70
            await asyncio.gather(*asking)
        assert [entry["reason"] for entry in daemon.log_entries("daemon.failed")] == ["out of memory"]
        await daemon.start()
        await require_nothing_lost(producers, receiver)
