"""The life of the process: start, refusal to start, reload, draining, the service manager's protocols."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tests.kit.daemon import Daemon, eventually, free_port, running_daemon
from tests.kit.receiver import Receiver, Reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

needs_socket_activation = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate: apt-get install systemd"
)


def to(receiver: Receiver, **keys: Any) -> dict[str, Any]:
    return {"endpoints": {"orders": {"url": f"{receiver.url}/hook", "secret": SECRET, "jitter": 0, **keys}}}


async def refused(daemon: Daemon) -> tuple[int, str]:
    """Start a daemon that is not meant to come up; return its exit code and what it said."""
    await daemon.start(ready=False)
    return await daemon.wait(), daemon.log


async def test_sigterm_finishes_what_is_in_flight_and_exits_clean(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(delay_seconds=0.5))
        sent = await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        assert await daemon.terminate() == 0
        await daemon.start()
        await daemon.settled()
        assert receiver.by_event() == {sent["id"]: 1}


async def test_while_draining_events_are_refused_and_readiness_says_so(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(delay_seconds=1.5))
        await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        daemon.send_signal(signal.SIGTERM)

        async def is_draining() -> bool:
            return (await daemon.get("/readyz")).status == 503

        await eventually(is_draining)
        answer = await daemon.post("/v1/events", {"type": "a", "payload": 1})
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert await daemon.wait() == 0


async def test_a_second_sigterm_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        receiver.script(Reply(hang=True))
        await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        daemon.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert await daemon.terminate(timeout_seconds=5) == 0
        receiver.script(200)
        await daemon.start()
        (delivery,) = await daemon.settled()
        assert (delivery["state"], delivery["attempt_count"]) == ("delivered", 1)


async def test_sighup_swaps_the_whole_file_in(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=["1h"])) as daemon:
        receiver.script(500)
        await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        receiver.script(200)
        changed = to(receiver, types=["order.*"], headers={"X-Generation": "2"})
        changed["endpoints"]["more"] = {"url": f"{receiver.url}/more", "secret": SECRET}
        daemon.configure(changed)
        daemon.send_signal(signal.SIGHUP)

        async def is_applied() -> bool:
            return len(daemon.log_entries("reload.applied")) == 1

        await eventually(is_applied)
        sent = await daemon.send("order.completed", {})
        assert sent["deliveries"] == 2
        requests = await receiver.wait_for(3)
        assert {request.header("x-generation") for request in requests if request.path == "/hook"} == {None, "2"}


async def test_a_bad_file_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver)) as daemon:
        daemon.configure(to(receiver, retri=["1s"], timeout="soon"))
        daemon.send_signal(signal.SIGHUP)

        async def is_refused() -> bool:
            return len(daemon.log_entries("reload.refused")) == 1

        await eventually(is_refused)
        reason = daemon.log_entries("reload.refused")[0]["reason"]
        assert "endpoints.orders.retri" in reason
        assert "did you mean" in reason.lower()
        assert "endpoints.orders.timeout" in reason
        assert b"webhookd_config_last_reload_successful 0" in (await daemon.get("/metrics")).body
        await daemon.send("order.completed", {})
        await receiver.wait_for(1)


async def test_what_needs_a_restart_is_refused_on_reload(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, {}) as daemon:
        daemon.configure({"store": {"path": str(tmp_path / "elsewhere.db")}})
        daemon.send_signal(signal.SIGHUP)

        async def is_refused() -> bool:
            return len(daemon.log_entries("reload.refused")) == 1

        await eventually(is_refused)
        assert "restart" in daemon.log_entries("reload.refused")[0]["reason"]


async def test_an_endpoint_taken_out_of_the_file_is_held_until_it_is_back(tmp_path: Path) -> None:
    async with Receiver() as receiver, running_daemon(tmp_path, to(receiver, retry=["1s"])) as daemon:
        receiver.script(500)
        await daemon.send("order.completed", {})
        await receiver.wait_for(1)
        daemon.configure({})
        await daemon.restart()
        shown = (await daemon.get("/v1/endpoints/orders")).json()
        assert (shown["status"], shown["disabled_reason"]) == ("disabled", "removed")
        (held,) = await daemon.deliveries()
        assert held["held"] is True
        receiver.script(200)
        daemon.configure(to(receiver))
        await daemon.restart()
        (delivery,) = await daemon.settled()
        assert delivery["state"] == "delivered"


async def test_bad_configuration_exits_78_naming_every_key(tmp_path: Path) -> None:
    config = {"ingest": {"max_payloads": 1}, "endpoints": {"orders": {"url": "ftp://x"}}}
    async with running_daemon(tmp_path, config, start=False) as daemon:
        code, said = await refused(daemon)
        assert code == 78
        assert "ingest.max_payloads" in said
        assert "max_payload" in said
        assert "endpoints.orders.url" in said


async def test_a_second_daemon_on_the_same_database_exits_75(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, {}) as daemon, running_daemon(tmp_path, {}, start=False) as second:
        second.config_path = tmp_path / "second.toml"
        second.configure({})
        code, said = await refused(second)
        assert code == 75
        assert str(daemon.pid) in said


@pytest.mark.parametrize("damage", ["foreign", "newer", "zeroed", "truncated"])
async def test_a_database_that_is_not_ours_is_refused_and_not_touched(tmp_path: Path, damage: str) -> None:
    async with running_daemon(tmp_path, {}, start=False) as daemon:
        path = daemon.database
        if damage == "foreign":
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE customers (id INTEGER)")
            db.close()
        else:
            await daemon.start()
            await daemon.send("order.completed", {"x": "y" * 10_000})
            await daemon.terminate()
            if damage == "newer":
                with sqlite3.connect(path) as db:
                    db.execute("PRAGMA user_version = 9999")
                db.close()
            elif damage == "zeroed":
                path.write_bytes(bytes(100) + path.read_bytes()[100:])
            else:
                path.write_bytes(path.read_bytes()[:5000])
        before = path.read_bytes()
        daemon.log_path.unlink(missing_ok=True)
        code, said = await refused(daemon)
        assert code == 65
        assert str(path) in said
        assert path.read_bytes() == before


async def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
        async with running_daemon(tmp_path, {"listen": [{"address": address}]}, start=False) as daemon:
            code, said = await refused(daemon)
            assert code == 75
            assert address in said
            assert [line for line in said.splitlines() if not line.startswith("{")] == []


async def test_the_service_manager_hears_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}
        async with running_daemon(tmp_path, {}, env=env) as daemon:
            heard: list[str] = []

            async def hears(word: str) -> bool:
                while True:
                    try:
                        heard.extend(manager.recv(4096).decode().splitlines())
                    except BlockingIOError:
                        return word in heard

            await eventually(lambda: hears("READY=1"))
            await eventually(lambda: hears("WATCHDOG=1"))
            assert any(line.startswith("STATUS=") for line in heard)
            heard.clear()
            daemon.send_signal(signal.SIGHUP)
            await eventually(lambda: hears("READY=1"))
            said = [line for line in heard if not line.startswith(("WATCHDOG=", "STATUS="))]
            assert [line.partition("=")[0] for line in said] == ["RELOADING", "MONOTONIC_USEC", "READY"]
            assert 0 <= time.monotonic() - int(said[1].partition("=")[2]) / 1_000_000 < 20
            await daemon.terminate()
            await eventually(lambda: hears("STOPPING=1"))


async def test_a_stuck_loop_is_no_longer_vouched_for(tmp_path: Path) -> None:
    """A stopped process cannot ping; the pings that reach the manager come from progress and not from a thread."""
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        async with running_daemon(tmp_path, {}, env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "500000"}) as daemon:
            # Holding the write lock stops the writer, not the loop.
            blocker = sqlite3.connect(daemon.database, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            blocked = asyncio.create_task(daemon.post("/v1/events", {"type": "a", "payload": 1}, timeout_seconds=20))
            await asyncio.sleep(1.5)
            while True:
                try:
                    manager.recv(4096)
                except BlockingIOError:
                    break
            await asyncio.sleep(1.5)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
            blocker.execute("ROLLBACK")
            blocker.close()
            assert (await blocked).status in {202, 503}


@needs_socket_activation
async def test_sockets_of_the_service_manager_are_used_by_name(tmp_path: Path) -> None:
    ingest, port = tmp_path / "in.sock", free_port()
    config = {
        "listen": [{"address": "systemd:ingest", "role": "ingest"}, {"address": "systemd:operate", "role": "operate"}]
    }
    async with Receiver() as receiver, running_daemon(tmp_path, {**config, **to(receiver)}, start=False) as daemon:
        process = await asyncio.create_subprocess_exec(
            "systemd-socket-activate", f"--listen={ingest}", f"--listen=127.0.0.1:{port}",
            "--fdname=ingest:operate", sys.executable, "-m", "webhookd", "serve", "-c", str(daemon.config_path),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            connector = aiohttp.UnixConnector(str(ingest))
            async with aiohttp.ClientSession(connector=connector) as session:

                async def is_accepted() -> bool:
                    try:
                        answer = await session.post("http://localhost/v1/events", json={"type": "a", "payload": 1})
                    except aiohttp.ClientError:
                        return False
                    return answer.status == 202

                await eventually(is_accepted)
            await receiver.wait_for(1)
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/v1/deliveries") as answer,
            ):
                assert len(json.loads(await answer.read())["data"]) == 1
        finally:
            process.terminate()
            await process.wait()


class SocketUnit:
    """Holds a listening socket over the lives of a daemon, as a socket unit does, and starts daemons on it."""

    def __init__(self, path: Path, config: Path) -> None:
        self.path = path
        self._config = config
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def start(self) -> subprocess.Popen[bytes]:
        """Start a daemon with the socket as descriptor 3; sd_listen_fds(3)."""
        launch = (
            "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
            f"os.dup2({self._listening.fileno()}, 3); os.set_inheritable(3, True); "
            f"os.execv(sys.executable, [sys.executable, '-m', 'webhookd', 'serve', '-c', {str(self._config)!r}])"
        )
        return subprocess.Popen(
            [sys.executable, "-c", launch],
            pass_fds=[self._listening.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "ingest"},
            cwd=Path(__file__).parents[2],
            stderr=subprocess.DEVNULL,
        )


async def test_producers_wait_on_the_service_managers_socket_while_the_daemon_is_replaced(tmp_path: Path) -> None:
    """Not one of them is refused, from before the old daemon is told to stop until the new one is there."""
    config = {"listen": [{"address": "systemd:ingest", "role": "operate"}]}
    async with Receiver() as receiver, running_daemon(tmp_path, {**config, **to(receiver)}, start=False) as daemon:
        receiver.script(Reply(delay_seconds=0.3))
        statuses: list[int] = []

        async def produce() -> None:
            async with aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(unit.path), force_close=True)
            ) as client:
                for number in range(40):
                    event = {"type": "a", "payload": number, "idempotency_key": str(number)}
                    async with client.post("http://localhost/v1/events", json=event) as answer:
                        statuses.append(answer.status)
                    await asyncio.sleep(0.05)

        with SocketUnit(tmp_path / "unit.sock", daemon.config_path) as unit:
            process = unit.start()
            try:
                producing = asyncio.create_task(produce())
                await receiver.wait_for(5)
                process.terminate()
                await asyncio.to_thread(process.wait, 20)
                assert process.returncode == 0
                process = unit.start()
                await producing
                await receiver.wait_for(40, timeout_seconds=20)
            finally:
                process.kill()
                process.wait()
        assert statuses == [202] * 40
        assert len(receiver.by_event()) == 40
