"""The delivery keys: what each takes and refuses."""

import pytest

from webhookd.config.rules import DELIVERY_KEYS
from webhookd.config.tables import show_table
from webhookd.core.settings import (
    Acknowledgement,
    Body,
    DeliveryRules,
    Gone,
    RetryGrowth,
    RetryList,
    Scheme,
    Signature,
)

FULL = """
timeout = "3s"
connect_timeout = "2s"
ack = [202, 200]
retry = ["1s", "1.5s"]
jitter = 1
give_up_after = "1d"
retry_after_max = "2h"
disable_after_days = 0
disable_min_failures = 1
gone = "fail"
concurrency = 1
rate = "30/m"
ordered = true
body = "envelope"
headers = { X-B = "{tenant}", X-A = "1" }
standard_headers = false
signatures = []
"""


def test_every_key_is_read(config):
    assert config.load(f"[delivery]{FULL}").delivery == DeliveryRules(
        timeout_seconds=3,
        connect_timeout_seconds=2,
        ack=Acknowledgement(frozenset({200, 202})),
        retry=RetryList((1, 1.5)),
        jitter=1,
        give_up_after_seconds=86_400,
        retry_after_max_seconds=7200,
        disable_after_days=0,
        disable_min_failures=1,
        gone=Gone.FAIL,
        concurrency=1,
        rate_per_second=0.5,
        ordered=True,
        body=Body.ENVELOPE,
        headers=(("X-B", "{tenant}"), ("X-A", "1")),
        standard_headers=False,
        signatures=(),
    )


def test_every_key_is_shown_as_it_could_be_written(config):
    shown = show_table(DELIVERY_KEYS, config.load(f"[delivery]{FULL}").delivery)
    assert shown["retry"] == ["1s", "1500ms"]
    assert shown["ack"] == [200, 202]
    assert shown["headers"] == {"X-B": "{tenant}", "X-A": "1"}
    assert [key.form.parse(shown[key.name]) for key in DELIVERY_KEYS] == [
        key.form.parse(value) for key, value in zip(DELIVERY_KEYS, shown.values(), strict=True)
    ]


def test_every_rule_has_exactly_one_key():
    assert sorted(key.field for key in DELIVERY_KEYS) == sorted(DeliveryRules.__dataclass_fields__)


def test_retries_may_grow(config):
    text = '[delivery]\nretry = { first = "5m", factor = 2, retries = 9, max = "1d" }'
    assert config.load(text).delivery.retry == RetryGrowth(first_seconds=300, factor=2.0, retries=9, max_seconds=86_400)


def test_no_retries_is_an_empty_list(config):
    assert config.load("[delivery]\nretry = []").delivery.retry == RetryList(())


def test_a_signature_names_its_scheme(config):
    settings = config.load('[delivery]\nsignatures = [{ scheme = "standard" }]')
    assert settings.delivery.signatures == (Signature(scheme=Scheme.STANDARD),)


@pytest.mark.parametrize(
    ("assignment", "key", "word"),
    [
        ("timeout = '0s'", "timeout", "out of range"),
        ("timeout = 15", "timeout", "whole number"),
        ("ack = '3xx'", "ack", '"2xx"'),
        ("ack = []", "ack", "at least one"),
        ("ack = [200, 199]", "ack[1]", "from 200 to 599"),
        ("ack = ['2xx']", "ack[0]", "whole number"),
        ("ack = 200", "ack", "list"),
        ("retry = ['5s', '5x', '-1s']", "retry[1]", "'5x' is not a duration"),
        ("retry = [['5s']]", "retry[0]", "a list"),
        ("retry = '5s'", "retry", "must be a list of delays or a table"),
        ("retry = {}", "retry", "missing: first, factor, retries, max"),
        ("retry = { first='1s', factor=0.5, retries=1, max='1s' }", "retry.factor", "from 1 to 100"),
        ("retry = { first='1s', factor=2, retries=1001, max='1s' }", "retry.retries", "from 0 to 1000"),
        ("retry = { first='2s', factor=2, retries=1, max='1s' }", "retry.max", "shorter than first"),
        ("retry = [" + "'1s'," * 1001 + "]", "retry", "at most 1000"),
        ("jitter = 1.01", "jitter", "from 0 to 1"),
        ("jitter = nan", "jitter", "from 0 to 1"),
        ("gone = 'retry'", "gone", "none of disable, fail"),
        ("concurrency = 0", "concurrency", "from 1"),
        ("rate = 50", "rate", "text"),
        ("ordered = 1", "ordered", "true or false"),
        ("headers = []", "headers", "a table"),
        ("headers = { Host = 'x' }", "headers.Host", "set by webhookd itself"),
        ("headers = { X = 5 }", "headers.X", "must be text"),
        ("headers = { X-Api-Key = '********' }", "headers.X-Api-Key", "how a credential is shown"),
        ('headers = { X = "a\\nb" }', "headers.X", "control"),
        ("headers = { X = '{secrets}' }", "headers.X", "unknown placeholder {secrets}"),
        ("headers = { X-A = '1', x-a = '2' }", "headers.x-a", "same header as X-A"),
        ("headers = {" + ",".join(f"X{n}='1'" for n in range(65)) + "}", "headers", "at most 64"),
        ("signatures = 'standard'", "signatures", "a list"),
        ("signatures = ['standard']", "signatures[0]", "must be a table such as"),
        ("signatures = [{}]", "signatures[0]", "needs a scheme"),
        ("signatures = [{ scheme = 'stripes' }]", "signatures[0].scheme", "'stripes'; known: standard, stripe"),
        ("signatures = [{ scheme = 'standard', header = 'x' }]", "signatures[0].header", "for scheme template only"),
        ("signatures = [{ scheme = 'standard' }, { scheme = 'standard' }]", "signatures[1]", "second time"),
    ],
)
def test_a_bad_rule_is_refused_by_its_key(config, assignment, key, word):
    found, sentence = config.complaints(f"[delivery]\n{assignment}")[0]
    assert found == f"delivery.{key}"
    assert word in sentence
