"""Which daemon a command talks to."""

from pathlib import Path

import click
import pytest

from webhookd.cli.address import DEFAULT, find_target, parse_server, search_path
from webhookd.cli.exits import CommandFailedError, Exit
from webhookd.config.document import find_file
from webhookd.core.settings import TcpAddress, UnixAddress


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def written(tmp_path, text, name="config.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/w.sock", UnixAddress(Path("/run/w.sock"))),
        ("http://127.0.0.1:8470", TcpAddress("127.0.0.1", 8470)),
        ("http://localhost:1/", TcpAddress("localhost", 1)),
        ("http://[::1]:8470", TcpAddress("::1", 8470)),
        ("http://hooks.internal", TcpAddress("hooks.internal", 80)),
        ("tcp:127.0.0.1:8470", TcpAddress("127.0.0.1", 8470)),
    ],
)
def test_a_server_may_be_written_like_this(text, address):
    assert parse_server(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "localhost:8470", "https://x:1", "http://x:99999", "http://x/v1", "http://u@x", "tcp:x", "ftp:"],
)
def test_anything_else_is_a_usage_error(text):
    with pytest.raises(click.UsageError, match="neither unix:/path nor http://host:port"):
        parse_server(text)


def test_the_option_wins_over_the_environment(tmp_path):
    target = find_target("unix:/a", None, roles=["operate"], environ={"WEBHOOKD_SERVER": "unix:/b"})
    assert target.address == UnixAddress(Path("/a"))


def test_the_environment_wins_over_a_file_that_was_found(tmp_path):
    Path("webhookd.toml").write_text('[[listen]]\naddress = "unix:/c"\n')
    target = find_target(None, None, roles=["operate"], environ={"WEBHOOKD_SERVER": "unix:/b"})
    assert target.address == UnixAddress(Path("/b"))


def test_a_file_named_on_the_command_line_wins_over_the_environment(tmp_path):
    config = written(tmp_path, '[[listen]]\naddress = "unix:/c"\n')
    target = find_target(None, config, roles=["operate"], environ={"WEBHOOKD_SERVER": "unix:/b"})
    assert target.address == UnixAddress(Path("/c"))


def test_the_first_listener_that_allows_it_is_taken(tmp_path):
    config = written(
        tmp_path,
        '[[listen]]\naddress = "unix:/ingest"\nrole = "ingest"\n'
        '[[listen]]\naddress = "systemd:ops"\n'
        '[[listen]]\naddress = "tcp:[::1]:8470"\n',
    )
    assert find_target(None, config, roles=["operate"], environ={}).address == TcpAddress("::1", 8470)
    assert find_target(None, config, roles=["ingest", "operate"], environ={}).address == UnixAddress(Path("/ingest"))


def test_a_relative_socket_is_beside_its_file(tmp_path):
    config = written(tmp_path, '[[listen]]\naddress = "unix:ops.sock"\n')
    assert find_target(None, config, roles=["operate"], environ={}).address == UnixAddress(tmp_path / "ops.sock")


@pytest.mark.parametrize(("bound", "dialled"), [("0.0.0.0", "127.0.0.1"), ("[::]", "::1")])
def test_a_wildcard_is_reached_over_loopback(tmp_path, bound, dialled):
    config = written(tmp_path, f'[[listen]]\naddress = "tcp:{bound}:8470"\n')
    assert find_target(None, config, roles=["operate"], environ={}).address == TcpAddress(dialled, 8470)


def test_mistakes_elsewhere_in_the_file_do_not_matter(tmp_path):
    config = written(
        tmp_path,
        'sotre = 7\n[[listen]]\naddress = "unix:/x"\nmode = 4\n[[token]]\nsecret_file = "/root/none"\n',
    )
    assert find_target(None, config, roles=["operate"], environ={}).address == UnixAddress(Path("/x"))


def test_a_file_that_is_no_toml_leaves_the_default(tmp_path):
    target = find_target(None, written(tmp_path, "[[listen"), roles=["operate"], environ={})
    assert target.address == DEFAULT
    assert "not valid TOML" in target.named_by


def test_a_file_without_listeners_means_the_default(tmp_path):
    assert find_target(None, written(tmp_path, ""), roles=["operate"], environ={}).address == DEFAULT


def test_a_found_file_that_cannot_be_read_leaves_the_default(tmp_path):
    Path("webhookd.toml").mkdir()
    target = find_target(None, None, roles=["operate"], environ={})
    assert target.address == DEFAULT
    assert "cannot be read" in target.named_by


def test_a_named_file_that_cannot_be_read_is_bad_configuration(tmp_path):
    with pytest.raises(CommandFailedError) as caught:
        find_target(None, tmp_path / "none.toml", roles=["operate"], environ={})
    assert caught.value.code is Exit.CONFIG


def test_a_file_without_a_fitting_listener_says_what_is_missing(tmp_path):
    config = written(tmp_path, '[[listen]]\naddress = "unix:/x"\nrole = "ingest"\n')
    with pytest.raises(CommandFailedError, match="no listener with role operate") as caught:
        find_target(None, config, roles=["operate"], environ={})
    assert caught.value.code is Exit.UNREACHABLE


@pytest.mark.parametrize("kind", ["here", "xdg", "home", "relative xdg", "nowhere"])
def test_files_are_looked_for_where_serve_looks(tmp_path, kind):
    environ = {"HOME": str(tmp_path / "home")}
    if kind in {"xdg", "here"}:
        environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    if kind == "relative xdg":
        environ["XDG_CONFIG_HOME"] = "xdg"
    for place in (tmp_path / "xdg", tmp_path / "home" / ".config"):
        if kind != "nowhere":
            (place / "webhookd").mkdir(parents=True)
            (place / "webhookd" / "config.toml").touch()
    if kind == "here":
        Path("webhookd.toml").touch()
    found = next((path for path in search_path(environ) if path.exists()), None)
    assert found == find_file(environ)
