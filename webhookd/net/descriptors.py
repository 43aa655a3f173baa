"""How many requests in flight the file descriptors of this process allow."""

from __future__ import annotations

import contextlib
import logging
import resource
from dataclasses import replace

from webhookd.core.settings import NetworkRules

log = logging.getLogger(__name__)


def clamp_to_descriptors(network: NetworkRules) -> NetworkRules:
    """Raise the soft descriptor limit to the hard one, and leave three quarters of it to everything but deliveries."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    most = max(2, soft // 4) if soft != resource.RLIM_INFINITY else network.max_in_flight
    if network.max_in_flight <= most:
        return network
    log.warning(
        "config.clamped",
        extra={"fields": {"key": "network.max_in_flight", "from": network.max_in_flight, "to": most, "limit": soft}},
    )
    return replace(network, max_in_flight=most)
