"""What the demo does where its daemon does not come up, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from webhookd.cli.demo_daemon import DemoDaemon
from webhookd.cli.exits import CommandFailedError


@pytest.fixture
def stand_in(short_path, tmp_path, monkeypatch):
    """Let a shell script stand in for Python, and keep temporary directories where they can be counted."""
    monkeypatch.setenv("TMPDIR", str(short_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("webhookd.cli.demo_daemon._LONGEST_TEMPORARY", 1000)

    def write(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        return short_path

    return write


def test_a_daemon_that_ends_is_shown_with_its_log(stand_in, bare):
    leftovers = stand_in("echo 'store.refused newer schema' >&2; exit 65")
    result = bare("demo", "--once")
    assert result.exit_code == 1
    assert "the daemon ended with exit code 65" in result.stderr
    assert "store.refused newer schema" in result.stderr
    assert list(leftovers.iterdir()) == []


def test_nothing_meant_for_another_daemon_reaches_it(stand_in, bare, monkeypatch):
    stand_in("env >&2; exit 1")
    for name in ("WEBHOOKD_STORE__PATH", "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "foreign")
    assert "foreign" not in bare("demo", "--once").stderr


def test_interrupted_before_it_is_ready_it_ends_the_child(stand_in):
    leftovers = stand_in("exec sleep 60")
    daemon = DemoDaemon({}, interrupted=lambda: True)
    with pytest.raises(CommandFailedError, match="interrupted"):
        daemon.__enter__()
    assert list(leftovers.iterdir()) == []


def test_its_configuration_is_valid_and_for_its_owner_only(stand_in, bare):
    stand_in(f'{sys.executable} -m webhookd check-config -c "$5" >/dev/null; echo "checked $?"; stat -c "mode %a" "$5"')
    shown = bare("demo", "--once").stderr
    assert "checked 0" in shown
    assert "mode 600" in shown


def test_a_signal_ends_the_child_and_leaves_nothing_behind(tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    stand_in.chmod(0o755)
    (tmp_path / "t").mkdir()
    script = (
        "import sys, webhookd.cli.demo_daemon as demo_daemon; from webhookd.cli import main\n"
        f"sys.executable, demo_daemon._LONGEST_TEMPORARY = {str(stand_in)!r}, 1000\n"
        "main(['demo'], prog_name='webhookd')"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path / "t")}
    with subprocess.Popen([sys.executable, "-c", script], env=environ, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(list((tmp_path / "t").iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 1
    assert list((tmp_path / "t").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
