"""Where a URL and the answers of a name server lead, and whether webhookd may go there.

Written down by hand from the registries of special addresses (IANA, as of 2026) and from what libraries and browsers
take for an address, and on purpose not from the table that webhookd judges by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

URL = "url"
"""The URL is no endpoint's URL."""
BLOCKED = "blocked"
"""An address that may not be dialled."""
REFUSED = "refused"
"""Nothing is reached; whether the URL, the name server or the guard says so is up to the system's library."""
DNS = "dns"
"""The name has no address."""

OWN_PORT = 65_123
PUBLIC = "8.8.8.8"
PUBLIC_V6 = "2606:4700::1111"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A URL, what its name is looked up as at each attempt (the last again and again), and how each attempt ends.

    An end is one of the words above, or the address that is reached. Without `answers` the system's library is asked.
    """

    url: str
    ends: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] = ()
    allow: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Say whether nothing at all may be reached."""
        return not any(reached(end) for end in self.ends)


def reached(end: str) -> bool:
    """Say whether an end is an address that is reached."""
    return end not in {URL, BLOCKED, REFUSED, DNS}


# First and last address of each range in which no public receiver can be, and its neighbours if those are public.
SPECIAL = (
    ("0.0.0.0", "0.255.255.255", None, "1.0.0.0"),
    ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
    ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
    ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
    ("168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"),
    ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
    ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
    ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
    ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
    ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
    ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
    ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
    ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
    ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
    ("224.0.0.0", "239.255.255.255", "223.255.255.255", None),
    ("240.0.0.0", "255.255.255.255", None, None),
    # unspecified, loopback, and IPv4-compatible
    ("::", "::ffff:ffff", None, None),
    # IPv4-translated
    ("::ffff:0:0:0", "::ffff:0:ffff:ffff", None, None),
    # NAT64: what everybody uses, and what networks use among themselves
    ("64:ff9b::", "64:ff9b::ffff:ffff", None, None),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", None, None),
    # discard-only, and the dummy prefix beside it
    ("100::", "100::ffff:ffff:ffff:ffff", None, None),
    ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", None, None),
    ("1000::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, "2000::"),
    # IETF assignments: Teredo, benchmarking, ORCHID and ORCHIDv2 lie within
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", None, None),
    ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"),
    ("4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
    # segment routing
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    # site-local
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
)

# What clouds hand credentials out at, and the machines every machine has.
CANARIES = (
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "192.0.0.192",
    "198.18.0.1",
    "::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::a9fe:a9fe",
)

# An address written as no program writes it. Those in braces are its four bytes, or the whole as one number.
SPELLINGS = (
    "{n}",
    "{n:#x}",
    "{n:#X}",
    "0{n:o}",
    "0000{n:o}",
    "0x0000000000{n:x}",
    "{a:#x}.{b:#x}.{c:#x}.{d:#x}",
    "0{a:o}.0{b:o}.0{c:o}.0{d:o}",
    "000{a:o}.000{b:o}.000{c:o}.000{d:o}",
    "0{a:o}.{b}.{c:#x}.{d}",
    "{a}.{bcd}",
    "{a}.{b}.{cd}",
    "{a:#x}.{bcd:#x}",
    "0{a:o}.{b:#x}.{cd}",
    "{wide}",
    "{circled}",
    "{superscript}",
    "{a}\u3002{b}\u3002{c}\u3002{d}",
    "{a}\uff0e{b}\uff0e{c}\uff0e{d}",
    "{a}\uff61{b}\uff61{c}\uff61{d}",
    "{a}.{b}.{c}\u00ad.{d}",
    "{a}.{b}.\u200b{c}.{d}",
    "{a}.{b}.{c}.{d}\ufe0f",
    "[::ffff:{a}.{b}.{c}.{d}]",
    "[::FFFF:{ab:x}:{cd:x}]",
    "[0:0:0:0:0:ffff:{ab:x}:{cd:x}]",
    "[::{a}.{b}.{c}.{d}]",
    "[::ffff:0:{a}.{b}.{c}.{d}]",
    "[64:ff9b::{a}.{b}.{c}.{d}]",
    "[64:ff9b::{ab:x}:{cd:x}]",
    "[64:ff9b:1::{ab:x}:{cd:x}]",
    "[64:ff9b:1:{ab:x}:{c:x}:{d:02x}00::]",
    "[2002:{ab:x}:{cd:x}::]",
    "[2002:{ab:x}:{cd:x}::1]",
    "[2001:0:{ab:x}:{cd:x}::]",
    "[2001:0:4136:e378:8000:63bf:{nab:x}:{ncd:x}]",
    "[fe80::5efe:{a}.{b}.{c}.{d}]",
)

# No spelling at all, or one that only some libraries take; nothing of it may lead anywhere.
TWISTED = (
    "{a}.{b}.{c}.{d}.",
    "{n}.",
    "{a}.{b}.{c}.{d}.nip.io.",
    "{a}.{b}.{c}.{d}.example",
    "{a}-{b}-{c}-{d}.example",
    "{a}_{b}_{c}_{d}",
    "256.{b}.{c}.{d}",
    "{a}.{b}.{c}.{d}.0",
    "{over}",
    "{over:#x}",
    "0x{a:x}{b:02x}{c:02x}{d:02x}.0",
    "0b1.{b}.{c}.{d}",
    "xn--{a}-{b}-{c}-{d}",
    "{arabic}",
    "\u212a{a}.{b}.{c}.{d}",
)

# What is refused before anybody is asked.
MALFORMED = (
    "",
    "{host}",
    "//{host}/",
    "http:/{host}/",
    "http:{host}/",
    "http:///{host}/",
    "http:////{host}/",
    "https://",
    "https:///",
    "https://:443/",
    "https://?{host}",
    "ftp://{host}/",
    "file:///etc/passwd",
    "gopher://{host}:70/_x",
    "dict://{host}:6379/info",
    "ldap://{host}/",
    "jar:http://{host}/",
    "javascript://{host}/%0aalert(1)",
    "unix:///run/docker.sock",
    "http+unix://%2Frun%2Fdocker.sock/info",
    "ws://{host}/",
    "https://user@{host}/",
    "https://user:secret@{host}/",
    "https://@{host}/",
    "https://:@{host}/",
    "https://public.example@{host}/",
    "https://public.example:443@{host}:80/",
    "https://{host}@public.example/",
    "https://{host}%40public.example/",
    "https://public.example%2f@{host}/",
    "https://public.example\\@{host}/",
    "https://{host}\\@public.example/",
    "https:\\\\{host}\\",
    "https://{host}\\.public.example/",
    "https://public.example\\{host}/",
    "https://public.example#@{host}/",
    "https://{host}#.public.example/",
    "https://public.example/#",
    "https://{host}/?x#y",
    " https://{host}/",
    "https://{host}/ ",
    "https://{host} .public.example/",
    "https://{host}\t/",
    "https://{host}\n/",
    "https://{host}\r\nHost: public.example/",
    "https://{host}/\r\n\r\nPOST / HTTP/1.1",
    "https://{host}/\x00",
    "https://{host}\x00.public.example/",
    "https://{host}\x7f/",
    "https://{host}\x85/",
    "https://{host}\xa0/",
    "https://{host}\u2028/",
    "https://{host}\u3000/",
    "ht\ttps://{host}/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0%2e1/",
    "https://127%2e0%2e0%2e1/",
    "https://{host}%00.public.example/",
    "https://{host}%0d%0a/",
    "https://%5b::1%5d/",
    "https://public%2Eexample/",
    "https://[fe80::1%25lo]/",
    "https://[fe80::1%lo]/",
    "https://[fe80::1%251]/",
    "https://[::1%25lo]/",
    "https://[::1",
    "https://::1/",
    "https://::1]/",
    "https://[::1].public.example/",
    "https://[::1]public.example/",
    "https://public.example[::1]/",
    "https://[{host}]/",
    "https://[public.example]/",
    "https://[]/",
    "https://[[::1]]/",
    "https://[v1.fe80::1]/",
    "https://[::ffff:127.1]/",
    "https://[::ffff:0x7f000001]/",
    "https://[::\uff11]/",
    "https://[0:0:0:0:0:0:0:0:1]/",
    "https://[:::1]/",
    "https://[::1::]/",
    "https://{host}:0/",
    "https://{host}:00/",
    "https://{host}:65536/",
    "https://{host}:99999/",
    "https://{host}:4294967376/",
    "https://{host}:18446744073709551696/",
    "https://{host}:-80/",
    "https://{host}:+80/",
    "https://{host}:8_0/",
    "https://{host}:0x50/",
    "https://{host}:80a/",
    "https://{host}:/",
    "https://{host}:80:443/",
    "https://{host}:\uff18\uff10/",
    "https://{host}:%38%30/",
    "https://./",
    "https://../",
    "https://.{host}/",
    "https://public..example/",
    "https://public.example../",
    "https://-public.example/",
    "https://public-.example/",
    "https://pub<lic.example/",
    "https://pub|lic.example/",
    "https://pub^lic.example/",
    "https://pub,lic.example/",
    "https://pub;lic.example/",
    "https://pub'lic.example/",
    "https://*.example/",
    "https://$(id).example/",
    "https://{host}&public.example/",
    "https://public.example\uff20{host}/",
    "https://public.example\uff0f{host}/",
    "https://public.example\uff1a443/",
    "https://public.example\uff03/",
    "https://public.example\u2100{host}/",
    "https://\u2488.{host}\u2048/",
    "https://\u202epublic.example/",
    "https://public\ud800.example/",
    "https://public.example/\udfff",
    "https://" + "a" * 64 + ".example/",
    "https://" + "\u00fc" * 63 + ".example/",
    "https://" + ".".join(["a" * 60] * 5) + "/",
    "https://public.example/" + "a" * 2048,
    "https://" + "a" * 5000,
)


def rows() -> tuple[Row, ...]:
    """Return every row once, in an order that stays."""
    return tuple(dict.fromkeys(_rows()))


def _rows() -> tuple[Row, ...]:
    return (
        *_ranges(),
        *_spellings(),
        *(Row(url=url.replace("{host}", "10.0.0.1"), ends=(URL,)) for url in MALFORMED),
        *_names(),
        *_allowed(),
        *_welcome(),
    )


def _ranges() -> Iterator[Row]:
    for first, last, below, above in SPECIAL:
        for address in dict.fromkeys((first, _middle(first, last), last)):
            yield _literal(address, BLOCKED)
            yield _named(((address,),), BLOCKED)
        for address in (below, above):
            if address is not None:
                yield _literal(address, address)
                yield _named(((address,),), address)
    for address in CANARIES:
        for port in (80, 443, 8080):
            yield Row(url=f"http://{_host(address)}:{port}/", ends=(BLOCKED,))
        yield Row(url=f"https://{_host(address)}/", ends=(BLOCKED,))


def _spellings() -> Iterator[Row]:
    for address in ("127.0.0.1", "169.254.169.254", "10.0.0.1"):
        for form in SPELLINGS:
            # The superscript digits are no digits to every version of the library, the rest is decided.
            yield Row(url=f"http://{_spell(form, address)}/", ends=(REFUSED,))
        for form in TWISTED:
            yield Row(url=f"http://{_spell(form, address)}/", ends=(REFUSED,))
    yield from (
        Row(url=f"http://{host}/", ends=(REFUSED,))
        for host in ("0", "00", "0x0", "0.0", "0x", "0.", "127.1", "127.0.1", "127.0.0.0x1", "localhost", "LOCALHOST.")
    )
    yield from (
        Row(url=f"http://{host}/", ends=(REFUSED,))
        for host in (
            "localhost.localdomain",
            "ip6-localhost",
            "ip6-loopback",
            "ip6-allnodes",
            "\u24db\u24de\u24d2alhost",
        )
    )


def _names() -> Iterator[Row]:
    for private in CANARIES:
        yield _named(((PUBLIC, private),), BLOCKED)
        yield _named(((private, PUBLIC),), BLOCKED)
        yield _named(((PUBLIC_V6, PUBLIC, private),), BLOCKED)
        # Public at the first lookup and private at each later one, and the other way round.
        yield _named(((PUBLIC,), (private,)), PUBLIC, BLOCKED, BLOCKED)
        yield _named(((private,), (PUBLIC,), (private,)), BLOCKED, PUBLIC, BLOCKED)
        if ":" not in private:
            for prefix in ("::ffff:", "::", "64:ff9b::", "64:ff9b:1::", "::ffff:0:"):
                yield _named(((f"{prefix}{private}",),), BLOCKED)
            yield _named(((PUBLIC, f"::ffff:{private}"),), BLOCKED)
    yield _named((("fe80::1%lo",),), BLOCKED)
    yield _named(((PUBLIC, "fe80::1%lo"),), BLOCKED)
    yield _named(((),), DNS)
    many = tuple(f"8.8.{number >> 8}.{number & 255}" for number in range(1, 600))
    yield _named((many,), many[0])
    yield _named(((*many, "10.0.0.1"),), BLOCKED)
    yield _named(((*many[:300], "fd00:ec2::254", *many[300:]),), BLOCKED)
    # A name of any look, also one that looks like an address or like a name of ours.
    for name in (
        "b\u00fccher.example",
        "xn--bcher-kva.example",
        "service_a.internal",
        "a.b.c.d.example.",
        "10.0.0.1.example",
    ):
        yield Row(url=f"http://{name}/", answers=(("10.0.0.1",),), ends=(BLOCKED,))
        yield Row(url=f"http://{name}/", answers=((PUBLIC,),), ends=(PUBLIC,))
    for name in ("localhost.example", "metadata.google.internal", "instance-data", "kubernetes.default.svc", "wpad"):
        yield Row(url=f"http://{name}/", answers=(("169.254.169.254",),), ends=(BLOCKED,))


def _allowed() -> Iterator[Row]:
    ten = ("10.0.0.0/8",)
    everything = ("0.0.0.0/0", "::/0")
    for host in ("10.0.0.1", "10.255.255.255", "167772161", "0xa.1", "012.0.0.1", "[::ffff:10.0.0.1]", "10\u30020.0.1"):
        reached_at = "10.255.255.255" if host == "10.255.255.255" else "10.0.0.1"
        yield Row(url=f"http://{host}/", allow=ten, ends=(reached_at,))
    for address in ("11.0.0.0", PUBLIC, PUBLIC_V6):
        yield _literal(address, address, ten)
    for address in ("127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.0.1", "fd00:ec2::254", "::1", "::10.0.0.1"):
        yield _literal(address, BLOCKED, ten)
        yield _named((("10.0.0.1", address),), BLOCKED, allow=ten)
        yield _named((("10.0.0.1",), (address,)), "10.0.0.1", BLOCKED, allow=ten)
    for address in ("64:ff9b::10.0.0.1", "2002:a00:1::1", "::ffff:0:10.0.0.1"):
        yield _literal(address, BLOCKED, ten)
    yield _named((("10.0.0.1", PUBLIC),), "10.0.0.1", allow=ten)
    yield _named((("::ffff:10.0.0.1",),), "10.0.0.1", allow=ten)
    # A range this wide is meant for a network behind a proxy of its own, and never for what hands out credentials.
    shut = (
        *(
            "169.254.0.0",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.255.255",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
        ),
        *("::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254", "::ffff:0:169.254.169.254"),
        *("64:ff9b:1::169.254.169.254", "64:ff9b:1:ffff::a9fe:a9fe", "2002:a9fe:a9fe::1"),
        # the same, as shorter prefixes place it
        *("64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0"),
        *("168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    )
    for address in shut:
        yield _literal(address, BLOCKED, everything)
        yield _named(((address,),), BLOCKED, allow=everything)
    yield _named((("fe80::1%lo",),), BLOCKED, allow=everything)
    yield _literal("fd00:ec2::254", BLOCKED, ("fd00::/8",))
    yield _literal("168.63.129.16", BLOCKED, ("168.63.0.0/16",))
    yield _literal("100.100.100.200", BLOCKED, ("100.64.0.0/10",))
    for address in (
        "10.0.0.1",
        "127.0.0.1",
        "192.168.0.1",
        "172.31.255.255",
        "100.64.0.1",
        "192.0.2.1",
        "fd00::1",
        "::1",
    ):
        yield _literal(address, address, everything)
    for address, exactly in (
        ("169.254.169.254", "169.254.169.254/32"),
        ("169.254.169.254", "169.254.0.0/16"),
        ("168.63.129.16", "168.63.129.16/32"),
        ("100.100.100.200", "100.100.100.200/32"),
        ("fd00:ec2::254", "fd00:ec2::254/128"),
        ("fd00:ec2::254", "fd00:ec2::/32"),
        ("64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:a9fe/128"),
    ):
        yield _literal(address, address, (exactly,))
    yield _literal("169.254.169.253", BLOCKED, ("169.254.169.254/32",))


def _welcome() -> Iterator[Row]:
    n = int(IPv4Address(PUBLIC))
    for host in (
        PUBLIC,
        f"{n}",
        f"{n:#x}",
        f"0{n:o}",
        "8.526344",
        "010.010.010.010",
        "\uff18.8.8.8",
        "8\u30028\u30028\u30028",
    ):
        yield Row(url=f"http://{host}/", ends=(PUBLIC,))
    yield Row(url=f"http://[::ffff:{PUBLIC}]/", ends=(PUBLIC,))
    # Octal, and so not the private address that it looks like.
    yield Row(url="http://010.000.000.001/", ends=("8.0.0.1",))
    yield Row(url=f"http://[{PUBLIC_V6.upper()}]/", ends=(PUBLIC_V6,))
    for path in (
        "",
        "/",
        "/@10.0.0.1",
        "/?@10.0.0.1",
        "?//10.0.0.1/",
        "//10.0.0.1/",
        "/http://10.0.0.1/",
        "/%0d%0a",
        "/\u00fc",
    ):
        yield Row(url=f"http://public.example{path}", answers=((PUBLIC,),), ends=(PUBLIC,))
    for port in (1, 8080, 65535):
        yield Row(url=f"HTTP://Public.Example:{port}/", answers=((PUBLIC, PUBLIC_V6),), ends=(PUBLIC,))
    yield Row(url="https://public.example/", answers=((PUBLIC_V6,),), ends=(PUBLIC_V6,))


def _literal(address: str, end: str, allow: tuple[str, ...] = ()) -> Row:
    return Row(url=f"http://{_host(address)}/", ends=(_unmapped(end),), allow=allow)


def _named(answers: tuple[tuple[str, ...], ...], *ends: str, allow: tuple[str, ...] = ()) -> Row:
    return Row(url="http://name.example/", answers=answers, ends=tuple(map(_unmapped, ends)), allow=allow)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _unmapped(end: str) -> str:
    if ":" not in end:
        return end
    address = IPv6Address(end)
    return str(address.ipv4_mapped or address)


def _middle(first: str, last: str) -> str:
    low, high = ip_address(first), ip_address(last)
    return str(type(low)((int(low) + int(high)) // 2))


def _spell(form: str, address: str) -> str:
    a, b, c, d = IPv4Address(address).packed
    n = int(IPv4Address(address))
    parts = {
        "ab": a << 8 | b,
        "cd": c << 8 | d,
        "bcd": b << 16 | c << 8 | d,
        "nab": 0xFFFF ^ (a << 8 | b),
        "ncd": 0xFFFF ^ (c << 8 | d),
        "over": n + 2**32,
    }
    return form.format(
        a=a,
        b=b,
        c=c,
        d=d,
        n=n,
        **parts,
        wide=address.translate({ord(digit): 0xFF10 + int(digit) for digit in "0123456789"}),
        circled=address.translate({ord("0"): 0x24EA, **{ord(digit): 0x245F + int(digit) for digit in "123456789"}}),
        superscript=address.translate(dict(zip(map(ord, "0123456789"), "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))),
        arabic=address.translate({ord(digit): 0x0660 + int(digit) for digit in "0123456789"}),
    )
