"""Which endpoints an event is owed to, by tenant and type, at a cost that does not grow with their number."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import translate

from webhookd.core.event import EVERY_TENANT, OPERATIONAL_TENANT
from webhookd.core.filtering import SHOWN_CHARACTERS
from webhookd.core.ids import EndpointId
from webhookd.core.payloads import Payload
from webhookd.core.settings import Body, EndpointDefinition

_WILDCARD = re.compile(r"[*?\[]")
_MOST_REMEMBERED = 8192
"""Answers kept per matcher: producers choose the types, so their number has no bound of its own."""


class _Glob:
    """One pattern with a wildcard and who subscribed by it; compiled when it is first needed, `prefix*` never."""

    __slots__ = ("_compiled", "_pattern", "subscribed")

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._compiled: re.Pattern[str] | None = None
        self.subscribed: dict[EndpointId, None] = {}

    def matches(self, event_type: str, prefix_length: int) -> bool:
        """Say whether the pattern covers a type that begins with its literal prefix."""
        if self._compiled is None:
            if len(self._pattern) == prefix_length + 1 and self._pattern[-1] == "*":
                return True
            self._compiled = re.compile(translate(self._pattern))
        return self._compiled.match(event_type) is not None


class _Subscriptions:
    """The endpoints of one tenant: by exact type, by glob under its literal prefix, and those that take every type."""

    def __init__(self) -> None:
        self.every: dict[EndpointId, None] = {}
        self.exact: dict[str, dict[EndpointId, None]] = {}
        self.globs: dict[str, dict[str, _Glob]] = {}
        self.prefix_lengths: Counter[int] = Counter()

    def add(self, endpoint_id: EndpointId, types: tuple[str, ...]) -> None:
        if not types:
            self.every[endpoint_id] = None
        for pattern in types:
            wildcard = _WILDCARD.search(pattern)
            if wildcard is None:
                self.exact.setdefault(pattern, {})[endpoint_id] = None
                continue
            prefix = pattern[: wildcard.start()]
            patterns = self.globs.setdefault(prefix, {})
            if not patterns:
                self.prefix_lengths[len(prefix)] += 1
            if pattern not in patterns:
                patterns[pattern] = _Glob(pattern)
            patterns[pattern].subscribed[endpoint_id] = None

    def remove(self, endpoint_id: EndpointId, types: tuple[str, ...]) -> None:
        self.every.pop(endpoint_id, None)
        for pattern in types:
            wildcard = _WILDCARD.search(pattern)
            if wildcard is None:
                subscribed = self.exact.get(pattern, {})
                subscribed.pop(endpoint_id, None)
                if not subscribed:
                    self.exact.pop(pattern, None)
                continue
            prefix = pattern[: wildcard.start()]
            patterns = self.globs.get(prefix, {})
            if pattern in patterns:
                patterns[pattern].subscribed.pop(endpoint_id, None)
                if not patterns[pattern].subscribed:
                    del patterns[pattern]
                if not patterns:
                    del self.globs[prefix]
                    self.prefix_lengths -= Counter({len(prefix): 1})

    def is_empty(self) -> bool:
        return not (self.every or self.exact or self.globs)

    def collect(self, event_type: str, into: dict[EndpointId, None]) -> None:
        into.update(self.every)
        into.update(self.exact.get(event_type, {}))
        for length in self.prefix_lengths:
            if length <= len(event_type):
                for glob in self.globs.get(event_type[:length], {}).values():
                    if glob.matches(event_type, length):
                        into.update(glob.subscribed)


class Matcher:
    """An index over endpoints' tenants and types, kept up to date as they come and go.

    A type's answer is remembered until an endpoint changes; the first question costs one look-up per length of literal
    prefix in use and one regular expression per distinct glob under the prefixes that fit.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Subscriptions] = {}
        self._entries: dict[EndpointId, tuple[str, tuple[str, ...]]] = {}
        self._remembered: dict[tuple[str, str], tuple[EndpointId, ...]] = {}

    def put(self, endpoint_id: EndpointId, tenant: str, types: tuple[str, ...]) -> None:
        """Subscribe `endpoint_id` to the tenant's events of these types (globs; none: every type), and no other."""
        if self._entries.get(endpoint_id) == (tenant, types):
            return
        self.discard(endpoint_id)
        self._entries[endpoint_id] = (tenant, types)
        self._tenants.setdefault(tenant, _Subscriptions()).add(endpoint_id, types)
        self._remembered.clear()

    def discard(self, endpoint_id: EndpointId) -> None:
        """Forget `endpoint_id`; harmless when it is not there."""
        entry = self._entries.pop(endpoint_id, None)
        if entry is not None:
            tenant, types = entry
            subscriptions = self._tenants[tenant]
            subscriptions.remove(endpoint_id, types)
            if subscriptions.is_empty():
                del self._tenants[tenant]
            self._remembered.clear()

    def match(self, tenant: str, event_type: str) -> tuple[EndpointId, ...]:
        """Return the endpoints an event is owed to, each once."""
        key = (tenant, event_type)
        known = self._remembered.get(key)
        if known is None:
            found: dict[EndpointId, None] = {}
            for name in (tenant,) if tenant == OPERATIONAL_TENANT else (tenant, EVERY_TENANT):
                if name in self._tenants:
                    self._tenants[name].collect(event_type, found)
            known = tuple(found)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = known
        return known


def looks_inside(endpoint: EndpointDefinition) -> bool:
    """Say whether it depends on the payload too if an event is for the endpoint."""
    return bool(endpoint.where.conditions) or endpoint.rules.body is Body.ENVELOPE


def takes(endpoint: EndpointDefinition, payload: Payload) -> bool:
    """Say whether the endpoint wants an event of its tenant and types that has this payload."""
    return endpoint.where.accepts(payload) and (endpoint.rules.body is not Body.ENVELOPE or payload.is_json)


def mismatch(tenant: str, event_type: str, payload: Payload, endpoint: EndpointDefinition) -> str | None:
    """Say in words why an event is not for the endpoint, None when it is."""
    return _mismatch(tenant, event_type, endpoint.tenant, endpoint.types) or _refusal(endpoint, payload)


def _refusal(endpoint: EndpointDefinition, payload: Payload) -> str | None:
    if endpoint.rules.body is Body.ENVELOPE and not payload.is_json:
        return f"body = envelope takes JSON payloads only, this one is {payload.content_type[:SHOWN_CHARACTERS]}"
    return endpoint.where.refusal(payload)


def _mismatch(tenant: str, event_type: str, endpoint_tenant: str, types: tuple[str, ...]) -> str | None:
    foreign = endpoint_tenant not in (tenant, EVERY_TENANT)
    if foreign or (endpoint_tenant == EVERY_TENANT and tenant == OPERATIONAL_TENANT):
        return f"gets events of tenant {endpoint_tenant!r}, this one is of {tenant!r}"
    if types and not any(re.match(translate(pattern), event_type) for pattern in types):
        return f"subscribes to {', '.join(types)}; {event_type} is none of these"
    return None
