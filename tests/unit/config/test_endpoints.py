"""Endpoints from the file and over the API: the same keys, the same rules, each complaint at its place."""

import re
import tomllib
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.conftest import SECRET
from webhookd.config import Schema
from webhookd.config.endpoints import IDENTITY_KEYS
from webhookd.core.ids import EndpointId
from webhookd.core.settings import DeliveryRules, EndpointDefinition, RetryList
from webhookd.errors import InvalidRequestError

ORDERS = EndpointId("orders")
URL = "https://example.com/hook"


def refusals(config, given, *, before="#", secret=SECRET, endpoint_id=ORDERS) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(config, given, before=before, secret=secret, endpoint_id=endpoint_id)
    assert (caught.value.slug, caught.value.status) == ("invalid_endpoint", 422)
    assert caught.value.detail
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def resolve(config, given, *, before="#", secret=SECRET, sample=None, endpoint_id=ORDERS) -> EndpointDefinition:
    return Schema(config.load(before)).resolve(endpoint_id, given, secret=secret, sample=sample)


def test_a_declared_endpoint_has_its_keys(config):
    assert config.endpoint(
        'url = "https://example.com/x"\ntenant = "*"\ntypes = ["order_*", "a.b:[cd]/?"]\n'
        'description = "d"\ntimeout = "3s"'
    ) == EndpointDefinition(
        id=ORDERS,
        url="https://example.com/x",
        tenant="*",
        types=("order_*", "a.b:[cd]/?"),
        secret=SECRET,
        description="d",
        rules=DeliveryRules(timeout_seconds=3),
        given={
            "url": "https://example.com/x",
            "tenant": "*",
            "types": ["order_*", "a.b:[cd]/?"],
            "description": "d",
            "timeout": "3s",
        },
        declared=True,
    )


def test_a_url_is_enough_and_the_rest_is_default(config):
    endpoint = config.endpoint("")
    assert (endpoint.tenant, endpoint.types, endpoint.profile, endpoint.description) == ("default", (), None, "")
    assert endpoint.rules == DeliveryRules()


def test_the_endpoint_overrides_its_profile_and_the_profile_the_defaults(config):
    endpoint = config.endpoint(
        'profile = "p"\njitter = 0.3',
        before='[delivery]\ntimeout = "1s"\nconcurrency = 2\njitter = 0.1\n'
        '[profiles.p]\nconcurrency = 3\njitter = 0.2\nretry = ["9s"]',
    )
    assert endpoint.profile == "p"
    assert endpoint.rules == DeliveryRules(timeout_seconds=1, concurrency=3, jitter=0.3, retry=RetryList((9,)))


def test_operational_events_may_be_subscribed_to(config):
    assert config.endpoint('tenant = "webhookd"').tenant == "webhookd"


@pytest.mark.parametrize(
    ("assignment", "key", "word"),
    [
        ("tenant = ''", "tenant", "must be"),
        ("tenant = 'a*'", "tenant", "must be"),
        ("types = 'x'", "types", "a list"),
        ("types = ['a', 'b c']", "types[1]", "wildcards"),
        ("types = ['']", "types[0]", "wildcards"),
        ("types = ['order_[']", "types[0]", "without its ]"),
        ("types = ['[]']", "types[0]", "without its ]"),
        ("types = ['[!a]']", "types[0]", "wildcards"),
        ("profile = 'flybuyy'", "profile", "unknown profile; did you mean flybuy?"),
        ("profile = ''", "profile", "must be"),
        ('description = "a\\u001b[31m"', "description", "control"),
        ("url = 'ftp://example.com'", "url", "https://"),
        ("url = 'https://u:p@example.com'", "url", "user name"),
        ("url = 5", "url", "text"),
        ("headers = { Webhook-Signature = 'x' }", "headers", "Webhook-Signature"),
    ],
)
def test_a_bad_key_is_refused_by_file_and_api_alike(config, assignment, key, word):
    before = "[profiles.flybuy]"
    url = "" if key == "url" else f'url = "{URL}"'
    found, sentence = config.complaint(f'{before}\n[endpoints.orders]\nsecret = "{SECRET}"\n{url}\n{assignment}')
    assert found == f"endpoints.orders.{key}"
    assert word in sentence
    ((pointer, detail),) = refusals(config, {"url": URL} | tomllib.loads(assignment), before=before)
    assert pointer == "/" + key.replace("[", "/").removesuffix("]")
    assert sentence.startswith(detail)


