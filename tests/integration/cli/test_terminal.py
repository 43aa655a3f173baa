"""What is different on a terminal: colours, and a question before something is lost."""

import os
import pty
import subprocess
import sys
import time

import pytest

ROWS = {"data": [{"id": "dlv_1", "state": "dead"}], "next": None}


def on_terminal(daemon, *arguments, typed=b"", **environment):
    """Run a command with a terminal for its stdin and stdout; returns its exit code and what the terminal shows."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed)
        done = subprocess.run(
            [sys.executable, "-m", "webhookd", "--server", daemon.url, *arguments],
            check=False,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **environment},
            timeout=10,
        )
        return done.returncode, os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_declines(daemon, monkeypatch, environment, colored):
    monkeypatch.delenv("NO_COLOR", raising=False)
    daemon.answer("GET", "/v1/deliveries", ROWS)
    code, shown = on_terminal(daemon, "deliveries", "list", **environment)
    assert code == 0
    assert ("\x1b[31mdead" in shown) is colored
    assert ("\x1b[" in shown) is colored


def test_a_pipe_gets_no_colours(run, daemon):
    daemon.answer("GET", "/v1/deliveries", ROWS)
    assert "\x1b[" not in run("deliveries", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "asked"),
    [((), b"n\n", 1, []), ((), b"y\n", 0, ["DELETE"]), (("--yes",), b"", 0, ["DELETE"])],
    ids=["declined", "confirmed", "told not to ask"],
)
def test_removing_an_endpoint_is_asked_about(daemon, arguments, typed, code, asked):
    daemon.answer("DELETE", "/v1/endpoints/orders", b"", 204)
    ended, shown = on_terminal(daemon, "endpoints", "remove", "orders", *arguments, typed=typed)
    assert ended == code
    assert [request.method for request in daemon.asked] == asked
    assert ("cancel its pending deliveries?" in shown) is (not arguments)


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "asked"),
    [
        ((), b"n\n", 1, [{"dry_run": True}]),
        ((), b"y\n", 0, [{"dry_run": True}, {}]),
        (("--yes",), b"", 0, [{}]),
        (("--dry-run",), b"", 0, [{"dry_run": True}]),
    ],
    ids=["declined", "confirmed", "told not to ask", "dry"],
)
def test_a_replay_is_asked_about(daemon, arguments, typed, code, asked):
    daemon.answer("POST", "/v1/endpoints/orders/replay", {"count": 1200})
    ended, shown = on_terminal(daemon, "replay", "orders", *arguments, typed=typed)
    assert ended == code
    assert [request.document for request in daemon.asked] == asked
    assert ("Send 1200 deliveries to orders again?" in shown) is (not arguments)


def test_a_replay_of_nothing_is_not_asked_about(daemon):
    daemon.answer("POST", "/v1/endpoints/orders/replay", {"count": 0})
    ended, shown = on_terminal(daemon, "replay", "orders")
    assert (ended, len(daemon.asked)) == (0, 1)
    assert "nothing to replay" in shown


def test_what_takes_long_says_so_and_leaves_nothing_of_it(daemon, monkeypatch):
    daemon.answer("POST", "/v1/backup", {"path": "/b", "size": 1, "events": 1, "deliveries": 1, "duration_ms": 1})
    answer = daemon.reply
    monkeypatch.setattr(daemon, "reply", lambda asked: (time.sleep(1.2), answer(asked))[1])
    ended, shown = on_terminal(daemon, "backup", "/b")
    assert ended == 0
    assert "copying and checking … 1 s" in shown
    assert shown.rpartition("\r\x1b[K")[2].startswith("/b  1 B")


def test_a_reader_that_leaves_early_is_no_fault_of_ours(daemon):
    daemon.answer("GET", "/v1/deliveries", {"data": [{"id": "x" * 1000}] * 300, "next": None})
    command = [sys.executable, "-m", "webhookd", "--server", daemon.url, "deliveries", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=10) == 1
