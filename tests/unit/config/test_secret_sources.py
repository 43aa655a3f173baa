"""Secrets inline, in files and as credentials: read once, never repeated in a complaint."""

import os

import pytest

from tests.unit.config.conftest import SECRET


def endpoint(lines: str) -> str:
    return f'[endpoints.a]\nurl = "https://example.com/"\n{lines}\n'


def secret_of(settings) -> str:
    return settings.endpoints["a"].secret


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "a.secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_a_secret_may_stand_in_the_file_itself(config):
    assert secret_of(config.load(endpoint(f'secret = "{SECRET}"'))) == SECRET


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_file_is_beside_the_file_and_may_end_its_line(config, secret_file, ending):
    secret_file.write_bytes((SECRET + ending).encode())
    settings = config.load(endpoint('secret_file = "a.secret"'))
    assert (secret_of(settings), settings.warnings) == (SECRET, ())


def test_only_one_line_end_is_taken_away(config, secret_file):
    secret_file.write_text(SECRET + "\n\n")
    assert config.complaint(endpoint('secret_file = "a.secret"')) == (
        "endpoints.a.secret_file",
        "must not contain control characters (line 3)",
    )


def test_a_secret_file_that_everyone_can_read_draws_a_warning(config, secret_file):
    secret_file.chmod(0o644)
    (warning,) = config.load(endpoint('secret_file = "a.secret"')).warnings
    assert warning.startswith(f"endpoints.a.secret_file: {secret_file} can be read by everyone")


def test_a_secret_file_that_a_group_can_read_draws_none(config, secret_file):
    secret_file.chmod(0o640)
    assert config.load(endpoint('secret_file = "a.secret"')).warnings == ()


def test_a_credential_comes_from_the_directory_of_the_service_manager(config, secret_file):
    settings = config.load(endpoint('secret_credential = "a.secret"'), CREDENTIALS_DIRECTORY=str(secret_file.parent))
    assert secret_of(settings) == SECRET


def test_a_credential_without_a_service_manager_is_refused(config):
    key, sentence = config.complaint(endpoint('secret_credential = "a"'))
    assert key == "endpoints.a.secret_credential"
    assert "$CREDENTIALS_DIRECTORY" in sentence


@pytest.mark.parametrize("name", ["../a.secret", "/etc/passwd", "..", "", "a\\u0000"])
def test_a_credential_is_a_name_and_no_path(config, secret_file, name):
    text = endpoint(f'secret_credential = "{name}"')
    key, sentence = config.complaint(text, CREDENTIALS_DIRECTORY=str(secret_file.parent))
    assert key == "endpoints.a.secret_credential"
    assert "not the name of a credential" in sentence


def test_a_secret_is_given_once(config, secret_file):
    key, sentence = config.complaint(endpoint(f'secret = "{SECRET}"\nsecret_file = "a.secret"'))
    assert key == "endpoints.a.secret"
    assert "secret and secret_file" in sentence


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "huge", "binary", "empty"])
def test_a_secret_file_is_a_small_file_of_text(config, secret_file, kind):
    secret_file.unlink()
    match kind:
        case "directory":
            secret_file.mkdir()
        case "fifo":
            os.mkfifo(secret_file)
        case "huge":
            secret_file.write_bytes(b"x" * (64 * 1024 + 1))
        case "binary":
            secret_file.write_bytes(b"\xff\xfe")
        case "empty":
            secret_file.write_bytes(b"\n")
    assert config.complaint(endpoint('secret_file = "a.secret"'))[0] == "endpoints.a.secret_file"


@pytest.mark.parametrize("value", ["5", "true", "[]", "''", "'''\n\n\n'''"])
def test_a_secret_is_text(config, value):
    assert config.complaint(endpoint(f"secret = {value}"))[0] == "endpoints.a.secret"


def test_no_complaint_repeats_a_secret(config):
    assert "hush!" not in str(config.complaint(endpoint('secret = "hush!"')))


def test_no_representation_of_the_settings_repeats_a_secret(config):
    assert SECRET not in repr(config.load(endpoint(f'secret = "{SECRET}"')))


def test_a_token_may_be_kept_in_the_same_ways(config, secret_file):
    settings = config.load('[[token]]\nname = "t"\nrole = "read"\nsecret_file = "a.secret"')
    assert settings.tokens[0].secret == SECRET


def test_a_sample_is_read_as_it_is(config, tmp_path):
    (tmp_path / "sample").write_bytes(b"\xff\n")
    settings = config.load(endpoint('signatures = []\nsample_file = "sample"'))
    assert settings.endpoints["a"].sample == b"\xff\n"


def test_a_sample_that_is_not_there_is_refused(config):
    key, sentence = config.complaint(endpoint('signatures = []\nsample_file = "sample"'))
    assert key == "endpoints.a.sample_file"
    assert "No such file" in sentence
