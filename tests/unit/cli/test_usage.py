"""What every command has in common, and where it ends when it is used wrongly."""

import json
import sys
import types

import click
import pytest
from click.testing import CliRunner

from webhookd import __version__
from webhookd.cli import main
from webhookd.errors import AlreadyRunningError, ConfigError, ConfigErrors, SchemaVersionError, StateDirectoryError


def run(*arguments, **options):
    return CliRunner().invoke(main, list(arguments), prog_name="webhookd", **options)


def every_command(command=main, path=()):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), (*path, name))


COMMANDS = list(every_command())
PATHS = [path for path, _ in COMMANDS]


def test_the_commands_are_those_of_the_manual():
    leaves = {" ".join(path) for path, command in COMMANDS if not isinstance(command, click.Group)}
    assert leaves == {
        *("serve", "check-config", "demo", "send", "status", "listen", "verify"),
        *("replay", "tail", "backup", "completion"),
        *("events list", "events show", "events resend"),
        *("deliveries list", "deliveries show", "deliveries resend", "deliveries cancel"),
        *("endpoints list", "endpoints show", "endpoints add", "endpoints update", "endpoints remove"),
        *("endpoints test", "endpoints enable", "endpoints disable", "endpoints rotate-secret"),
    }


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_explains_itself(path, option):
    result = run(*path, option)
    assert result.exit_code == 0
    assert result.stdout.startswith(" ".join(["Usage: webhookd", *path]))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_tells_its_version(path):
    result = run(*path, "--version")
    assert (result.exit_code, result.stdout) == (0, f"webhookd {__version__}\n")


@pytest.mark.parametrize("command", [command for _, command in COMMANDS[1:]], ids=map(" ".join, PATHS[1:]))
def test_no_summary_is_cut_off(command):
    assert not command.get_short_help_str(60).endswith("...")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("events", "bogus"),
        ("send",),
        ("send", "a", "b"),
        ("status", "--bogus"),
        ("status", "--server", "localhost:8470"),
        ("status", "--token-file", "/none"),
        ("deliveries", "list", "--state", "lost"),
        ("deliveries", "list", "--limit", "0"),
        ("replay",),
        ("replay", "orders", "--state", "pending"),
        ("backup",),
        ("tail", "extra"),
        ("completion", "tcsh"),
        ("listen", "--port", "70000"),
        ("listen", "--delay", "soon"),
        ("listen", "--status", "99"),
        ("listen", "--secret-file", "/none"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: webhookd" in result.stderr


def test_without_a_command_it_shows_what_there_is():
    result = run()
    assert result.exit_code == 2
    assert "check-config" in result.output


@pytest.fixture
def daemon(monkeypatch):
    """Stand in for the daemon: returns or raises what a test puts into `outcome`, and keeps what it was called with."""
    fake = types.SimpleNamespace(outcome=0, called_with=[])

    def start(config_path):
        fake.called_with.append(config_path)
        if isinstance(fake.outcome, BaseException):
            raise fake.outcome
        return fake.outcome

    module = types.ModuleType("webhookd.daemon")
    module.run = start
    monkeypatch.setitem(sys.modules, "webhookd.daemon", module)
    monkeypatch.setattr("webhookd.daemon", module, raising=False)
    return fake


@pytest.mark.parametrize("code", [0, 74])
def test_serve_ends_with_what_the_daemon_says(daemon, code):
    daemon.outcome = code
    assert run("serve").exit_code == code


@pytest.mark.parametrize("arguments", [("serve", "-c", "x.toml"), ("-c", "x.toml", "serve")])
def test_serve_hands_its_file_on(daemon, arguments):
    run(*arguments)
    assert [str(path) for path in daemon.called_with] == ["x.toml"]


def test_serve_without_a_file_leaves_the_search_to_the_daemon(daemon):
    run("serve")
    assert daemon.called_with == [None]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigErrors([ConfigError("listen", "is wrong")]), 78),
        (StateDirectoryError("/x is not writable by uid 7"), 78),
        (SchemaVersionError("/x was written by a newer webhookd"), 65),
        (AlreadyRunningError("/x", 12), 75),
    ],
    ids=lambda value: type(value).__name__,
)
def test_serve_says_why_it_cannot_start(daemon, error, code):
    daemon.outcome = error
    result = run("serve")
    assert result.exit_code == code
    assert result.stderr == f"webhookd: {error}\n"


def test_what_nobody_expected_is_internal_and_leaves_its_traceback(daemon):
    daemon.outcome = RuntimeError("boom")
    result = run("serve")
    assert result.exit_code == 70
    assert "RuntimeError: boom" in result.stderr


def test_check_config_prints_what_is_in_force(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[store]\npath = "x.db"\n[[token]]\nname = "a"\nrole = "read"\nsecret = "sesame-open-the-door"\n')
    result = run("check-config", "-c", str(path))
    assert result.exit_code == 0
    assert "x.db" in result.stdout
    assert "attempt 2 after" in result.stdout
    assert "sesame" not in result.stdout
    described = json.loads(run("check-config", "-c", str(path), "--json").stdout)
    assert described["store"]["path"].endswith("x.db")


def test_check_config_names_every_mistake_with_its_key(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[sotre]\n[delivery]\njitter = -1\n")
    result = run("check-config", "-c", str(path))
    assert (result.exit_code, result.stdout) == (78, "")
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["sotre", "delivery.jitter"]


def test_check_config_of_nothing_is_bad_configuration(tmp_path):
    assert run("check-config", "-c", str(tmp_path / "none")).exit_code == 78


def test_color_is_for_terminals_that_want_it():
    plain = run("events", "-h", color=True, env={"NO_COLOR": "1"}).output
    assert "\x1b[" not in plain


@pytest.mark.parametrize("command", [("serve",), ("check-config",), ("status",)], ids=" ".join)
def test_a_directory_for_a_configuration_file_is_bad_configuration(command, tmp_path):
    result = run(*command, "-c", str(tmp_path))
    assert result.exit_code == 78
    assert str(tmp_path) in result.stderr
    assert "directory" in result.stderr.lower()
