"""What the daemon tells the service manager, and what it takes over from it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from webhookd import systemd
from webhookd.errors import ConfigError

activator = shutil.which("systemd-socket-activate")
needs_activator = pytest.mark.skipif(activator is None, reason="no systemd-socket-activate: apt-get install systemd")


def manager_at(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(2)
    return manager


def test_notify_sends_its_lines_as_one_datagram(short_path, monkeypatch):
    path = str(short_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with manager_at(path) as manager:
        assert systemd.notify("READY=1", "STATUS=pending=3")
        assert manager.recv(4096) == b"READY=1\nSTATUS=pending=3"


def test_notify_reaches_an_abstract_address(monkeypatch):
    name = f"webhookd-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    with manager_at("\0" + name) as manager:
        assert systemd.notify("WATCHDOG=1")
        assert manager.recv(4096) == b"WATCHDOG=1"


def test_a_line_break_in_a_status_starts_no_second_field(short_path, monkeypatch):
    path = str(short_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with manager_at(path) as manager:
        systemd.notify("STATUS=bad\nMAINPID=1")
        assert manager.recv(4096) == b"STATUS=bad MAINPID=1"


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify", "vsock:2:1234", "/" + "x" * 200])
def test_notify_without_a_manager_says_so_and_never_raises(address, monkeypatch):
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert systemd.notify("READY=1") is False


def test_notify_does_not_wait_for_a_manager_that_does_not_read(short_path, monkeypatch):
    path = str(short_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with manager_at(path):
        assert systemd.notify("WATCHDOG=1")
        # The kernel queues at most net.unix.max_dgram_qlen datagrams; a send that waits would hang here.
        assert any(not systemd.notify("WATCHDOG=1") for _ in range(100_000))


@pytest.mark.parametrize(
    ("limit_us", "pid", "seconds"),
    [
        ("30000000", None, 15.0),
        ("30000000", "own", 15.0),
        ("30000000", "1", None),
        (None, "own", None),
        ("0", "own", None),
        ("soon", "own", None),
        ("-5", "own", None),
        ("²", "own", None),
    ],
)
def test_watchdog_interval_is_half_of_a_limit_meant_for_us(limit_us, pid, seconds, monkeypatch):
    for name, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval_seconds() == seconds


def test_no_sockets_are_taken_where_none_were_passed(monkeypatch):
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert systemd.listen_sockets() == {}


def test_sockets_of_another_process_are_left_alone_and_the_variables_removed(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "ingest")
    assert systemd.listen_sockets() == {}
    assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()


@pytest.mark.parametrize("count", ["", "many", "-1"])
def test_a_count_that_is_no_number_is_a_config_error(count, monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        systemd.listen_sockets()


def test_a_socket_can_be_claimed_once_by_its_name():
    with socket.create_server(("127.0.0.1", 0)) as passed:
        sockets = {"ingest": [passed]}
        assert systemd.claim_sockets(sockets, "ingest", key="listen.0.address") == [passed]
        with pytest.raises(ConfigError):
            systemd.claim_sockets(sockets, "ingest", key="listen.1.address")


def test_a_name_that_was_not_passed_is_named_together_with_those_that_were():
    with socket.create_server(("127.0.0.1", 0)) as passed, pytest.raises(ConfigError) as caught:
        systemd.claim_sockets({"ingest": [passed]}, "operate", key="listen.1.address")
    assert caught.value.key == "listen.1.address"
    assert "'operate'" in caught.value.text
    assert "passed: ingest" in caught.value.text


CHILD = textwrap.dedent(
    """
    import json, os, sys
    from webhookd import systemd
    sockets = systemd.listen_sockets()
    json.dump({
        "names": {name: [s.getsockname() for s in group] for name, group in sockets.items()},
        "inheritable": [s.get_inheritable() for group in sockets.values() for s in group],
        "blocking": [s.getblocking() for group in sockets.values() for s in group],
        "left_over": sorted(name for name in os.environ if name.startswith("LISTEN_")),
        "again": len(systemd.listen_sockets()),
    }, sys.stdout)
    """
)


def activated(short_path: Path, names: str | None, *paths: Path, options: tuple[str, ...] = ()) -> dict[str, object]:
    """Start CHILD under systemd-socket-activate, connect once, and return what it saw."""
    assert activator is not None
    command = [activator, *options, *(f"--listen={path}" for path in paths)]
    if names is not None:
        command.append(f"--fdname={names}")
    # It passes on only the variables it is told to.
    command += [f"--setenv=PYTHONPATH={Path(systemd.__file__).parents[1]}", sys.executable, "-c", CHILD]
    output = short_path / "output"
    with output.open("wb") as stdout, subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            for _ in paths:
                assert b"Listening on" in process.stderr.readline()
            kind = socket.SOCK_DGRAM if "--datagram" in options else socket.SOCK_STREAM
            with socket.socket(socket.AF_UNIX, kind) as producer:
                producer.settimeout(5)
                producer.connect(str(paths[0]))
                producer.send(b"x")
                _, complaints = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, complaints.decode()
    seen: dict[str, object] = json.loads(output.read_bytes())
    return seen


@needs_activator
def test_activated_sockets_arrive_by_name_private_and_only_once(short_path):
    ingest, operate = short_path / "ingest", short_path / "operate"
    assert activated(short_path, "ingest:operate", ingest, operate) == {
        "names": {"ingest": [str(ingest)], "operate": [str(operate)]},
        "inheritable": [False, False],
        "blocking": [False, False],
        "left_over": [],
        "again": 0,
    }


@needs_activator
def test_sockets_of_one_name_stay_together_in_their_order(short_path):
    first, second = short_path / "1", short_path / "2"
    assert activated(short_path, "ingest:ingest", first, second)["names"] == {"ingest": [str(first), str(second)]}


@needs_activator
def test_a_socket_without_a_name_is_called_unknown(short_path):
    path = short_path / "ingest"
    assert activated(short_path, None, path)["names"] == {"unknown": [str(path)]}


@needs_activator
def test_a_datagram_socket_is_refused_with_its_name(short_path):
    with pytest.raises(AssertionError, match="systemd:ingest: descriptor 3 is not a listening stream socket"):
        activated(short_path, "ingest", short_path / "ingest", options=("--datagram",))
