"""The delivery keys: what [delivery], a profile and an endpoint may say about how deliveries are made."""

from __future__ import annotations

from collections.abc import Mapping

from webhookd.config.forms import (
    FLAG,
    RATE,
    BadValueError,
    Form,
    Where,
    decimal,
    duration,
    faults_of,
    integer,
    kind_of,
    parse_list,
    take_text,
    word,
)
from webhookd.config.signatures import SIGNATURES
from webhookd.config.tables import Key, Report, read_table, show_table
from webhookd.core.masking import MASK
from webhookd.core.settings import Acknowledgement, Body, Gone, RetryGrowth, RetryList, RetryPlan
from webhookd.core.signing import check_header

MOST_RETRIES = 1000
MOST_HEADERS = 64

_DELAY = duration("0s", "365d")
_STATUS = integer(200, 599)


def _parse_ack(value: object) -> Acknowledgement:
    if value == "2xx":
        return Acknowledgement()
    if not isinstance(value, list):
        raise ValueError('must be "2xx" or a list of statuses such as [200, 202]')  # noqa: TRY004
    statuses = parse_list(value, _STATUS.parse, most=400)
    if not statuses:
        raise ValueError("must name at least one status, or nothing would ever be acknowledged")
    return Acknowledgement(frozenset(statuses))


def _show_ack(ack: Acknowledgement) -> object:
    return "2xx" if ack.statuses is None else sorted(ack.statuses)


GROWTH_KEYS = (
    Key("first", "first_seconds", _DELAY),
    Key("factor", "factor", decimal(1, 100)),
    Key("retries", "retries", integer(0, MOST_RETRIES)),
    Key("max", "max_seconds", _DELAY),
)


def _parse_retry(value: object) -> RetryPlan:
    if isinstance(value, list):
        return RetryList(parse_list(value, _DELAY.parse, most=MOST_RETRIES))
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004
            f"must be a list of delays or a table with first, factor, retries and max, not {kind_of(value)}"
        )
    report = Report()
    fields = read_table(GROWTH_KEYS, value, (), report)
    missing = [key.name for key in GROWTH_KEYS if key.name not in value]
    if missing:
        report.complain((), f"needs first, factor, retries and max; missing: {', '.join(missing)}")
    if not report.complaints and fields["max_seconds"] < fields["first_seconds"]:
        report.complain(("max",), "must not be shorter than first")
    if report.complaints:
        raise BadValueError(*report.complaints)
    return RetryGrowth(**fields)


def _show_retry(plan: RetryPlan) -> object:
    match plan:
        case RetryList(delays_seconds):
            return [_DELAY.show(delay) for delay in delays_seconds]
        case RetryGrowth():
            return show_table(GROWTH_KEYS, plan)


def _parse_headers(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table of names and values, not {kind_of(value)}")  # noqa: TRY004
    if len(value) > MOST_HEADERS:
        raise ValueError(f"must have at most {MOST_HEADERS} entries")
    faults: list[tuple[Where, str]] = []
    seen: dict[str, str] = {}
    for name, text in value.items():
        try:
            check_header(name, take_text(text))
            if text == MASK:
                raise ValueError("is how a credential is shown: give the value itself")  # noqa: TRY301 - as all the others
        except ValueError as error:
            faults += [((name, *where), sentence) for where, sentence in faults_of(error)]
        other = seen.setdefault(name.lower(), name)
        if other != name:
            faults.append(((name,), f"is the same header as {other}"))
    if faults:
        raise BadValueError(*faults)
    return tuple((name, take_text(text)) for name, text in value.items())


DELIVERY_KEYS = (
    Key("timeout", "timeout_seconds", duration("1ms", "1h")),
    Key("connect_timeout", "connect_timeout_seconds", duration("1ms", "1h")),
    Key("ack", "ack", Form(_parse_ack, _show_ack, str)),
    Key("retry", "retry", Form(_parse_retry, _show_retry)),
    Key("jitter", "jitter", decimal(0, 1)),
    Key("give_up_after", "give_up_after_seconds", duration("1ms", "3650d")),
    Key("retry_after_max", "retry_after_max_seconds", duration("0s", "365d")),
    Key("disable_after_days", "disable_after_days", integer(0, 3650)),
    Key("disable_min_failures", "disable_min_failures", integer(1, 1_000_000)),
    Key("gone", "gone", word(Gone)),
    Key("concurrency", "concurrency", integer(1, 65_536)),
    Key("rate", "rate_per_second", RATE),
    Key("ordered", "ordered", FLAG),
    Key("body", "body", word(Body)),
    Key("headers", "headers", Form(_parse_headers, dict)),
    Key("standard_headers", "standard_headers", FLAG),
    Key("signatures", "signatures", SIGNATURES),
)
