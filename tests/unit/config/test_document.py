"""Which file is read, what a file must be, and on which line a complaint is."""

import os
import socket
import time
from pathlib import Path

import pytest

from webhookd.config import load_settings
from webhookd.config.document import MOST_BYTES, LineIndex
from webhookd.errors import ConfigErrors

ONLY_BATCH = "[ingest]\nmax_batch = {}\n"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load_settings(path, environ={"HOME": "/nonexistent"})
    (complaint,) = caught.value.complaints
    assert complaint.key == str(path)
    return complaint.text


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "xdg" / "webhookd").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def test_the_working_directory_comes_first_then_the_xdg_directory(elsewhere):
    environ = {"HOME": str(elsewhere), "XDG_CONFIG_HOME": str(elsewhere / "xdg")}
    (elsewhere / "xdg" / "webhookd" / "config.toml").write_text(ONLY_BATCH.format(2))
    assert load_settings(None, environ=environ).ingest.max_batch == 2
    (elsewhere / "cwd" / "webhookd.toml").write_text(ONLY_BATCH.format(1))
    settings = load_settings(None, environ=environ)
    assert settings.ingest.max_batch == 1
    assert settings.source == elsewhere / "cwd" / "webhookd.toml"


def test_without_xdg_config_home_the_home_is_looked_at(elsewhere):
    (elsewhere / ".config" / "webhookd").mkdir(parents=True)
    (elsewhere / ".config" / "webhookd" / "config.toml").write_text(ONLY_BATCH.format(3))
    assert load_settings(None, environ={"HOME": str(elsewhere)}).ingest.max_batch == 3


def test_an_xdg_directory_that_is_relative_is_ignored(elsewhere):
    (elsewhere / "cwd" / "webhookd").mkdir()
    (elsewhere / "cwd" / "webhookd" / "config.toml").write_text(ONLY_BATCH.format(4))
    environ = {"HOME": str(elsewhere), "XDG_CONFIG_HOME": ".", "XDG_STATE_HOME": "."}
    settings = load_settings(None, environ=environ)
    assert settings.source is None
    assert settings.storage.path == elsewhere / ".local" / "state" / "webhookd" / "webhookd.db"


def test_a_file_that_is_there_and_broken_is_not_passed_over(elsewhere):
    (elsewhere / "cwd" / "webhookd.toml").symlink_to("nowhere")
    with pytest.raises(ConfigErrors, match=r"webhookd\.toml: cannot be read"):
        load_settings(None, environ={"HOME": str(elsewhere)})


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(tmp_path / "x.toml") == "cannot be read: No such file or directory"


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_an_empty_file_is_refused(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert refusal(path).startswith("is empty")


def test_a_directory_is_refused(tmp_path):
    assert refusal(tmp_path) == "is a directory"


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert refusal(tmp_path / "fifo") == "is a FIFO, not a file"


def test_a_socket_is_refused(short_path):
    with socket.socket(socket.AF_UNIX) as bound:
        path = short_path / "s"
        bound.bind(str(path))
        assert refusal(path) == "is a socket"


def test_a_device_is_refused():
    assert refusal(Path("/dev/zero")) == "is a device, not a file"


def test_a_file_over_sixteen_mebibytes_is_refused(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("#" * (MOST_BYTES + 1))
    assert refusal(path) == "is larger than 16777216 bytes"
    path.write_text("#" * MOST_BYTES)
    assert load_settings(path, environ={"HOME": "/nonexistent"}).source == path


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"# one\n# \xff\n")
    assert refusal(path) == "line 2: not UTF-8 text"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[ingest]\nmax_batch 5\n", "line 2, column 11: "),
        ("[ingest]\nmax_batch = 5\nmax_batch = 6\n", "line 3, column 14: "),
        ("[ingest]\nmax_batch = [5", "line 2, column 15: "),
        ("a = 1\r\nb = \r\n", "line 2, column 5: "),
    ],
)
def test_a_mistake_of_syntax_has_its_line_and_column(tmp_path, text, place):
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode())
    assert refusal(path).startswith(place)


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 100_000])
def test_what_breaks_a_parser_is_refused(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert refusal(path)


def test_lines_are_known_through_lists_quotes_and_values_of_several_lines():
    index = LineIndex(
        '''# comment
[[listen]]
address = "a"
[[listen]]
hosts = [
  "[delivery]",
]
role = """
[store]
"""
[endpoints."a b"]
headers.X = 1
retry = { first = 1, max = 2 }
[profiles.p.headers]
Y = 2
'''
    )
    found = {
        where: index.line_of(where)
        for where in [
            ("listen", 0, "address"),
            ("listen", 1, "hosts", 0),
            ("listen", 1, "role"),
            ("store",),
            ("delivery",),
            ("endpoints", "a b", "url"),
            ("endpoints", "a b", "headers", "X"),
            ("endpoints", "a b", "retry", "max"),
            ("profiles", "p", "headers", "Y"),
        ]
    }
    assert list(found.values()) == [3, 5, 8, None, None, 11, 12, 13, 15]


def test_lines_of_a_file_with_windows_line_ends_are_known():
    assert LineIndex("[ingest]\r\nmax_batch = 5\r\n").line_of(("ingest", "max_batch")) == 2


def test_a_file_full_of_mistakes_is_refused_in_bounded_time_and_words(config):
    text = "".join(f"[endpoints.e{number}]\nprofil = 'x'\n" for number in range(20_000))
    started = time.monotonic()
    complaints = config.complaints(text)
    assert time.monotonic() - started < 10
    assert len(complaints) == 1001
    assert complaints[-1][1] == "59000 more complaints are left out"
