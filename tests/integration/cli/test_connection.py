"""How commands find and reach the daemon, and what they make of its refusals."""

import json
import socket
import threading

import pytest

STATUS_PAGES = {"data": [], "next": None}


@pytest.fixture(autouse=True)
def _an_empty_list(daemon):
    daemon.answer("GET", "/v1/events", STATUS_PAGES)


def test_over_a_unix_socket(bare, daemon):
    result = bare("events", "list", "--server", f"unix:{daemon.socket_path}")
    assert result.exit_code == 0
    assert daemon.asked[0].headers["host"] == "localhost"


def test_over_tcp(bare, daemon):
    assert bare("events", "list", "--server", daemon.url).exit_code == 0
    assert daemon.asked[0].path == "/v1/events"


@pytest.mark.parametrize(
    "arguments", [("SERVER", "events", "list"), ("events", "SERVER", "list"), ("events", "list", "SERVER")]
)
def test_the_server_may_be_named_anywhere(bare, daemon, arguments):
    named = f"--server={daemon.url}"
    assert bare(*(named if word == "SERVER" else word for word in arguments)).exit_code == 0


def test_the_option_nearest_to_the_command_wins(bare, daemon):
    assert bare("--server", "unix:/none", "events", "list", "--server", daemon.url).exit_code == 0


def test_by_the_environment(bare, daemon, monkeypatch):
    monkeypatch.setenv("WEBHOOKD_SERVER", daemon.url)
    assert bare("events", "list").exit_code == 0


def test_by_the_configuration_file(bare, daemon, tmp_path):
    config = tmp_path / "webhookd.toml"
    config.write_text(f'nonsense = 1\n[[listen]]\naddress = "unix:{daemon.socket_path}"\n')
    assert bare("events", "list", "-c", config).exit_code == 0
    assert bare("-c", config, "events", "list").exit_code == 0


def test_a_proxy_of_the_environment_is_not_asked(bare, daemon, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert bare("events", "list", "--server", daemon.url).exit_code == 0


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_token_is_read_from_its_file(run, daemon, tmp_path, monkeypatch, by):
    token = tmp_path / "token"
    token.write_text("sesame-open\n")
    if by == "environment":
        monkeypatch.setenv("WEBHOOKD_TOKEN_FILE", str(token))
    result = run("events", "list", *(("--token-file", token) if by == "option" else ()))
    assert result.exit_code == 0
    assert daemon.asked[0].headers["authorization"] == "Bearer sesame-open"


@pytest.mark.parametrize("content", ["", "two words", "two\nlines", "naïve"])
def test_a_file_without_a_token_is_a_usage_error(run, tmp_path, content):
    token = tmp_path / "token"
    token.write_text(content)
    assert run("events", "list", "--token-file", token).exit_code == 2


def test_nobody_at_the_socket_is_unreachable(bare, tmp_path):
    result = bare("events", "list", "--server", f"unix:{tmp_path}/none.sock")
    assert result.exit_code == 69
    assert f"unix:{tmp_path}/none.sock" in result.stderr
    assert "webhookd serve" in result.stderr
    assert result.stdout == ""


def test_nobody_at_the_port_is_unreachable(bare):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = bare("events", "list", "--server", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert result.exit_code == 69
    assert "Connection refused" in result.stderr


def test_how_to_start_it_names_the_file(bare, tmp_path):
    config = tmp_path / "webhookd.toml"
    config.write_text(f'[[listen]]\naddress = "unix:{tmp_path}/none.sock"\n')
    assert f"webhookd serve -c {config}" in bare("events", "list", "-c", config).stderr


def test_unreachable_for_machines(bare, tmp_path):
    result = bare("--json", "events", "list", "--server", f"unix:{tmp_path}/none.sock")
    assert result.exit_code == 69
    assert json.loads(result.stderr)["exit_code"] == 69


def test_a_connection_that_ends_without_an_answer_leaves_it_unknown(bare):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        result = bare("events", "list", "--server", f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert result.exit_code == 69
    assert "is unknown" in result.stderr


def test_a_refusal_is_shown_with_every_field(run, daemon):
    daemon.refuse(
        "GET",
        "/v1/events",
        422,
        "invalid_query",
        "The query is wrong",
        "two parameters are wrong",
        [{"pointer": "/since", "detail": "is no time"}, {"pointer": "", "detail": "is\x1bodd"}],
    )
    result = run("events", "list")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "webhookd: The query is wrong: two parameters are wrong",
        "  /since: is no time",
        "  is\\x1bodd",
    ]


def test_a_refusal_reaches_machines_as_it_came(run, daemon):
    daemon.refuse(
        "GET", "/v1/events", 422, "invalid_query", "The query is wrong", "no", [{"pointer": "/a", "detail": "b"}]
    )
    result = run("events", "list", "--json")
    problem = json.loads(result.stderr)
    assert (problem["type"], problem["status"], problem["exit_code"]) == ("urn:webhookd:problem:invalid_query", 422, 1)
    assert problem["errors"] == [{"pointer": "/a", "detail": "b"}]


@pytest.mark.parametrize("status", [401, 403])
def test_without_permission_the_token_is_hinted_at(run, daemon, status):
    daemon.refuse("GET", "/v1/events", status, "forbidden", "Not allowed", "this listener only takes events")
    result = run("events", "list")
    assert result.exit_code == 1
    assert "--token-file" in result.stderr


def test_what_is_not_there_has_its_own_code(run):
    result = run("events", "show", "evt_none")
    assert result.exit_code == 4
    assert "There is no such thing" in result.stderr


@pytest.mark.parametrize("status", [200, 502])
def test_an_answer_of_something_else_is_recognised(run, daemon, status):
    daemon.answer("GET", "/v1/events", b"<html>hello</html>", status, "text/html")
    result = run("events", "list")
    assert result.exit_code == 1
    assert "is that a webhookd?" in result.stderr


def test_ids_are_one_segment_of_the_path(run, daemon):
    run("events", "show", "../status?x")
    assert daemon.asked[0].path == "/v1/events/..%2Fstatus%3Fx"
