"""Listeners and tokens: which addresses there are, and who may reach them."""

from pathlib import Path

import pytest

from webhookd.core.settings import ActivatedAddress, Listen, Role, TcpAddress, Token, UnixAddress

TOKEN = '[[token]]\nname = "t"\nrole = "ingest"\nsecret = "0123456789abcdef"\n'


def listen(address: str, rest: str = "") -> str:
    return f'[[listen]]\naddress = "{address}"\n{rest}\n'


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("unix:/run/x.sock", UnixAddress(Path("/run/x.sock"))),
        ("tcp:127.0.0.1:8470", TcpAddress("127.0.0.1", 8470)),
        ("tcp:127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("tcp:[::1]:80", TcpAddress("::1", 80)),
        ("tcp:[0:0:0:0:0:0:0:1]:80", TcpAddress("::1", 80)),
        ("tcp:LocalHost:80", TcpAddress("localhost", 80)),
        ("systemd:ingest", ActivatedAddress("ingest")),
    ],
)
def test_an_address_is_a_path_a_port_or_a_name(config, address, meant):
    assert config.load(listen(address)).listen == (Listen(address=meant),)


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("unix:@hidden", "abstract"),
        ("unix:", "empty"),
        ("unix:~/x", "not expanded"),
        ("unix:/" + "x" * 107, "longer than"),
        ("tcp:127.0.0.1", "port"),
        ("tcp:127.0.0.1:", "port"),
        ("tcp:127.0.0.1:65536", "port"),
        ("tcp:127.0.0.1:-1", "port"),
        ("tcp:127.0.0.1: 80", "port"),
        ("tcp:::1:80", "brackets"),
        ("tcp:[::1%lo]:80x", "port"),
        ("tcp:[127.0.0.1]:80", "brackets"),
        ("tcp::80", "0.0.0.0:80"),
        ("tcp:*:80", "0.0.0.0:80"),
        ("tcp:127.1:80", "neither"),
        ("tcp:0x7f.1:80", "neither"),
        ("tcp:256.0.0.1:80", "neither"),
        ("tcp:a b:80", "neither"),
        ("systemd:", "FileDescriptorName"),
        ("systemd:a:b", "FileDescriptorName"),
        ("http://127.0.0.1:80", "must begin with"),
        ("8470", "must begin with"),
        ("", "must begin with"),
    ],
)
def test_a_bad_address_is_refused(config, address, word):
    key, sentence = config.complaint(listen(address))
    assert key == "listen[0].address"
    assert word in sentence


def test_a_relative_socket_is_beside_the_file(config):
    (found,) = config.load(listen("unix:x.sock", 'mode = "600"\nrole = "read"')).listen
    assert found == Listen(address=UnixAddress(config.path.parent / "x.sock", 0o600), role=Role.READ)


@pytest.mark.parametrize("mode", ['"0888"', '"1777"', '""', '"rw"', "0o660", "660", '"00660"'])
def test_a_mode_is_permission_bits_in_octal(config, mode):
    assert config.complaint(listen("unix:/x", f"mode = {mode}"))[0] == "listen[0].mode"


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:1", "systemd:x"])
def test_a_mode_is_for_unix_sockets_only(config, address):
    assert config.complaint(listen(address, 'mode = "0660"'))[0] == "listen[0].mode"


@pytest.mark.parametrize("address", ["unix:/x", "systemd:x"])
def test_hosts_are_for_tcp_only(config, address):
    assert config.complaint(listen(address, 'hosts = ["a"]'))[0] == "listen[0].hosts"


def test_hosts_are_names_or_addresses_in_their_usual_form(config):
    (found,) = config.load(listen("tcp:127.0.0.1:1", 'hosts = ["Hooks.Example.", "[::0:1]", "10.0.0.1"]')).listen
    assert found.hosts == {"hooks.example", "::1", "10.0.0.1"}


@pytest.mark.parametrize("host", ["http://a", "a:80", "a/b", "", "*"])
def test_a_host_with_anything_around_it_is_refused(config, host):
    assert config.complaint(listen("tcp:127.0.0.1:1", f'hosts = ["{host}"]'))[0] == "listen[0].hosts[0]"


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:1", "unix:/x", "systemd:x"])
def test_an_address_may_stand_once(config, address):
    key, sentence = config.complaint(listen(address) + listen(address))
    assert (key, "listen[0]" in sentence) == ("listen[1].address", True)


def test_ports_that_the_kernel_chooses_do_not_collide(config):
    assert len(config.load(listen("tcp:127.0.0.1:0") * 2).listen) == 2


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("listen = []", "listen"),
        ("[listen]\naddress = 'unix:/x'", "listen"),
        ("listen = 'unix:/x'", "listen"),
        ("listen = ['unix:/x']", "listen[0]"),
        ("[[listen]]\nrole = 'read'", "listen[0].address"),
        ("[[listen]]\naddress = 'unix:/x'\nrole = 'admin'", "listen[0].role"),
    ],
)
def test_a_listener_is_a_table_with_an_address(config, text, key):
    assert config.complaint(text)[0] == key


@pytest.mark.parametrize("address", ["tcp:0.0.0.0:1", "tcp:[::]:1", "tcp:10.0.0.1:1", "tcp:example.com:1"])
def test_a_listener_that_others_can_reach_needs_a_token(config, address):
    key, sentence = config.complaint(listen(address))
    assert key == "listen[0].address"
    assert "at least one [[token]]" in sentence
    assert config.load(listen(address) + TOKEN)


@pytest.mark.parametrize("address", ["tcp:127.0.0.2:1", "tcp:[::1]:1", "tcp:localhost:1", "unix:/x", "systemd:x"])
def test_a_listener_of_this_machine_needs_no_token(config, address):
    assert config.load(listen(address)).tokens == ()


def test_a_token_has_a_name_a_role_and_a_secret(config):
    assert config.load(TOKEN).tokens == (Token(name="t", role=Role.INGEST, secret="0123456789abcdef"),)


def test_everything_a_token_lacks_is_named(config):
    keys = [key for key, _ in config.complaints("[[token]]")]
    assert keys == ["token[0].name", "token[0].role", "token[0].secret"]


def test_a_token_that_is_wrong_does_not_make_its_listener_wrong(config):
    complaints = config.complaints(listen("tcp:0.0.0.0:1") + '[[token]]\nname = "t"\nrole = "x"\nsecret = "abc"')
    assert [key for key, _ in complaints] == ["token[0].role"]


def test_tokens_differ_in_name_and_secret(config):
    complaints = config.complaints(TOKEN + TOKEN)
    assert [key for key, _ in complaints] == ["token[1].name", "token[1].secret"]


@pytest.mark.parametrize("secret", ["hush now", "ä" * 20, "", "x" * 1025])
def test_a_token_travels_in_a_header(config, secret):
    key, sentence = config.complaint(f'[[token]]\nname = "t"\nrole = "read"\nsecret = "{secret}"')
    assert key == "token[0].secret"
    assert not secret or secret not in sentence


def test_a_short_token_draws_a_warning(config):
    (warning,) = config.load('[[token]]\nname = "t"\nrole = "read"\nsecret = "short"').warnings
    assert warning.startswith("token[0].secret: ")
    assert "short" not in warning
