"""Secret URLs, Basic credentials and certificates: where they may stand, and what is wrong with them."""

import pytest
import trustme

from tests.unit.config.conftest import SECRET
from webhookd.config import Schema, describe
from webhookd.core.ids import EndpointId
from webhookd.core.settings import BasicAuth
from webhookd.errors import InvalidRequestError

URL = "https://example.com/in/s3cret-path?key=s3cret-key"
SHOWN = "https://example.com/…"


def declared(*keys: str, url: str = 'url = "https://example.com/hook"') -> str:
    return "\n".join(["[endpoints.a]", url, "signatures = []", *keys])


def resolve(config, **given):
    schema = Schema(config.load("#"))
    return schema.resolve(
        EndpointId("a"), {"url": "https://example.com/hook", "signatures": [], **given}, secret=None, sample=None
    )


def faults(config, **given) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(config, **given)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def pem(authority, tmp_path):
    client = authority.issue_cert("client.example")
    texts = {
        "ca.pem": authority.cert_pem.bytes(),
        "client.pem": client.cert_chain_pems[0].bytes(),
        "client.key": client.private_key_pem.bytes(),
        "both.pem": client.private_key_and_cert_chain_pem.bytes(),
        "other.key": authority.issue_cert("other.example").private_key_pem.bytes(),
        "nonsense.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path


# Basic credentials


@pytest.mark.parametrize("source", ["password = 'pass:wörd'", "password_file = 'pw'", "password_credential = 'pw'"])
def test_a_password_may_be_kept_in_the_same_ways_as_a_secret(config, tmp_path, source):
    (tmp_path / "pw").write_text("pass:wörd\n")
    (tmp_path / "pw").chmod(0o600)
    text = declared(f"basic_auth = {{ username = 'u', {source} }}")
    settings = config.load(text, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert settings.endpoints["a"].basic_auth == BasicAuth(username="u", password="pass:wörd")
    assert settings.warnings == ()


def test_a_password_file_that_everyone_can_read_draws_a_warning(config, tmp_path):
    (tmp_path / "pw").write_text("p")
    (tmp_path / "pw").chmod(0o644)
    (warning,) = config.load(declared("basic_auth = { username = 'u', password_file = 'pw' }")).warnings
    assert warning.startswith("endpoints.a.basic_auth.password_file: ")


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ("'u:p'", "", "must be a table with username and password, not text"),
        ("{ username = 'u' }", "", "needs a password, or a password_file, or a password_credential"),
        ("{ password = 'p' }", "", "needs a username"),
        ("{ username = 'a:b', password = 'hush' }", ".username", "must not contain a colon"),
        ("{ username = 'a\\u0009b', password = 'hush' }".replace("'", '"'), ".username", "control characters"),
        ("{ username = 'u', password = '''a\nhush''' }", ".password", "control characters"),
        ("{ username = 'u', password = '********' }", ".password", "is how a password is shown"),
        ("{ username = 'u', password = 'hush', password_file = 'pw' }", ".password", "give the password once"),
        ("{ username = 'u', password_file = 'empty' }", ".password_file", "the password is empty"),
        ("{ username = 'u', pasword = 'hush', password = 'p' }", ".pasword", "did you mean password?"),
        ("{ username = 5, password = 'hush' }", ".username", "must be text"),
    ],
)
def test_bad_basic_credentials_are_refused_and_not_repeated(config, tmp_path, table, key, words):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "empty").chmod(0o600)
    found, sentence = config.complaint(declared(f"basic_auth = {table}"))
    assert found == f"endpoints.a.basic_auth{key}"
    assert words in sentence
    assert "hush" not in sentence


def test_an_empty_password_is_taken_where_it_is_written_out(config):
    assert resolve(config, basic_auth={"username": "key", "password": ""}).basic_auth.token == "a2V5Og=="


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_basic_credentials_beside_an_authorization_header_are_refused(config, name):
    text = declared("basic_auth = { username = 'u', password = 'p' }", "profile = 'p'")
    key, sentence = config.complaint(f'{text}\n[profiles.p]\nheaders = {{ {name} = "Token x" }}')
    assert key == "endpoints.a.basic_auth"
    assert "so do the configured headers" in sentence


def test_a_password_in_a_file_is_not_for_the_api(config):
    ((pointer, detail),) = faults(config, basic_auth={"username": "u", "password_file": "pw"})
    assert pointer == "/basic_auth/password_file"
    assert "over the API give password itself" in detail


