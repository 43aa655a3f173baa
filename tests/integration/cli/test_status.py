"""`status` says how it is and what to do."""

import json
import subprocess
import sys

import pytest

HEALTH = {"failing_days": 0, "failed_attempts": 0, "last_success_at": None, "pending": 0, "held": 0}
STATUS = {
    "deliveries": {"pending": 5, "held": 2, "delivered": 70, "dead": 1, "cancelled": 0},
    "events": 40,
    "oldest_due_at": "2026-03-01T00:00:00.000Z",
    "in_flight": {"fast": 2, "slow": 1},
    "resting": 0,
    "endpoints": {"enabled": 7, "disabled": 1},
    "attention": [],
    "database": {"used_bytes": 2048, "wal_bytes": 1024, "free_bytes": 10 * 1024**3},
}


@pytest.fixture(autouse=True)
def _ready(daemon):
    daemon.answer("GET", "/readyz", {"status": "ready"})
    daemon.answer("GET", "/v1/status", STATUS)


def test_a_ready_daemon_in_words(run):
    result = run("status")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ready",
        "40 events kept",
        "5 deliveries pending (2 of them held, as their endpoint is disabled), 70 delivered, 1 dead, 0 cancelled",
        "the oldest pending delivery is due at 2026-03-01T00:00:00.000Z",
        "in flight: 2 fast, 1 slow",
        "endpoints: 7 enabled, 1 disabled",
        "database: 2.0 KiB in use, 1.0 KiB of log, 10.0 GiB free on disk",
        "",
        "nothing needs attention",
    ]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_not_ready_is_a_negative_answer(run, daemon, form):
    daemon.refuse("GET", "/readyz", 503, "not_ready", "Not ready", "the disk is full")
    result = run("status", *form)
    assert result.exit_code == 3
    assert ('"ready":false' if form else "not ready: the disk is full") in result.stdout


def test_for_machines_it_is_what_the_daemon_says(run):
    assert json.loads(run("status", "--json").stdout) == {"ready": True, **STATUS}


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        (
            {
                "status": "disabled",
                "disabled_reason": "failing",
                "health": {**HEALTH, "failed_attempts": 12},
            },
            ["orders is disabled: it kept failing: 12 failed attempts", "endpoints test orders"],
        ),
        ({"status": "disabled", "disabled_reason": "gone", "health": HEALTH}, ["410 Gone", "endpoints remove orders"]),
        ({"status": "disabled", "disabled_reason": "operator", "health": HEALTH}, ["endpoints enable orders"]),
        ({"status": "disabled", "disabled_reason": "removed", "health": HEALTH}, ["declare it again"]),
        (
            {
                "status": "enabled",
                "disabled_reason": None,
                "health": {**HEALTH, "failed_attempts": 3, "failing_days": 1},
            },
            ["orders is failing: 3 failed attempts on 1 date, no success yet", "deliveries list --endpoint orders"],
        ),
    ],
)
def test_what_needs_attention_comes_with_its_reason_and_remedy(run, daemon, endpoint, words):
    daemon.answer("GET", "/v1/status", {**STATUS, "attention": [{"id": "orders", **endpoint}]})
    shown = run("status").stdout
    assert all(word in shown for word in words), shown


def test_a_healthy_endpoint_is_not_mentioned(run, daemon):
    healthy = {"id": "orders", "status": "enabled", "disabled_reason": None, "health": HEALTH}
    daemon.answer("GET", "/v1/status", {**STATUS, "attention": [healthy]})
    assert "nothing needs attention" in run("status").stdout


def test_it_answers_without_loading_the_daemon(daemon):
    script = (
        "import sys\n"
        "from webhookd.cli import main\n"
        f"main(['status', '--server', 'unix:{daemon.socket_path}'], standalone_mode=False)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("ready")
    loaded = set(done.stderr.split())
    assert "webhookd.cli.status" in loaded
    heavy = {"aiohttp", "aiosqlite", "asyncio", "httptools", "msgspec", "orjson", "uvloop", "webhookd.config"}
    assert loaded & (heavy | {"webhookd.daemon", "webhookd.cli.demo", "webhookd.cli.listen"}) == set()
