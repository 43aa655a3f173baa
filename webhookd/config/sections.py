"""The keys of the sections that fill one value each: [ingest], [store] and [network]."""

from __future__ import annotations

from ipaddress import ip_network

from webhookd.config.forms import FLAG, PATH, Form, duration, integer, list_of, quote, size, take_text, word
from webhookd.config.tables import Key
from webhookd.core.addresses import parse_target
from webhookd.core.settings import Network, OnNoMatch

MOST_RANGES = 1000

INGEST_KEYS = (
    Key("max_payload", "max_payload_bytes", size("1B", "64MiB")),
    Key("max_batch", "max_batch", integer(1, 100_000)),
    Key("max_request", "max_request_bytes", size("1B", "64MiB")),
    Key("on_no_match", "on_no_match", word(OnNoMatch)),
    Key("idempotency_window", "idempotency_window_seconds", duration("0s", "3650d")),
)

STORE_KEYS = (
    Key("path", "path", PATH),
    Key("max_size", "max_size_bytes", size("1B", "1024TiB")),
    Key("min_free", "min_free_bytes", size("0B", "1024TiB")),
    Key("keep_delivered", "keep_delivered_seconds", duration("0s", "3650d")),
    Key("keep_dead", "keep_dead_seconds", duration("0s", "3650d")),
)


def _parse_proxy(value: object) -> str | None:
    text = take_text(value)
    if not text:
        return None
    if "@" in text:
        raise ValueError("must not contain a user name or password: a proxy is told apart by its address alone")
    target = parse_target(text)
    if target.scheme != "http" or target.path != "/":
        raise ValueError(f"{quote(text)} must look like http://host:port, and is spoken to by CONNECT")
    return f"http://{target.authority}"


def _parse_network(value: object) -> Network:
    text = take_text(value)
    # A zone says which interface an address was seen on; as part of a rule it would be silently dropped.
    if "%" in text:
        raise ValueError(f"{quote(text)} names a zone: write the range without it")
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{quote(text)} is not a range of addresses such as "10.1.0.0/16" or "::1/128"') from None
    raise ValueError(f"{quote(text)} has bits set beyond its prefix; did you mean {meant}?")


PROXY: Form[str | None] = Form(_parse_proxy, lambda proxy: proxy or "", str)

NETWORK_KEYS = (
    Key("allow", "allow", list_of(Form(_parse_network, str), most=MOST_RANGES)),
    Key("plain_http", "plain_http", FLAG),
    Key("proxy", "proxy", PROXY),
    Key("max_in_flight", "max_in_flight", integer(1, 65_536)),
    Key("drain_timeout", "drain_timeout_seconds", duration("0s", "1h")),
)
