"""The real daemon against receivers that misbehave on the wire: each has its outcome in time, and a neighbour its due.

All of them misbehave at once, in one daemon, while the neighbour is sent events without a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit import daemon as kit
from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.hostile_receivers import (
    EXCERPT_BYTES,
    OK,
    QUICK_SECONDS,
    ROWS,
    SLACK_SECONDS,
    ZEROS,
    Hostile,
    Row,
    length_of,
)
from tests.kit.receiver import Receiver, Reply, Request
from webhookd.api.shapes import excerpt_text

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(slots=True, kw_only=True)
class Seen:
    """What became of all rows, and how the neighbour fared meanwhile."""

    daemon: Daemon
    attempts: dict[str, dict[str, Any]]
    neighbour_seconds: list[float]
    connections: dict[str, int]
    grown_bytes: int


def memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


async def attempts_of(daemon: Daemon, delivery: str) -> list[dict[str, Any]]:
    """Return the attempts at a delivery."""
    found: list[dict[str, Any]] = (await daemon.get(f"/v1/deliveries/{delivery}")).json()["attempts"]
    return found


async def attempt_at(daemon: Daemon, kind: str, row: Row) -> dict[str, Any]:
    """Hand in an event and return the first attempt at its only delivery."""
    event = (await daemon.send(kind, "x" * row.size_bytes))["id"]

    (delivery,) = (await daemon.get(f"/v1/deliveries?event={event}")).json()["data"]
    made = await eventually(lambda: attempts_of(daemon, delivery["id"]), timeout_seconds=60, every_seconds=0.1)
    return made[0]


@contextlib.asynccontextmanager
async def busy_neighbour(daemon: Daemon, receiver: Receiver, seconds: list[float]) -> AsyncIterator[None]:
    """Hand in one event after another for a healthy endpoint and note how long each took to arrive."""

    async def send() -> None:
        while True:
            begun, seen = time.monotonic(), receiver.count
            await daemon.send("healthy", {"n": seen})
            await receiver.wait_for(seen + 1, 30)
            seconds.append(time.monotonic() - begun)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        daemon = await stack.enter_async_context(running_daemon(tmp_path_factory.mktemp("daemon")))
        await daemon.post("/v1/endpoints", {"id": "healthy", "url": receiver.url, "types": ["healthy"]})
        hostile: dict[str, Hostile] = {}
        for number, (name, row) in enumerate(ROWS.items()):
            hostile[name] = Hostile(row)
            await hostile[name].start()
            stack.push_async_callback(hostile[name].stop)
            endpoint = {
                "id": f"row-{number}",
                "url": f"{'https' if row.tls else 'http'}://127.0.0.1:{hostile[name].port}/",
                "types": [f"row.{number}"],
                "retry": ["1d"],
                "timeout": f"{row.timeout_seconds}s",
                "connect_timeout": f"{row.timeout_seconds}s",
            }
            assert (await daemon.post("/v1/endpoints", endpoint)).status == 201
        seconds: list[float] = []
        before = memory_bytes(daemon.pid)

        async def play(number: int, row: Row) -> dict[str, Any]:
            attempt = await attempt_at(daemon, f"row.{number}", row)
            if row.status is not None:
                # At once, while a connection that was wrongly kept would be used again.
                again = await attempt_at(daemon, f"row.{number}", row)
                assert again["status"] == attempt["status"]
            return attempt

        async with busy_neighbour(daemon, receiver, seconds):
            playing = [play(number, row) for number, row in enumerate(ROWS.values())]
            attempts = dict(zip(ROWS, await asyncio.gather(*playing), strict=True))
        yield Seen(
            daemon=daemon,
            attempts=attempts,
            neighbour_seconds=seconds,
            connections={name: one.connections for name, one in hostile.items()},
            grown_bytes=memory_bytes(daemon.pid) - before,
        )
        assert await daemon.terminate() == 0


@pytest.fixture
def seen(shared: Seen) -> Seen:
    # The list is emptied after each test, and this daemon outlives them.
    kit.RECENT.append(shared.daemon)
    return shared


@pytest.mark.parametrize("name", ROWS)
async def test_a_hostile_receiver_has_the_outcome_it_deserves_in_time(seen: Seen, name: str) -> None:
    row, attempt = ROWS[name], seen.attempts[name]
    error = attempt["error"] or {"class": None, "text": ""}
    assert (attempt["status"], error["class"]) == (row.status, row.error), attempt
    assert row.why in error["text"]
    assert attempt["duration_ms"] / 1000 < row.within_seconds
    if row.excerpt is not None:
        # On a machine under load, the two seconds for an excerpt may be over before it is full.
        is_long = len(row.excerpt) == EXCERPT_BYTES
        expected = excerpt_text(row.excerpt)
        assert expected.startswith(attempt["excerpt"]) if is_long else attempt["excerpt"] == expected


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.status and not row.may_be_kept])
async def test_a_connection_with_anything_wrong_about_it_is_not_used_again(seen: Seen, name: str) -> None:
    assert seen.connections[name] == 2


async def test_a_clean_connection_is(seen: Seen) -> None:
    # A machine that is slow enough lets it grow too old.
    counted = {seen.connections[name] for name, row in ROWS.items() if row.may_be_kept}
    assert counted <= {1, 2}
    assert 1 in counted


async def test_a_healthy_neighbour_is_served_meanwhile(seen: Seen) -> None:
    seconds = sorted(seen.neighbour_seconds)
    assert len(seconds) > 20
    assert seconds[len(seconds) // 2] < 1
    assert seconds[-1] < QUICK_SECONDS + SLACK_SECONDS


async def test_no_body_is_decoded_or_kept(seen: Seen) -> None:
    # Every bomb would be fifty megabytes, and nothing that is endless may be held for longer than its excerpt.
    assert seen.grown_bytes < ZEROS


async def test_nothing_of_it_is_our_own_failure(seen: Seen) -> None:
    assert "Traceback" not in seen.daemon.log
    assert {attempt["error"]["class"] for attempt in seen.attempts.values() if attempt["error"]} == {
        "protocol",
        "timeout",
        "tls",
    }


LATER = b"HTTP/1.1 500 Surprise\r\nContent-Length: 0\r\n\r\n"


async def test_an_answer_that_nobody_asked_for_is_not_that_of_the_next_request(tmp_path: Path) -> None:
    """Each request has 200 for its answer; behind it comes a 500: with it, in a packet of its own, or later.

    The next event is handed in as soon as that has been sent: a 500 still on its way could not be told from an answer.
    """
    connections = 0
    surprised = asyncio.Semaphore(0)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(length_of(head))
                # asyncio sends at once what finds its buffer empty.
                for piece in (OK + LATER,) if connections % 3 == 0 else (OK, LATER):
                    if connections % 3 == 1 and piece is LATER:
                        await asyncio.sleep(0.01)
                    writer.write(piece)
                surprised.release()
        writer.close()

    server = await asyncio.start_server(behave, "127.0.0.1", 0)
    async with server, running_daemon(tmp_path) as daemon:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await daemon.post("/v1/endpoints", {"url": url, "types": ["*"], "ordered": True, "retry": ["1d"]})
        for n in range(40):
            await daemon.send("order.paid", {"n": n})
            await asyncio.wait_for(surprised.acquire(), 20)
        assert {delivery["state"] for delivery in await daemon.settled()} == {"delivered"}
        assert connections == 40


NASTY = b'\x1b[2J\x1b]0;owned\x07\r\n{"level":"error"}\n\x00\x9b\xff\xe2\x80\xae\xc2\x9b end'


async def test_control_bytes_of_an_answer_reach_no_terminal_and_no_line_of_the_log(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path) as daemon:
        receiver.script(Reply(status=500, body=NASTY))
        keys = {"id": "nasty", "url": receiver.url, "types": ["*"], "retry": ["1d"]}
        assert (await daemon.post("/v1/endpoints", keys)).status == 201
        await daemon.send("order.paid", {})
        await receiver.wait_for(1)
        (delivery,) = await daemon.deliveries()
        shown = await eventually(lambda: attempts_of(daemon, delivery["id"]))
        excerpt = shown[0]["excerpt"]
        assert "end" in excerpt
        assert [character for character in excerpt if unicodedata.category(character) in {"Cc", "Cf"}] == []
        for command in (
            ["deliveries", "show", delivery["id"]],
            ["endpoints", "test", "nasty"],
            ["endpoints", "show", "nasty"],
        ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "webhookd", *command, "--server", daemon.url),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            printed = (await process.communicate())[0].decode()
            assert [c for c in printed if unicodedata.category(c) in {"Cc", "Cf"} and c != "\n"] == []
            assert '{"level":"error"}\n' not in printed
        assert "owned" not in daemon.log
        assert all(line.startswith('{"time"') for line in daemon.log.splitlines())


HONOURED = {
    "seconds": "2",
    "fixed date": "{:%a, %d %b %Y %H:%M:%S} GMT",
    "date of RFC 850": "{:%A, %d-%b-%y %H:%M:%S} GMT",
    "date of asctime": "{:%a %b %d %H:%M:%S %Y}",
    "far too long": "999999999",
    "year 9999": "Fri, 31 Dec 9999 23:59:59 GMT",
}
IGNORED = [
    "nan",
    "inf",
    "1e309",
    "-1",
    "+1",
    "9" * 400,
    "1.5",
    "0x10",
    "",
    "soon",
    "1, 2",
    "\xb2",
    "Fri, 31 Dec 99999 23:59:59 GMT",
]
PAST = ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "Thursday, 01-Jan-70 00:00:00 GMT", "Thu Jan  1 00:00:00 1970"]
WAIT_SECONDS = 2.0


async def test_retry_after_is_honoured_in_every_form_it_has_and_within_bounds(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path) as daemon:
        rows = [*HONOURED.values(), *IGNORED, *PAST]
        for number, value in enumerate(rows):
            longest = f"{WAIT_SECONDS}s" if number < len(HONOURED) else "1h"
            keys = {
                "id": f"row-{number}",
                "url": f"{receiver.url}/{number}",
                "types": ["busy"],
                "retry": ["10ms"] * 3,
                "jitter": 0,
                "retry_after_max": longest,
            }
            assert (await daemon.post("/v1/endpoints", keys)).status == 201

            def busy(_: Request, value: str = value) -> Reply:
                # Whole seconds are cut off, so one more than the bound.
                later = datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS + 1)
                return Reply(status=503, headers=(("Retry-After", value.format(later)),))

            receiver.script(busy, 200, path=f"/{number}")
        await daemon.send("busy", {})
        await receiver.wait_for(2 * len(rows), 30)
        for number, value in enumerate(rows):
            first, second = receiver.at(f"/{number}")
            if number < len(HONOURED):
                assert second.at - first.at > WAIT_SECONDS - 0.2, value
            else:
                assert second.at - first.at < 20, value
