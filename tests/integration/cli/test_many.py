"""`replay`, `backup`, `tail` and `completion`: what they ask the daemon, what they print, what they end with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

ATTEMPT = {
    "delivery": "dlv_1",
    "event": "evt_1",
    "type": "order.paid",
    "tenant": "default",
    "endpoint": "orders",
    "number": 2,
    "trigger": "scheduled",
    "started_at": "2026-03-01T00:00:01.000Z",
    "duration_ms": 12.4,
    "phases": {},
    "status": 500,
    "error": None,
    "excerpt": "",
    "state": "pending",
    "next_attempt_at": "2026-03-01T00:05:01.000Z",
}
BACKUP = {"path": "/b.db", "size": 2048, "events": 1, "deliveries": 2, "duration_ms": 1500.0}


def stream(*events, heartbeat=True):
    told = [b": still here\n\n"] if heartbeat else []
    told += [f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events]
    return b"".join(told)


def test_a_replay_asks_for_what_was_said(run, daemon):
    daemon.answer("POST", "/v1/endpoints/orders/replay", {"count": 3}, 202)
    result = run("replay", "orders")
    assert (result.exit_code, result.stdout) == (0, "owed again: 3 deliveries\n")
    assert daemon.asked[0].document == {}
    run(
        *("replay", "orders", "--since", "2026-03-01T00:00:00Z", "--until", "2026-03-02T00:00:00Z"),
        *("--state", "dead", "--state", "cancelled", "--type", "order.*", "--dry-run"),
    )
    assert daemon.asked[1].document == {
        "since": "2026-03-01T00:00:00Z",
        "until": "2026-03-02T00:00:00Z",
        "states": ["dead", "cancelled"],
        "types": ["order.*"],
        "dry_run": True,
    }


def test_a_dry_run_says_what_would_be(run, daemon):
    daemon.answer("POST", "/v1/endpoints/orders/replay", {"count": 1})
    assert run("replay", "orders", "--dry-run").stdout == "would be owed again: 1 delivery\n"
    assert json.loads(run("replay", "orders", "--dry-run", "--json").stdout) == {"count": 1}


def test_a_replay_to_nobody(run):
    assert run("replay", "orders").exit_code == 4


def test_a_backup_names_its_file_from_the_root(run, daemon):
    daemon.answer("POST", "/v1/backup", BACKUP)
    result = run("backup", "copies/../b.db")
    assert daemon.asked[0].document == {"path": os.path.join(os.getcwd(), "b.db"), "overwrite": False}  # noqa: PTH109, PTH118
    assert (result.exit_code, result.stdout) == (0, "/b.db  2.0 KiB  1 event, 2 deliveries  checked, 1.5 s\n")
    run("backup", "/b.db", "--force")
    assert daemon.asked[1].document == {"path": "/b.db", "overwrite": True}
    assert json.loads(run("backup", "/b.db", "--json").stdout) == BACKUP


@pytest.mark.parametrize(
    ("slug", "status", "hint"),
    [("backup_exists", 409, "--force"), ("backup_refused", 422, "service unit"), ("backup_failed", 500, "")],
)
def test_a_backup_that_is_refused_says_what_to_do(run, daemon, slug, status, hint):
    daemon.refuse("POST", "/v1/backup", status, slug, "No", "because")
    result = run("backup", "/b.db")
    assert result.exit_code == 1
    assert "No: because" in result.stderr
    assert hint in result.stderr


def test_attempts_are_followed_until_the_daemon_goes(run, daemon):
    timeout = {"class": "timeout", "text": "no answer within 5 s"}
    daemon.answer(
        "GET",
        "/v1/attempts/stream",
        stream(
            ("attempt", ATTEMPT),
            ("dropped", {"count": 7}),
            ("attempt", {**ATTEMPT, "status": None, "error": timeout, "state": "dead", "next_attempt_at": None}),
            ("attempt", {**ATTEMPT, "status": 204, "state": "delivered", "next_attempt_at": None}),
            ("later", {"unknown": True}),
        ),
        content_type="text/event-stream",
    )
    result = run("tail", "--endpoint", "orders", "--type", "order.*", "--tenant", "t")
    assert daemon.asked[0].query == {"endpoint": "orders", "type": "order.*", "tenant": "t"}
    what = "2026-03-01T00:00:01.000Z  order.paid → orders  attempt 2"
    assert result.stdout.splitlines() == [
        f"{what}  500  12 ms  next 2026-03-01T00:05:01.000Z",
        f"{what}  timeout: no answer within 5 s  12 ms  dead",
        f"{what}  204  12 ms",
    ]
    assert "7 attempts left out" in result.stderr
    assert "the daemon has stopped" in result.stderr
    assert result.exit_code == 69


def test_as_json_attempts_are_lines(run, daemon):
    events = stream(("attempt", ATTEMPT), ("dropped", {"count": 7}))
    daemon.answer("GET", "/v1/attempts/stream", events, content_type="text/event-stream")
    result = run("tail", "--json")
    assert json.loads(result.stdout) == ATTEMPT
    assert json.loads(result.stderr.splitlines()[0]) == {"dropped": 7}
    assert json.loads(result.stderr.splitlines()[1])["exit_code"] == 69


def test_what_a_stream_brings_cannot_steer_the_terminal(run, daemon):
    events = stream(("attempt", {**ATTEMPT, "type": "\x1b[2Jorder"}))
    daemon.answer("GET", "/v1/attempts/stream", events, content_type="text/event-stream")
    assert "\x1b" not in run("tail").stdout


@pytest.mark.parametrize("data", [b"event: attempt\ndata: [1]\n\n", b"event: attempt\ndata: {\n\n"])
def test_what_is_no_attempt_is_said_to_be_none(run, daemon, data):
    daemon.answer("GET", "/v1/attempts/stream", data, content_type="text/event-stream")
    result = run("tail")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is that a webhookd?" in result.stderr


def test_an_event_without_an_end_is_not_read_to_it(run, daemon):
    daemon.answer("GET", "/v1/attempts/stream", b"x" * (2 << 20), content_type="text/event-stream")
    assert run("tail").exit_code == 69


def test_following_can_be_refused(run, daemon):
    daemon.refuse("GET", "/v1/attempts/stream", 503, "overloaded", "Too much at once", "too many are following")
    result = run("tail")
    assert result.exit_code == 1
    assert "too many are following" in result.stderr


def test_nobody_to_follow(bare, tmp_path):
    assert bare("--server", f"unix:{tmp_path}/none.sock", "tail").exit_code == 69


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef webhookd"), ("fish", "complete --no-files")]
)
def test_a_completion_script(bare, shell, mark):
    result = bare("completion", shell)
    assert result.exit_code == 0
    assert mark in result.stdout
    assert "_WEBHOOKD_COMPLETE" in result.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=result.stdout, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "word", "offered"),
    [
        ("webhookd ", 1, {"serve", "tail", "completion"}),
        ("webhookd endpoints ", 2, {"list", "show", "enable"}),
        ("webhookd replay orders --st", 3, {"--state"}),
        ("webhookd replay orders --state ", 4, {"dead", "cancelled", "delivered"}),
    ],
)
def test_a_shell_that_asks_is_answered(typed, word, offered):
    """As the script asks: by the environment, with the words so far."""
    done = subprocess.run(
        [sys.executable, "-m", "webhookd"],
        env={**os.environ, "_WEBHOOKD_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(word)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert offered <= {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_ctrl_c_ends_following_well(daemon):
    """The stream goes on for as long as nobody ends it."""
    import threading

    begun, over = threading.Event(), threading.Event()
    reply = daemon.reply

    def waiting(asked):
        begun.set()
        over.wait(10)
        return reply(asked)

    daemon.reply = waiting
    command = [sys.executable, "-m", "webhookd", "--server", daemon.url, "tail"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert begun.wait(10)
            # In the very moment before it reads, Python takes note of a signal and then waits all the same.
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 0
            assert process.stderr.read() == b""
        finally:
            over.set()
            process.kill()
