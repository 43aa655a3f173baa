"""The endpoint: a receiver as it is kept, with its health."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from webhookd.core.ids import DeliveryId, EndpointId

MOST_HOLDS = 32


class EndpointStatus(StrEnum):
    """Whether deliveries to the endpoint are attempted or held."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DisabledReason(StrEnum):
    """Who or what disabled an endpoint: its failing streak, a 410, a person, or its absence from the file."""

    FAILING = "failing"
    GONE = "gone"
    OPERATOR = "operator"
    REMOVED = "removed"


class Health(Struct, frozen=True, kw_only=True):
    """How an endpoint has been doing; times are UTC milliseconds.

    The failing streak is the run of failed attempts since the last success or enabling: `failing_days` different UTC
    dates, the last of them `last_failing_date` (days since 1970-01-01), and `failed_attempts` attempts; all are 0
    outside a streak. `disabled_reason` is None while enabled. The last attempt is named by delivery and number. `holds`
    are the latest periods (from, to) in which the endpoint was disabled and that are over, oldest first, at most
    `MOST_HOLDS`: a delivery does not age in them.
    """

    disabled_reason: DisabledReason | None = None
    disabled_at_ms: int | None = None
    failing_days: int = 0
    last_failing_date: int = 0
    failed_attempts: int = 0
    last_success_at_ms: int | None = None
    last_attempt: tuple[DeliveryId, int] | None = None
    holds: tuple[tuple[int, int], ...] = ()

    @property
    def status(self) -> EndpointStatus:
        """Enabled, or disabled for the recorded reason."""
        return EndpointStatus.ENABLED if self.disabled_reason is None else EndpointStatus.DISABLED


HEALTHY = Health()
"""How every endpoint begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRecord:
    """An endpoint as the store keeps it.

    `given` is the JSON object its creator wrote, without secret and sample but with what else is secret in it (a URL, a
    password). It is empty for a declared one, whose definition stands in the configuration file: such a record keeps
    only health. `sample` is what a test send delivers. After a rotation `previous_secret` signs as well until
    `previous_secret_until_ms`; both are None otherwise.
    """

    id: EndpointId
    declared: bool
    created_at_ms: int
    given: dict[str, object] = field(default_factory=dict, repr=False)
    secret: str | None = field(default=None, repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_until_ms: int | None = None
    sample: bytes | None = field(default=None, repr=False)
    health: Health = HEALTHY
