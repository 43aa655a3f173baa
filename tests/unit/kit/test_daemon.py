"""The daemon kit starts a real process, says why if that fails, and leaves none behind.

Most of it is tried on a stand-in, a few lines of Python that serve HTTP, so that a fault found here is one of the kit.
"""

from __future__ import annotations

import os
import signal
import sys
import tomllib
from pathlib import Path

import pytest

from tests.kit.daemon import DaemonExitedError, recent_logs, running_daemon, to_toml

STAND_IN = """
import http.server, json, sys, tomllib
config = tomllib.load(open(sys.argv[sys.argv.index("-c") + 1], "rb"))
host, port = config["listen"][1]["address"].removeprefix("tcp:").split(":")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = json.dumps({"method": self.command, "path": self.path, "type": self.headers.get("Content-Type"),
                           "body": self.rfile.read(length).decode()}).encode()
        self.send_response(200)
        self.send_header("X-Kind", "stand-in")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args):
        pass

print(json.dumps({"message": "stand_in.started"}), file=sys.stderr, flush=True)
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return (sys.executable, "-I", str(script))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_ready_answers_and_is_gone_afterwards(tmp_path, stand_in):
    async with running_daemon(tmp_path, command=stand_in) as daemon:
        pid = daemon.pid
        answer = await daemon.post("/v1/events", {"type": "x"})
        assert answer.headers["x-kind"] == "stand-in"
        assert answer.json() == {
            "method": "POST",
            "path": "/v1/events",
            "type": "application/json",
            "body": '{"type": "x"}',
        }
    assert not is_alive(pid)
    assert not daemon.ingest_socket.parent.exists()


async def test_it_is_gone_even_when_the_test_fails_while_it_is_stopped(tmp_path, stand_in):
    pids: list[int] = []

    async def failing_test() -> None:
        async with running_daemon(tmp_path, command=stand_in) as daemon:
            pids.append(daemon.pid)
            daemon.send_signal(signal.SIGSTOP)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing_test()
    assert not is_alive(pids[0])


async def test_a_kill_and_a_start_make_a_new_process_on_the_same_port(tmp_path, stand_in):
    async with running_daemon(tmp_path, command=stand_in) as daemon:
        pid, url = daemon.pid, daemon.url
        await daemon.kill9()
        assert daemon.exit_code == -signal.SIGKILL
        await daemon.start()
        assert (daemon.pid != pid, daemon.url) == (True, url)
        assert len(daemon.log_entries("stand_in.started")) == 2


async def test_a_daemon_that_does_not_come_up_shows_its_log(tmp_path):
    command = (sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(78)")
    with pytest.raises(DaemonExitedError, match="no such thing") as caught:
        async with running_daemon(tmp_path, command=command):
            pass
    assert caught.value.code == 78
    (shown,) = recent_logs()
    assert "no such thing" in shown[1]


async def test_a_daemon_that_ends_during_the_test_is_noticed(tmp_path, stand_in):
    async with running_daemon(tmp_path, command=stand_in) as daemon:
        os.kill(daemon.pid, signal.SIGKILL)
        os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(DaemonExitedError):
            await daemon.get("/readyz")


async def test_settings_of_whoever_runs_the_tests_stay_out(tmp_path, monkeypatch):
    monkeypatch.setenv("WEBHOOKD_STORE__PATH", "/elsewhere")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    command = (sys.executable, "-c", "import os; print(*os.environ, 'MINE=' + os.environ['MINE'])")
    async with running_daemon(tmp_path, start=False, command=command, env={"MINE": "yes"}) as daemon:
        await daemon.start(ready=False)
        assert await daemon.wait() == 0
    assert "MINE=yes" in daemon.log
    assert "WEBHOOKD_STORE__PATH" not in daemon.log
    assert "NOTIFY_SOCKET" not in daemon.log


async def test_a_configuration_gets_what_it_leaves_out_and_keeps_what_it_says(tmp_path):
    text = '[store]\nmax_size = "1MiB"\n[[listen]]\naddress = "tcp:127.0.0.1:77"\n[network]\nallow = []\n'
    async with running_daemon(tmp_path, text, start=False) as daemon:
        config = tomllib.loads(daemon.config_path.read_text())
    assert config == {
        "listen": [{"address": "tcp:127.0.0.1:77"}],
        "store": {"path": str(daemon.database), "max_size": "1MiB"},
        "network": {"allow": []},
    }
    assert daemon.url == "http://127.0.0.1:77"


def test_toml_that_is_written_is_read_as_the_same():
    table = {
        "text": 'quote " back \\ tab \t bell \x07 delete \x7f ümlaut 😀\n',
        "a key": {"nested": {"deeper.still": [1, 2.5, True]}},
        "tables": [{"a": 1}, {}],
    }
    assert tomllib.loads(to_toml({**table, "path": Path("/x")})) == {**table, "path": "/x"}
