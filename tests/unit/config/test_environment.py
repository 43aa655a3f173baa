"""Overrides from the environment: plain values by `WEBHOOKD_SECTION__KEY`, and nothing else."""

from pathlib import Path

import pytest

from webhookd.core.settings import Acknowledgement


def test_the_environment_says_it_over_the_file(config):
    settings = config.load(
        '[delivery]\ntimeout = "5s"\njitter = 0.5\n[network]\nplain_http = false',
        WEBHOOKD_DELIVERY__TIMEOUT="3s",
        WEBHOOKD_DELIVERY__JITTER="0",
        WEBHOOKD_DELIVERY__ACK="2xx",
        WEBHOOKD_DELIVERY__RATE="5/m",
        WEBHOOKD_DELIVERY__DISABLE_AFTER_DAYS="0",
        WEBHOOKD_NETWORK__PLAIN_HTTP="true",
        WEBHOOKD_INGEST__ON_NO_MATCH="reject",
        WEBHOOKD_INGEST__MAX_PAYLOAD="1KiB",
        WEBHOOKD_STORE__PATH="/srv/x.db",
    )
    assert settings.delivery.timeout_seconds == 3
    assert settings.delivery.jitter == 0
    assert settings.delivery.ack == Acknowledgement()
    assert settings.delivery.rate_per_second == 5 / 60
    assert settings.delivery.disable_after_days == 0
    assert settings.network.plain_http is True
    assert settings.ingest.on_no_match == "reject"
    assert settings.ingest.max_payload_bytes == 1024
    assert settings.storage.path == Path("/srv/x.db")


@pytest.mark.parametrize(
    ("text", "flag"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_flag_is_true_or_false(config, text, flag):
    assert config.load("#", WEBHOOKD_DELIVERY__ORDERED=text).delivery.ordered is flag


def test_profiles_and_endpoints_still_say_it_over_the_environment(config):
    settings = config.load('[profiles.p]\ntimeout = "9s"\n[profiles.q]', WEBHOOKD_DELIVERY__TIMEOUT="3s")
    assert [profile.timeout_seconds for profile in settings.profiles.values()] == [9, 3]


def test_a_relative_path_from_the_environment_begins_in_the_working_directory(config, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert config.load("#", WEBHOOKD_STORE__PATH="x.db").storage.path == tmp_path / "cwd" / "x.db"


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("WEBHOOKD_DELIVERY__TIMEOUT", "soon", "not a duration"),
        ("WEBHOOKD_DELIVERY__JITTER", "much", "must be a number, not text"),
        ("WEBHOOKD_DELIVERY__CONCURRENCY", "1.5", "must be a whole number, not a decimal"),
        ("WEBHOOKD_DELIVERY__ORDERED", "maybe", "must be true or false"),
        ("WEBHOOKD_DELIVERY__ACK", "200", 'must be "2xx"'),
        ("WEBHOOKD_DELIVERY__RETRY", "5s", "only be set in the file"),
        ("WEBHOOKD_DELIVERY__HEADERS", "{}", "only be set in the file"),
        ("WEBHOOKD_NETWORK__ALLOW", "::1/128", "only be set in the file"),
        ("WEBHOOKD_STORE__PATH", "", "must not be empty"),
        ("WEBHOOKD_STORE__PATH", "~/x.db", "not expanded"),
        ("WEBHOOKD_STORE__PAHT", "x", "did you mean WEBHOOKD_STORE__PATH?"),
        ("WEBHOOKD_STORES__X", "x", "unknown variable"),
        ("WEBHOOKD_store__path", "x", "unknown variable"),
        ("WEBHOOKD_ENDPOINTS__URL", "x", "unknown variable"),
    ],
)
def test_a_bad_override_is_refused_by_the_name_of_its_variable(config, variable, value, word):
    key, sentence = config.complaint("#", **{variable: value})
    assert key == variable
    assert word in sentence


def test_what_the_command_line_reads_is_no_override(config):
    assert config.load("#", WEBHOOKD_SERVER="unix:/x", WEBHOOKD_TOKEN_FILE="/x", WEBHOOKDX__Y="1", OTHER__X="1")


def test_a_bad_value_in_the_file_is_refused_also_where_the_environment_replaces_it(config):
    assert config.complaint("[ingest]\nmax_batch = 0", WEBHOOKD_INGEST__MAX_BATCH="5")[0] == "ingest.max_batch"