def test_a_declared_endpoint_needs_a_url(config):
    assert config.complaint("[endpoints.a]\nsignatures = []")[0] == "endpoints.a.url"


@pytest.mark.parametrize("name", ["Orders", "a.b", "-a", "a" * 65])
def test_an_endpoint_has_a_slug_for_its_name(config, name):
    key, sentence = config.complaint(f'[endpoints."{name}"]\nurl = "{URL}"\nsignatures = []')
    assert key.startswith("endpoints.")
    assert "a-z 0-9" in sentence


def test_a_signature_without_a_secret_is_refused_naming_the_endpoint(config):
    key, sentence = config.complaint(f'[endpoints.orders]\nurl = "{URL}"')
    assert key == "endpoints.orders.secret"
    assert "endpoint orders signs by scheme standard and has no secret" in sentence


def test_a_secret_that_is_no_key_is_refused_only_where_it_signs(config):
    table = f'[endpoints.orders]\nurl = "{URL}"\nsecret = "not base64!"\n'
    key, sentence = config.complaint(table)
    assert key == "endpoints.orders.secret"
    assert "base64" in sentence
    assert config.load(f"{table}signatures = []").endpoints[ORDERS].secret == "not base64!"


def test_a_header_of_a_profile_is_checked_against_the_signature_of_the_endpoint(config):
    before = '[profiles.p]\nsignatures = []\nheaders = { webhook-id = "x" }'
    assert config.endpoint('profile = "p"', before=before)
    table = f'[endpoints.a]\nurl = "{URL}"\nprofile = "p"\nsecret = "{SECRET}"\n'
    complaint = config.complaint(f'{before}\n{table}signatures = [{{ scheme = "standard" }}]')
    assert complaint[0] == "endpoints.a.signatures"


@pytest.mark.parametrize("given_by", ["file", "api"])
def test_a_secret_must_fit_into_the_header_that_uses_it(config, given_by):
    headers = 'headers = { X = "{secret}" }\nsignatures = []'
    if given_by == "file":
        complaint = config.complaint(f'[endpoints.a]\nurl = "{URL}"\nsecret = " x "\n{headers}')
        assert complaint[0] == "endpoints.a.secret"
    else:
        ((pointer, detail),) = refusals(
            config, {"url": URL, "headers": {"X": "{secret}"}, "signatures": []}, secret=" x "
        )
        assert (pointer, "header X" in detail) == ("/secret", True)


@pytest.mark.parametrize(
    ("network", "url", "allowed"),
    [
        ("", "http://127.0.0.1:1/", False),
        ("", "http://93.184.216.34/", False),
        ("", "http://[::1]/", False),
        ("", "http://localhost/", True),
        ("", "https://127.0.0.1/", True),
        ("allow = ['127.0.0.0/8']", "http://127.0.0.1:1/", True),
        ("allow = ['127.0.0.0/8']", "http://[::ffff:127.0.0.1]:1/", True),
        ("allow = ['127.0.0.0/8']", "http://10.0.0.1/", False),
        ("plain_http = true", "http://10.0.0.1/", True),
    ],
)
def test_plain_http_to_an_address_needs_it_listed(config, network, url, allowed):
    given = {"url": url}
    if allowed:
        assert resolve(config, given, before=f"[network]\n{network}").url == url
    else:
        ((pointer, detail),) = refusals(config, given, before=f"[network]\n{network}")
        assert (pointer, "network.allow" in detail) == ("/url", True)


