"""A fake daemon, and the command line in an environment of its own."""

import os

import pytest
from click.testing import CliRunner

from tests.integration.cli.fake_daemon import Running
from webhookd.cli import main


@pytest.fixture
def daemon(tmp_path):
    with Running(tmp_path / "d.sock") as running:
        yield running


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WEBHOOKD_", "XDG_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def bare():
    """Run the command line without naming a daemon."""

    def call(*arguments, stdin=b""):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin, prog_name="webhookd")

    return call


@pytest.fixture
def run(bare, daemon):
    """Run the command line against the fake daemon, on its unix socket."""

    def call(*arguments, stdin=b""):
        return bare("--server", f"unix:{daemon.socket_path}", *arguments, stdin=stdin)

    return call
