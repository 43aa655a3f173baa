"""Where an endpoint's URL may lead, as far as that can be said before it is dialled."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from webhookd.config.forms import Form, Where, take_text
from webhookd.config.tables import Report
from webhookd.core.addresses import Target, is_listed, parse_target
from webhookd.core.masking import is_masked_url
from webhookd.core.settings import Settings, TcpAddress

# A URL is looked at several times in a row, as a value and then by the rules of the network.
target_of = lru_cache(maxsize=8)(parse_target)


def _parse_url(value: object) -> str:
    url = take_text(value)
    target_of(url)
    if is_masked_url(url):
        raise ValueError("is how a URL is shown, with what is secret left out: give the URL itself")
    return url


URL: Form[str] = Form(_parse_url, str, str)


def check_target(settings: Settings, url: str, where: Where, report: Report) -> None:
    """Complain about a URL that leads to the daemon itself, or by plain http to where that is not allowed."""
    target = target_of(url)
    network = settings.network
    # What a name leads to is not known before it is dialled, and is judged then.
    if (
        target.scheme == "http"
        and not network.plain_http
        and target.literal is not None
        and not is_listed(target.literal, network.allow)
    ):
        report.complain(
            where,
            f"plain http to {target.host} needs it listed in network.allow, or network.plain_http = true",
        )
    for listener in settings.listen:
        if isinstance(listener.address, TcpAddress) and _leads_to(target, listener.address):
            report.complain(where, f"is the daemon's own listener {listener.address}")


def _leads_to(target: Target, own: TcpAddress) -> bool:
    if target.port != own.port:
        return False
    if target.host == own.host:
        return True
    try:
        bound = ip_address(own.host)
    except ValueError:
        return False
    if target.literal is None:
        return target.host == "localhost" and (bound.is_loopback or bound.is_unspecified)
    return bound.is_unspecified and (target.literal.is_loopback or target.literal.is_unspecified)
