"""The rules for addresses: what an endpoint's URL may look like, and what may be dialled."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.addresses import is_listed, judge, parse_target, unwrap

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "3ffe::1",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_is_not_a_public_receiver_is_denied(address):
    assert judge(ip_address(address), ()) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_dialled(address):
    assert judge(ip_address(address), ()) is None


def test_the_reason_names_the_range():
    assert judge(ip_address("169.254.169.254"), ()) == "link-local (169.254.0.0/16)"
    assert judge(ip_address("fd00::1"), ()) == "private (fc00::/7)"
    assert judge(ip_address("fe80::1"), ()) == "link-local (fe80::/10)"
    assert judge(ip_address("ff02::1"), ()) == "multicast (ff00::/8)"


def test_a_listed_range_opens_what_the_table_denies():
    allow = (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert judge(ip_address("10.1.2.3"), allow) is None
    assert judge(ip_address("10.2.0.1"), allow) is not None
    assert judge(ip_address("::1"), allow) is None


def test_a_listed_ipv4_range_holds_for_its_mapped_form():
    assert judge(ip_address("::ffff:10.1.2.3"), (ip_network("10.1.0.0/16"),)) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%2",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
    ],
)
def test_link_local_stays_shut_to_ranges_that_merely_contain_it(address):
    assert judge(ip_address(address), EVERYWHERE) is not None


@pytest.mark.parametrize(
    ("address", "network"),
    [("169.254.169.254", "169.254.169.254/32"), ("169.254.1.1", "169.254.0.0/16"), ("fe80::1", "fe80::/64")],
)
def test_link_local_opens_when_it_is_listed_itself(address, network):
    assert judge(ip_address(address), (ip_network(network),)) is None


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_and_its_mapped_form_are_judged_alike(number):
    address = IPv4Address(number)
    mapped = IPv6Address(0xFFFF_0000_0000 | number)
    assert unwrap(mapped) == address
    assert judge(mapped, ()) == judge(address, ())
    assert judge(mapped, EVERYWHERE) == judge(address, EVERYWHERE)


@given(st.ip_addresses(v=4))
def test_no_private_or_multicast_ipv4_address_passes(address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert judge(address, ()) is not None


@given(st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None))
def test_an_ipv6_address_passes_only_inside_the_public_range(address):
    if judge(address, ()) is None:
        assert address in ip_network("2000::/3")


@given(st.ip_addresses())
def test_without_a_list_nothing_is_listed(address):
    assert not is_listed(address, ())


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path", "authority"),
    [
        ("https://example.com", "https", "example.com", 443, "/", "example.com"),
        ("HTTPS://EXAMPLE.com:443/Hook", "https", "example.com", 443, "/Hook", "example.com"),
        ("http://example.com:8080/a?b=c%20d", "http", "example.com", 8080, "/a?b=c%20d", "example.com:8080"),
        ("https://example.com?x=1", "https", "example.com", 443, "/?x=1", "example.com"),
        ("https://[2606:4700::1]:8443/", "https", "2606:4700::1", 8443, "/", "[2606:4700::1]:8443"),
        ("https://bücher.example/ü?q=ö", "https", "xn--bcher-kva.example", 443, "/%C3%BC?q=%C3%B6", None),
        ("https://service_a.internal/", "https", "service_a.internal", 443, "/", "service_a.internal"),
        ("https://example.com./", "https", "example.com.", 443, "/", "example.com."),
        ("https://example.com/a@b:c", "https", "example.com", 443, "/a@b:c", "example.com"),
    ],
)
def test_a_url_is_taken_apart(url, scheme, host, port, path, authority):
    target = parse_target(url)
    assert (target.scheme, target.host, target.port, target.path) == (scheme, host, port, path)
    assert authority is None or target.authority == authority


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1"),
        ("http://①②⑦.0.0.1/", "127.0.0.1"),
        ("http://127。0。0。1/", "127.0.0.1"),
        ("http://[::1]/", "::1"),
        ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
    ],
)
def test_a_literal_address_is_recognised_in_any_dress(url, address):
    assert parse_target(url).literal == ip_address(address)


@pytest.mark.parametrize("url", ["http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/"])
def test_old_forms_of_addresses_are_left_to_the_resolver(url):
    assert parse_target(url).literal is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must look like"),
        ("example.com/hook", "must look like"),
        ("//example.com", "must look like"),
        ("https:/example.com", "must look like"),
        ("ftp://example.com", "must start with https"),
        ("file:///etc/passwd", "must start with https"),
        ("gopher://example.com:70", "must start with https"),
        ("https://user@example.com", "user name"),
        ("https://user:secret@example.com", "user name"),
        ("https://example.com/#here", "fragment"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://exa mple.com", "spaces"),
        ("https://example.com/a b", "spaces"),
        ("https://example.com/\r\nHost: evil.example", "control"),
        ("https://example.com/\x00", "control"),
        ("https://example.com/\x85", "control"),
        ("https://", "no host"),
        ("https:///hook", "no host"),
        ("https://:443/", "no host"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:/", "port"),
        ("https://example.com:+80/", "port"),
        ("https://example.com:\uff18\uff10/", "port"),
        ("https://[fe80::1%25eth0]/", "percent"),
        ("https://exam%70le.com/", "percent"),
        ("https://[::1", "neither a name"),
        ("https://::1/", "neither a name"),
        ("https://[127.0.0.1]/", "IPv6 address"),
        ("https://[v1.x]/", "IPv6 address"),
        ("https://a..b/", "IDNA"),
        ("https://-a.example/", "not valid"),
        ("https://exa<mple.com/", "not valid"),
        ("https://./", "host name"),
        ("https://" + "a" * 64 + ".example/", "IDNA"),
        ("https://" + "a." * 130 + "example/", "not valid"),
        ("https://example.com/" + "a" * 2048, "2048"),
        ("https://example.com/\ud800", "UTF-8"),
    ],
)
def test_a_bad_url_is_refused_with_the_reason(url, why):
    with pytest.raises(ValueError, match=why):
        parse_target(url)


@given(st.text(max_size=60))
def test_any_text_is_either_taken_apart_or_refused(text):
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        try:
            target = parse_target(url)
        except ValueError:
            continue
        request_line = f"POST {target.path} HTTP/1.1"
        assert request_line.isascii()
        assert request_line.count(" ") == 2
        assert request_line.isprintable()
        assert target.authority.isascii()
        assert target.authority.isprintable()
