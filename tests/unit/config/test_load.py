"""From file to settings: defaults, sections, and every complaint at once with its key."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhookd.config import load_settings, reload_conflicts
from webhookd.config.document import Document
from webhookd.config.endpoints import ENDPOINT_KEYS
from webhookd.config.environment import SECTIONS
from webhookd.config.listeners import LISTEN_KEYS, TOKEN_KEYS
from webhookd.config.load import _fill
from webhookd.config.rules import DELIVERY_KEYS
from webhookd.config.tables import Report
from webhookd.core.settings import (
    DeliveryRules,
    Ingest,
    Listen,
    NetworkRules,
    OnNoMatch,
    Role,
    Storage,
    TcpAddress,
)


def test_without_a_file_the_defaults_are_loopback_and_the_state_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, environ={"HOME": str(tmp_path), "XDG_STATE_HOME": "/state"})
    assert settings.source is None
    assert settings.listen == (Listen(address=TcpAddress("127.0.0.1", 8470), role=Role.OPERATE),)
    assert settings.storage == Storage(path=Path("/state/webhookd/webhookd.db"))
    assert (settings.ingest, settings.network, settings.delivery) == (Ingest(), NetworkRules(), DeliveryRules())
    assert (settings.tokens, settings.profiles, settings.endpoints, settings.warnings) == ((), {}, {}, ())


def test_a_section_that_is_absent_has_its_defaults(config):
    settings = config.load("# nothing but this\n")
    assert (settings.ingest, settings.delivery) == (Ingest(), DeliveryRules())
    assert settings.listen == (Listen(),)


def test_every_section_is_filled_from_the_file(config):
    settings = config.load(
        """
        [ingest]
        max_payload = "1KiB"
        max_batch = 5
        max_request = "2KiB"
        on_no_match = "reject"
        idempotency_window = "1d"
        [store]
        path = "/srv/x.db"
        max_size = "1GiB"
        min_free = "0B"
        keep_delivered = "1h"
        keep_dead = "2h"
        [network]
        allow = ["10.1.0.0/16", "::1/128", "127.0.0.1"]
        plain_http = true
        max_in_flight = 8
        drain_timeout = "1s"
        """
    )
    assert settings.ingest == Ingest(
        max_payload_bytes=1024,
        max_batch=5,
        max_request_bytes=2048,
        on_no_match=OnNoMatch.REJECT,
        idempotency_window_seconds=86_400,
    )
    assert settings.storage == Storage(
        path=Path("/srv/x.db"),
        max_size_bytes=1 << 30,
        min_free_bytes=0,
        keep_delivered_seconds=3600,
        keep_dead_seconds=7200,
    )
    assert [str(network) for network in settings.network.allow] == ["10.1.0.0/16", "::1/128", "127.0.0.1/32"]
    assert settings.network.plain_http
    assert (settings.network.max_in_flight, settings.network.drain_timeout_seconds) == (8, 1)


def test_a_relative_database_is_beside_the_file(config):
    assert config.load('[store]\npath = "data/x.db"').storage.path == config.path.parent / "data" / "x.db"


@pytest.mark.parametrize("path", ["", "~/x.db", "a\\u0000b"])
def test_a_path_that_means_something_else_than_it_says_is_refused(config, path):
    assert config.complaint(f'[store]\npath = "{path}"')[0] == "store.path"


def test_a_database_without_any_home_needs_a_path(config):
    config.environ.clear()
    assert config.complaint("[ingest]")[0] == "store.path"
    assert config.load('[store]\npath = "x.db"')


def test_all_complaints_come_at_once_in_the_order_of_the_file_with_key_and_line(config):
    complaints = config.complaints(
        """[delivery]
