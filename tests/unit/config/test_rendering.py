"""What check-config shows: the settings in force, no secret, and when retries would come."""

import json
import re
import tomllib

import pytest

from tests.unit.config.conftest import SECRET
from webhookd.config import describe
from webhookd.config.timeline import timeline
from webhookd.core.settings import DAY, DeliveryRules, RetryGrowth, RetryList

FULL = f"""
[[listen]]
address = "unix:x.sock"
[[listen]]
address = "tcp:127.0.0.1:0"
role = "read"
hosts = ["b", "a"]
[[token]]
name = "t"
role = "read"
secret = "token-0123456789"
[network]
allow = ["::1/128"]
[delivery]
rate = "30/m"
[profiles."p.1"]
retry = {{ first = "5m", factor = 2, retries = 3, max = "1d" }}
headers = {{ Accept = "a/b", Authorization = 'Token "{{secret}}"', X-Api-Key = "static-key" }}
signatures = []
[endpoints.orders]
url = "https://example.com/hook?token=query-1&query-0&=query-2"
profile = "p.1"
secret = "endpoint-secret"
[endpoints.plain]
url = "https://example.com/"
secret = "{SECRET}"
description = "say \\"hi\\""
"""


def lines(rules: DeliveryRules) -> list[str]:
    return list(timeline(rules).lines())


def test_text_and_object_say_the_same(config):
    described = describe(config.load(FULL))
    text = tomllib.loads(str(described))
    data = json.loads(json.dumps(described))
    for section in ("listen", "token", "ingest", "store", "network", "delivery"):
        assert text[section] == data[section]
    for section in ("profiles", "endpoints"):
        for name, table in text[section].items():
            assert table.items() <= data[section][name].items()


def test_what_is_shown_could_have_been_written(config):
    """Once the masks are replaced, the text is a configuration that says the same."""
    settings = config.load(FULL)
    shown = str(describe(settings)).replace('secret = "********"', f'secret = "{SECRET}"')
    # A masked URL is refused, lest somebody who copies what is shown sends to where it leads; a masked header likewise.
    text = re.sub(r"(?m)^(url = [^?]*)\?.*", r'\1"', shown).replace('= "********"', '= "again"')
    again = config.load(text)
    assert (again.listen, again.ingest, again.storage) == (settings.listen, settings.ingest, settings.storage)
    assert (again.network, again.delivery) == (settings.network, settings.delivery)
    assert [endpoint.rules.retry for endpoint in again.endpoints.values()] == [
        endpoint.rules.retry for endpoint in settings.endpoints.values()
    ]


@pytest.mark.parametrize(
    "secret", ["token-0123456789", "query-1", "query-2", "query-0", "endpoint-secret", SECRET, "static-key"]
)
def test_no_secret_is_shown(config, secret):
    described = describe(config.load(FULL))
    assert secret not in str(described)
    assert secret not in json.dumps(described)
    assert secret not in repr(described)


def test_a_placeholder_is_shown_and_so_is_the_name_of_a_masked_value(config):
    text = str(describe(config.load(FULL)))
    assert 'Authorization = "Token \\"{secret}\\""' in text
    assert "https://example.com/hook?token=********&********&=********" in text


def test_the_text_of_an_endpoint_leaves_out_what_is_as_in_delivery(config):
    described = describe(config.load(FULL))
    assert set(tomllib.loads(str(described))["endpoints"]["plain"]) == {
        "url",
        "tenant",
        "types",
        "where",
        "description",
        "secret",
    }
    assert set(described["endpoints"]["plain"]) > {"timeout", "retry", "profile"}


def test_the_source_is_named(config, tmp_path, monkeypatch):
    assert str(describe(config.load("#"))).startswith(f"# {config.path}\n")


def test_each_table_of_rules_has_its_schedule(config):
    described = describe(config.load(FULL))
    assert set(described["schedules"]) == {"delivery", "profiles.p.1", "endpoints.orders", "endpoints.plain"}
    schedule = described["schedules"]["endpoints.orders"]
    assert [attempt["at_seconds"] for attempt in schedule["attempts"]] == [0, 300, 900, 2100]
    assert (schedule["attempts_made"], schedule["total"], schedule["cut_by_give_up_after"]) == (4, "35m", False)


def test_the_text_spells_a_schedule_out_once(config):
    text = str(describe(config.load(FULL)))
    assert text.count("# attempt 4 after 20m (at +35m)") == 2
    assert text.count("# attempt 4 after 30m (at +35m 5s)") == 1


def test_the_default_schedule_is_ten_attempts_over_three_days():
    assert lines(DeliveryRules()) == [
        "attempt 1 at once",
        "attempt 2 after 5s (at +5s)",
        "attempt 3 after 5m (at +5m 5s)",
        "attempt 4 after 30m (at +35m 5s)",
        "attempt 5 after 2h (at +2h 35m 5s)",
        "attempt 6 after 5h (at +7h 35m 5s)",
        "attempt 7 after 10h (at +17h 35m 5s)",
        "attempt 8 after 14h (at +1d 7h 35m 5s)",
        "attempt 9 after 20h (at +2d 3h 35m 5s)",
        "attempt 10 after 24h (at +3d 3h 35m 5s)",
        "total: 10 attempts (9 retries) over 3d 3h 35m 5s, up to 3d 11h 8m 36s with jitter",
    ]


def test_no_retries_is_one_attempt():
    assert lines(DeliveryRules(retry=RetryList(()))) == [
        "attempt 1 at once",
        "total: 1 attempt (no retries) over 0s",
    ]


def test_give_up_after_cuts_what_would_be_later():
    rules = DeliveryRules(retry=RetryList((60, 60, 60)), give_up_after_seconds=120, jitter=0)
    assert lines(rules)[2:] == [
        "attempt 3 after 1m (at +2m)",
        "attempt 4 after 1m would be at +3m, past give_up_after (2m): not made",
        "total: 3 attempts (2 retries) over 2m",
    ]
    rules = DeliveryRules(retry=RetryList((60, 60, 60)), give_up_after_seconds=60, jitter=0.5)
    assert lines(rules)[2:] == [
        "attempts 3 to 4 would be at +2m and later, past give_up_after (1m): not made",
        "total: 2 attempts (1 retry) over 1m, up to 1m with jitter",
    ]
    assert [attempt["made"] for attempt in timeline(rules).show()["attempts"]] == [True, True, False, False]


def test_a_long_schedule_is_shown_in_part():
    rules = DeliveryRules(
        retry=RetryGrowth(first_seconds=1, factor=1, retries=1000, max_seconds=1), give_up_after_seconds=30 * DAY
    )
    shown = lines(rules)
    assert len(shown) < 50
    assert shown[-2:] == [
        "attempt 1001 after 1s (at +16m 40s)",
        "total: 1001 attempts (1000 retries) over 16m 40s, up to 18m 20s with jitter",
    ]
    assert "… 971 more …" in shown