@pytest.mark.parametrize(
    ("own", "url", "taken"),
    [
        ("127.0.0.1:8470", "https://127.0.0.1:8470/v1/events/x", True),
        ("127.0.0.1:8470", "https://localhost:8470/", True),
        ("[::1]:8470", "https://[::1]:8470/", True),
        ("127.0.0.1:8470", "https://127.0.0.1:8471/", False),
        ("127.0.0.1:8470", "https://127.0.0.2:8470/", False),
        ("127.0.0.1:8470", "https://example.com:8470/", False),
        ("localhost:8470", "https://127.0.0.1:8470/", False),
    ],
)
def test_the_daemon_is_not_its_own_receiver(config, own, url, taken):
    before = f'[[listen]]\naddress = "tcp:{own}"'
    if taken:
        ((pointer, detail),) = refusals(config, {"url": url}, before=before)
        assert (pointer, "own listener" in detail) == ("/url", True)
    else:
        assert resolve(config, {"url": url}, before=before)


def test_a_listener_on_every_address_is_found_on_loopback_too(config):
    before = '[[listen]]\naddress = "tcp:0.0.0.0:8470"\n[[token]]\nname="t"\nrole="read"\nsecret="0123456789abcdef"'
    assert refusals(config, {"url": "https://127.0.0.1:8470/"}, before=before)


def test_an_endpoint_made_over_the_api_follows_the_settings_in_force(config):
    definition = resolve(
        config,
        {"url": URL, "profile": "p", "retry": ["1s"], "id": "orders", "secret": SECRET, "sample": {}},
        before='[delivery]\ntimeout = "1s"\n[profiles.p]\njitter = 0',
        sample=b"{}",
    )
    assert definition == EndpointDefinition(
        id=ORDERS,
        url=URL,
        tenant="default",
        profile="p",
        secret=SECRET,
        sample=b"{}",
        rules=DeliveryRules(timeout_seconds=1, jitter=0, retry=RetryList((1,))),
        given={"url": URL, "profile": "p", "retry": ["1s"]},
        declared=False,
    )


def test_everything_wrong_comes_at_once_with_its_pointer(config):
    given = {"urll": URL, "retry": ["1s", 5], "headers": {"a/b~": "x"}, "secret_file": "x", "sample_file": "y"}
    pointers = [pointer for pointer, _ in refusals(config, given, secret=None, endpoint_id=EndpointId("Bad"))]
    assert sorted(pointers) == [
        "/headers/a~1b~0",
        "/id",
        "/retry/1",
        "/sample_file",
        "/secret",
        "/secret_file",
        "/url",
        "/urll",
    ]


@pytest.mark.parametrize("name", ["secret_file", "secret_credential", "sample_file"])
def test_keys_that_point_into_the_file_system_are_not_for_the_api(config, name):
    ((pointer, detail),) = refusals(config, {"url": URL, name: "x"})
    assert pointer == f"/{name}"
    assert "over the API give" in detail


@pytest.mark.parametrize("name", ["proxy"])
def test_keys_that_are_not_there_yet_are_unknown_over_the_api(config, name):
    ((pointer, detail),) = refusals(config, {"url": URL, name: "x"})
    assert (pointer, detail.startswith("unknown key")) == (f"/{name}", True)


@pytest.mark.parametrize("secret", ["", "a\nb", "hush hush!"])
def test_a_bad_secret_is_refused_and_not_repeated(config, secret):
    ((pointer, detail),) = refusals(config, {"url": URL}, secret=secret)
    assert pointer == "/secret"
    assert not secret or secret not in detail


def test_each_field_of_a_definition_has_at_most_one_key():
    fields = [key.field for key in IDENTITY_KEYS]
    assert len(set(fields)) == len(fields)
    assert set(fields) <= set(EndpointDefinition.__dataclass_fields__)


@given(st.text("ab*?[]-!.", min_size=1, max_size=12))
def test_every_pattern_that_is_taken_can_be_matched(pattern):
    (form,) = [key.form for key in IDENTITY_KEYS if key.name == "types"]
    try:
        form.parse([pattern])
    except ValueError:
        return
    re.compile(translate(pattern))
