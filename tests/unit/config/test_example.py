"""config.example.toml holds every key there is, with its default and a line that explains it."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from webhookd.config import load_settings
from webhookd.config.credentials import BASIC_AUTH_KEYS
from webhookd.config.endpoints import FILE_ONLY_NAMES, IDENTITY_KEYS
from webhookd.config.environment import SECTIONS
from webhookd.config.listeners import LISTEN_KEYS, TOKEN_KEYS
from webhookd.config.rules import DELIVERY_KEYS, GROWTH_KEYS
from webhookd.config.secret_sources import SECRET_NAMES
from webhookd.config.signatures import SIGNATURE_KEYS

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
TEXT = EXAMPLE.read_text()
UNCOMMENTED = re.sub(r"(?m)^#(?=\S)", "", TEXT)
EVERYTHING = tomllib.loads(UNCOMMENTED)

ASSIGNMENT = re.compile(r"^#?[a-z_]+ = ")


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """Provide the settings of a machine without a file; the database stands where the example puts it."""
    monkeypatch.chdir(tmp_path)
    return load_settings(None, environ={"HOME": str(tmp_path)})


def names(keys) -> set[str]:
    return {key.name for key in keys}


def test_copied_as_it_is_the_example_says_what_is_built_in(config, built_in):
    settings = config.load(TEXT, HOME=config.environ["HOME"].removesuffix("/home"))
    assert replace(settings, source=None) == built_in


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_a_section_is_there(section):
    assert set(EVERYTHING[section]) == names(SECTIONS[section])


def test_every_key_of_the_tables_is_there():
    def found(tables) -> set[str]:
        return {name for table in tables for name in table}

    endpoints = EVERYTHING["endpoints"].values()
    assert found(EVERYTHING["listen"]) == names(LISTEN_KEYS)
    assert found(EVERYTHING["token"]) == names(TOKEN_KEYS) | {"secret_file"}
    assert found(endpoints) >= names(IDENTITY_KEYS) | FILE_ONLY_NAMES | SECRET_NAMES | {"basic_auth"}
    basic_auth = EVERYTHING["endpoints"]["crm"]["basic_auth"]
    assert set(basic_auth) == names(BASIC_AUTH_KEYS) | {"password_file"}
    assert set(EVERYTHING["profiles"]["flybuy"]["retry"]) == names(GROWTH_KEYS)
    assert set(EVERYTHING["profiles"]["legacy"]["signatures"][0]) == names(SIGNATURE_KEYS)
    assert {"profiles", "listen", "token", "endpoints", *SECTIONS} == set(EVERYTHING)


def test_every_default_that_is_not_commented_out_stands_there_for_every_key():
    written = tomllib.loads(TEXT)
    left_out = {
        f"{section}.{name}" for section in SECTIONS for name in set(EVERYTHING[section]) - set(written[section])
    }
    assert left_out == {"store.path"}  # which depends on the machine


def test_the_examples_hold_when_they_are_taken_in(config, tmp_path):
    authority = trustme.CA()
    client = authority.issue_cert("client.example")
    for name, text in (
        ("billing.token", "b" * 32),
        ("orders.secret", "o" * 32),
        ("order.json", "{}"),
        ("audit", "YXVk"),
        ("crm.url", "https://crm.example.com/in/s3cret"),
        ("crm.password", "hunter2"),
        ("bank.url", "https://bank.example.com/in/s3cret"),
        ("bank-ca.pem", authority.cert_pem.bytes().decode()),
        ("client.pem", client.cert_chain_pems[0].bytes().decode()),
        ("client.key", client.private_key_pem.bytes().decode()),
        ("flybuy.token", "FB-7Q2"),
        ("impact-stack.url", "https://example.com/ist-webhook/s3cret"),
        ("impact-stack.password", "hunter2"),
        ("forage.secret", "whsec_Zm9yYWdl"),
        ("stripe.secret", "whsec_stripe"),
        ("razorpay.secret", "razorpay"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    settings = config.load(UNCOMMENTED, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert set(settings.endpoints) == set(EVERYTHING["endpoints"])
    assert len(settings.endpoints) == 12
    assert settings.endpoints["orders"].sample == b"{}"
    assert settings.endpoints["orders"].rules.timeout_seconds == 30
    assert settings.endpoints["orders"].rules.headers == settings.profiles["flybuy"].headers
    assert settings.warnings == ()


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if ASSIGNMENT.match(line)])
def test_every_key_is_explained_on_its_line(line):
    assert re.search(r"  +# \S.{10,}$", line)
    assert len(line) <= 120


def test_keys_for_the_example_are_found():
    assert len([line for line in TEXT.splitlines() if ASSIGNMENT.match(line)]) > len(DELIVERY_KEYS)