timeot = "5s"
retry = ["5s", "x"]
[ingest]
max_batch = "many"
[storage]
[endpoints.orders]
url = "ftp://example.com"
[endpoints.orders.headers]
"Bad Name" = "x"
"""
    )
    assert [(key, text.rpartition(" (")[2]) for key, text in complaints] == [
        ("delivery.timeot", "line 2)"),
        ("delivery.retry[1]", "line 3)"),
        ("ingest.max_batch", "line 5)"),
        ("storage", "line 6)"),
        ("endpoints.orders.secret", "line 7)"),
        ("endpoints.orders.url", "line 8)"),
        ('endpoints.orders.headers."Bad Name"', "line 10)"),
    ]


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[delivry]", "delivry", "delivery"),
        ("[ingest]\nmax_paylod = 1", "ingest.max_paylod", "max_payload"),
        ("[[listen]]\naddress='unix:/x'\nroles='read'", "listen[0].roles", "role"),
        ("[profiles.p]\nretries = []", "profiles.p.retries", "retry"),
        (
            "[delivery]\nretry = {frist='1s', factor=2, retries=1, max='1s', first='1s'}",
            "delivery.retry.frist",
            "first",
        ),
    ],
)
def test_an_unknown_key_comes_with_the_one_that_was_meant(config, text, key, meant):
    found, sentence = config.complaint(text)
    assert found == key
    assert f"unknown key; did you mean {meant}?" in sentence


@pytest.mark.parametrize(
    "name",
    ["proxy"],
)
def test_keys_that_are_not_there_yet_are_unknown(config, name):
    key, sentence = config.complaint(f"[endpoints.a]\nurl='https://example.com'\nsignatures=[]\n{name} = 'x'")
    assert key == f"endpoints.a.{name}"
    assert sentence.startswith("unknown key")


@pytest.mark.parametrize("section", [*SECTIONS, "profiles", "endpoints"])
def test_a_section_that_is_no_table_is_refused(config, section):
    assert config.complaint(f"{section} = 5") == (section, "must be a table, not a whole number (line 1)")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8"),
        ("10.0.0.0/33", "not a range"),
        ("example.com", "not a range"),
        ("fe80::1%eth0/64", "zone"),
        ("", "not a range"),
    ],
)
def test_a_bad_range_of_addresses_is_refused(config, value, word):
    key, sentence = config.complaint(f'[network]\nallow = ["::1/128", "{value}"]')
    assert key == "network.allow[1]"
    assert word in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ingest.max_payload", '"65MiB"'),
        ("ingest.max_batch", "0"),
        ("ingest.on_no_match", '"drop"'),
        ("ingest.idempotency_window", '"3651d"'),
        ("store.max_size", '"0B"'),
        ("store.keep_dead", "7"),
        ("network.plain_http", '"yes"'),
        ("network.max_in_flight", "65537"),
        ("network.allow", '"10.0.0.0/8"'),
        ("network.drain_timeout", "1979-05-27"),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused_by_its_key(config, key, value):
    section, _, name = key.partition(".")
    assert config.complaint(f"[{section}]\n{name} = {value}")[0] == key


def test_requests_smaller_than_payloads_draw_a_warning(config):
    (warning,) = config.load('[ingest]\nmax_request = "1KiB"').warnings
    assert warning.startswith("ingest.max_request: ")


def test_a_profile_has_a_name_that_can_be_pointed_to(config):
    assert config.complaint('[profiles."a b"]')[0] == 'profiles."a b"'


def test_a_profile_is_what_it_says_over_the_defaults(config):
    settings = config.load('[delivery]\ntimeout = "3s"\njitter = 0\n[profiles.p]\njitter = 1')
    assert settings.profiles == {"p": DeliveryRules(timeout_seconds=3, jitter=1)}


def test_a_changed_listener_or_database_needs_a_restart(config):
    old = config.load('[store]\npath = "a.db"')
    new = config.load('[store]\npath = "b.db"\n[[listen]]\naddress = "tcp:127.0.0.1:1"')
    assert [(conflict.key, "needs restart" in conflict.text) for conflict in reload_conflicts(old, new)] == [
        ("listen", True),
        ("store.path", True),
    ]


def test_any_other_change_is_taken_over_by_a_reload(config):
    old = config.load('[store]\npath = "a.db"')
    new = config.load('[store]\npath = "a.db"\nmax_size = "1GiB"\n[delivery]\nretry = []\n[network]\nplain_http = true')
    assert reload_conflicts(old, new) == []


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
    | st.sampled_from(["5s", "2xx", "https://h/", "unix:/x", "tcp:[::1]:1", "tcp::", "a[", "{secret}", "standard", "~"])
)  # fmt: skip
NAMES = st.sampled_from(
    sorted(
        {key.name for keys in (*SECTIONS.values(), LISTEN_KEYS, TOKEN_KEYS, ENDPOINT_KEYS) for key in keys}
        | {"listen", "token", "profiles", "endpoints", *SECTIONS}
        | {"secret", "secret_file", "secret_credential", "sample_file", "first", "factor", "retries", "max", "scheme"}
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def filled(tables: dict[str, object]) -> Report:
    report = Report()
    document = Document(path=None, base=Path("/nonexistent"), tables=tables, text="")
    _fill(document, {"HOME": "/nonexistent", "CREDENTIALS_DIRECTORY": "/nonexistent"}, report)
    return report


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_no_document_leads_to_anything_but_settings_or_complaints(tables):
    filled(tables)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*DELIVERY_KEYS, *ENDPOINT_KEYS]), VALUES)
def test_no_value_of_an_endpoint_leads_to_anything_but_complaints_under_its_key(key, value):
    table = {"url": "https://example.com/", "signatures": [], "headers": {}, key.name: value}
    below = f"endpoints.e.{key.name}"
    for where, _ in filled({"endpoints": {"e": table}}).complaints:
        assert where[:3] == ("endpoints", "e", key.name) or (key.name == "signatures" and where[2] == "secret"), below


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(name, key) for name, keys in SECTIONS.items() for key in keys]), VALUES)
def test_no_value_of_a_section_leads_to_anything_but_complaints_under_its_key(place, value):
    section, key = place
    for where, _ in filled({section: {key.name: value}}).complaints:
        assert where[:2] == (section, key.name)