def test_userinfo_in_a_url_is_refused_with_a_hint(config):
    (complaint,) = config.complaints(declared(url='url = "https://u:hush@example.com/"'))
    assert complaint[0] == "endpoints.a.url"
    assert "basic_auth" in complaint[1]
    assert "hush" not in complaint[1]


# Secret URLs


@pytest.mark.parametrize("source", ["url_file", "url_credential"])
def test_a_url_from_elsewhere_is_a_secret(config, tmp_path, source):
    (tmp_path / "url").write_text(URL + "\n")
    (tmp_path / "url").chmod(0o600)
    settings = config.load(declared(url=f"{source} = 'url'"), CREDENTIALS_DIRECTORY=str(tmp_path))
    definition = settings.endpoints["a"]
    assert (definition.url, definition.url_is_secret, definition.shown_url) == (URL, True, SHOWN)
    for shown in (str(describe(settings)), str(dict(describe(settings))), repr(settings)):
        assert "s3cret" not in shown
    assert describe(settings)["endpoints"]["a"]["url"] == SHOWN


def test_a_secret_url_keeps_its_port_in_sight(config):
    assert (
        resolve(config, url="https://example.com:8443?t=1", url_secret=True).shown_url == "https://example.com:8443/…"
    )


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        ("url = 'https://a/'\nurl_file = 'url'", "url", "give the URL once, not as url and url_file"),
        ("url_file = 'missing'", "url_file", "cannot be read"),
        ("url_credential = '../x'", "url_credential", "not the name of a credential"),
        ("url_file = 'url'", "url_file", "must start with https"),
        ("url_file = 'plain'", "url_file", "plain http to 10.0.0.1"),
        ("url_file = 'own'", "url_file", "own listener"),
        ("", "url", "is missing"),
    ],
)
def test_a_bad_secret_url_is_refused_and_not_repeated(config, tmp_path, url, key, words):
    for name, text in (
        ("url", "ftp://example.com/s3cret"),
        ("plain", "http://10.0.0.1/s3cret"),
        ("own", "https://localhost:8470/s3cret"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    found, sentence = config.complaint(declared(url=url))
    assert found == f"endpoints.a.{key}"
    assert words in sentence
    assert "s3cret" not in sentence


def test_a_url_of_the_api_is_a_secret_if_it_is_said_to_be_one(config):
    assert resolve(config, url=URL, url_secret=True).url_is_secret
    assert not resolve(config, url=URL, url_secret=False).url_is_secret
    assert not resolve(config, url=URL).url_is_secret


def test_whether_a_url_is_a_secret_is_true_or_false(config):
    assert faults(config, url_secret="yes") == [("/url_secret", "must be true or false, not text")]


def test_in_the_file_a_secret_url_is_one_that_stands_elsewhere(config):
    key, sentence = config.complaint(declared("url_secret = true"))
    assert (key, "unknown key" in sentence) == ("endpoints.a.url_secret", True)


@pytest.mark.parametrize("url", [SHOWN, "https://example.com/?key=********"])
def test_a_url_as_it_is_shown_is_not_taken_for_the_real_one(config, url):
    ((pointer, detail),) = faults(config, url=url)
    assert pointer == "/url"
    assert "is how a URL is shown" in detail


# Certificates


def test_certificates_are_read_and_fingerprinted(config, pem):
    text = declared("ca_file = 'ca.pem'", "client_cert_file = 'client.pem'", "client_key_file = 'client.key'")
    settings = config.load(text)
    tls = settings.endpoints["a"].tls
    assert (tls.ca_file, tls.client_cert_file, tls.client_key_file) == (
        pem / "ca.pem",
        pem / "client.pem",
        pem / "client.key",
    )
    assert settings.warnings == ()
    assert config.load(text).endpoints["a"].tls == tls
    (pem / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    assert config.load(text).endpoints["a"].tls != tls


def test_empty_paths_are_none(config):
    text = declared("ca_file = ''", "client_cert_file = ''", "client_key_file = ''")
    assert config.load(text).endpoints["a"].tls is None


def test_certificate_and_key_may_stand_in_one_file(config, pem):
    assert config.load(declared("client_cert_file = 'both.pem'")).warnings == ()


@pytest.mark.parametrize("key", ["client_key_file", "client_cert_file"])
def test_a_key_that_everyone_can_read_draws_a_warning(config, pem, key):
    name = "both.pem" if key == "client_cert_file" else "client.key"
    (pem / name).chmod(0o644)
    other = "" if key == "client_cert_file" else "client_cert_file = 'client.pem'"
    (warning,) = config.load(declared(other, f"{key} = '{name}'")).warnings
    assert warning.startswith(f"endpoints.a.{key}: {pem / name} can be read by everyone")


def test_certificates_that_everyone_can_read_draw_none(config, pem):
    (pem / "ca.pem").chmod(0o644)
    (pem / "client.pem").chmod(0o644)
    text = declared("ca_file = 'ca.pem'", "client_cert_file = 'client.pem'", "client_key_file = 'client.key'")
    assert config.load(text).warnings == ()


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        (["ca_file = 'missing'"], "ca_file", "No such file"),
        (["ca_file = 5"], "ca_file", "must be text"),
        (["ca_file = 'client.key'"], "ca_file", "holds no certificate"),
        (["ca_file = 'nonsense.pem'"], "ca_file", "is not a list of certificates"),
        (["client_cert_file = 'client.pem'"], "client_cert_file", "is no private key"),
        (["client_key_file = 'client.key'"], "client_key_file", "belongs to a client_cert_file"),
        (
            ["client_cert_file = 'client.pem'", "client_key_file = 'other.key'"],
            "client_key_file",
            "key values mismatch",
        ),
        (["client_cert_file = 'client.pem'", "client_key_file = 'ca.pem'"], "client_key_file", "holds no private key"),
        (["client_cert_file = 'client.pem'", "client_key_file = 'locked.key'"], "client_key_file", "is encrypted"),
    ],
)
def test_bad_certificates_are_refused(config, pem, keys, key, words):
    from cryptography.hazmat.primitives import serialization as pems

    locked = pems.load_pem_private_key((pem / "client.key").read_bytes(), None).private_bytes(
        pems.Encoding.PEM, pems.PrivateFormat.PKCS8, pems.BestAvailableEncryption(b"x")
    )
    (pem / "locked.key").write_bytes(locked)
    (pem / "locked.key").chmod(0o600)
    found, sentence = config.complaint(declared(*keys))
    assert found == f"endpoints.a.{key}"
    assert words in sentence


def test_certificates_without_tls_are_refused(config, pem):
    text = declared("ca_file = 'ca.pem'", url='url = "http://127.0.0.1/"')
    key, sentence = config.complaint(f"{text}\n[network]\nallow = ['127.0.0.0/8']")
    assert (key, "https:// only" in sentence) == ("endpoints.a.ca_file", True)


def test_certificates_are_shown_by_their_paths(config, pem):
    described = describe(config.load(declared("ca_file = 'ca.pem'")))
    assert described["endpoints"]["a"]["ca_file"] == str(pem / "ca.pem")
    assert "client_key_file" not in str(described)


@pytest.mark.parametrize("name", ["ca_file", "client_cert_file", "client_key_file", "url_file", "url_credential"])
def test_files_are_not_for_the_api(config, name):
    ((pointer, detail),) = faults(config, **{name: "x"})
    assert pointer == f"/{name}"
    assert "for the configuration file only" in detail


# The proxy


@pytest.mark.parametrize(
    ("written", "proxy"),
    [
        ("", None),
        ("http://proxy.example:4750", "http://proxy.example:4750"),
        ("http://proxy.example", "http://proxy.example"),
        ("http://[::1]:4750/", "http://[::1]:4750"),
    ],
)
def test_a_proxy_is_an_address(config, written, proxy):
    assert config.load(f"[network]\nproxy = '{written}'").network.proxy == proxy
    assert config.load("#", WEBHOOKD_NETWORK__PROXY=written).network.proxy == proxy


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("proxy.example:4750", "must look like"),
        ("https://proxy.example", "by CONNECT"),
        ("http://proxy.example/path", "by CONNECT"),
        ("http://u:hush@proxy.example", "must not contain a user name"),
        ("socks5://proxy.example", "must start with"),
    ],
)
def test_a_bad_proxy_is_refused(config, written, words):
    key, sentence = config.complaint(f"[network]\nproxy = '{written}'")
    assert key == "network.proxy"
    assert words in sentence
    assert "hush" not in sentence


def test_a_secret_beside_them_signs_as_ever(config):
    text = declared("basic_auth = { username = 'u', password = 'p' }").replace(
        "signatures = []", f"secret = '{SECRET}'"
    )
    assert config.load(text).endpoints["a"].secret == SECRET
