"""Brings the endpoints in step with the configuration: at the start, and whole or not at all at a reload."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from webhookd.core.endpoint import DisabledReason, EndpointRecord, Health
from webhookd.core.health import disabled, enabled
from webhookd.core.ids import EndpointId
from webhookd.core.news import News, of_health
from webhookd.core.ports import Clock, Endpoints, Submission
from webhookd.core.services import EndpointSchema
from webhookd.core.settings import EndpointDefinition
from webhookd.engine.announcer import Announcer
from webhookd.engine.endpoints import LiveEndpoint, LiveEndpoints
from webhookd.engine.rotation import in_overlap, without_expired
from webhookd.errors import ConfigError, ConfigErrors, InvalidRequestError

log = logging.getLogger(__name__)


async def load(
    endpoints: LiveEndpoints,
    *,
    clock: Clock,
    store: Endpoints,
    announcer: Announcer,
    declared: Mapping[EndpointId, EndpointDefinition],
    schema: EndpointSchema,
) -> None:
    """Fill `endpoints` from the store and the file.

    An API-made endpoint that the present profiles and defaults no longer allow is kept without a definition, its
    deliveries held, and logged. Raises ConfigErrors where the file declares an id that the API made.
    """
    records = {record.id: record for record in await store.endpoints()}
    _refuse_doubles(records, declared)
    now_ms = clock.now_ms()
    changed = _declared_records(records, declared, now_ms=now_ms)
    news = _news(records, changed, declared, now_ms=now_ms)
    records |= {record.id: record for record in changed}
    kept = [without_expired(record, now_ms=now_ms) for record in records.values()]
    changed += [record for record in kept if record is not records[record.id]]
    for record in kept:
        if record.declared:
            endpoints.put(LiveEndpoint(record, declared.get(record.id)))
            continue
        try:
            definition: EndpointDefinition | None = _resolve(schema, record)
        except InvalidRequestError as error:
            definition = None
            log.warning("endpoint.suspended", extra={"fields": {"endpoint": record.id, "reason": _words(error)}})
        endpoints.put(LiveEndpoint(record, definition))
    if changed:
        await store.put_endpoints(changed, announcer.submissions(news))


async def reload(
    endpoints: LiveEndpoints,
    *,
    clock: Clock,
    store: Endpoints,
    announcer: Announcer,
    declared: Mapping[EndpointId, EndpointDefinition],
    schema: EndpointSchema,
) -> Sequence[Submission]:
    """Apply another configuration to the running set, or raise ConfigErrors with nothing changed.

    Return the events that tell of it, which are on disk then.
    """
    records = {live.record.id: live.current_record() for live in endpoints}
    _refuse_doubles(records, declared)
    definitions: dict[EndpointId, EndpointDefinition] = dict(declared)
    complaints: list[ConfigError] = []
    for record in records.values():
        if not record.declared:
            try:
                definitions[record.id] = _resolve(schema, record)
            except InvalidRequestError as error:
                complaints.append(
                    ConfigError("", f"endpoint {record.id}, made through the API, would not be valid: {_words(error)}")
                )
    if complaints:
        raise ConfigErrors(complaints)
    now_ms = clock.now_ms()
    changed = _declared_records(records, declared, now_ms=now_ms)
    events: Sequence[Submission] = ()
    if changed:
        before = {live.record.id: live.definition for live in endpoints if live.definition is not None}
        untold = endpoints.take_untold([record.id for record in changed])
        news = chain(*untold.values(), _news(records, changed, before | definitions, now_ms=now_ms))
        # Who is told is decided by what is in force from now on: somebody may have come, or gone, in the same file.
        events = announcer.submissions(news, among=_as_they_will_be(records, changed, definitions))
        try:
            await store.put_endpoints(changed, events)
        except BaseException:
            endpoints.mark_untold(untold)
            raise
    for record in changed:
        live = endpoints.get(record.id)
        if live is None:
            endpoints.put(LiveEndpoint(record, None))
        else:
            # Attempts have ended while this was written: it is built on what they came to, and written again.
            endpoints.change_health(live, _declared_health(live.record.id, live.health, declared, now_ms=now_ms))
    for live in endpoints:
        live.definition = definitions.get(live.record.id)
        endpoints.put(live)
    return events


def _news(
    records: Mapping[EndpointId, EndpointRecord],
    changed: Iterable[EndpointRecord],
    definitions: Mapping[EndpointId, EndpointDefinition],
    *,
    now_ms: int,
) -> list[News]:
    """Return what is to be told of endpoints that have left the file or are back in it."""
    news: list[News] = []
    for record in changed:
        before = records.get(record.id)
        if before is not None:
            subject = LiveEndpoint(record, definitions.get(record.id)).subject
            news += of_health(before.health, record.health, subject=subject, at_ms=now_ms)
    return news


def _as_they_will_be(
    records: Mapping[EndpointId, EndpointRecord],
    changed: Iterable[EndpointRecord],
    definitions: Mapping[EndpointId, EndpointDefinition],
) -> LiveEndpoints:
    future = LiveEndpoints()
    for record in (*records.values(), *changed):
        future.put(LiveEndpoint(record, definitions.get(record.id)))
    return future


def _declared_records(
    records: Mapping[EndpointId, EndpointRecord],
    declared: Mapping[EndpointId, EndpointDefinition],
    *,
    now_ms: int,
) -> list[EndpointRecord]:
    """Return the rows that have to change: new ones, those gone from the file, and those that are back in it."""
    changed = [
        EndpointRecord(id=endpoint_id, declared=True, created_at_ms=now_ms)
        for endpoint_id in declared
        if endpoint_id not in records
    ]
    for record in records.values():
        health = _declared_health(record.id, record.health, declared, now_ms=now_ms)
        if record.declared and health is not record.health:
            changed.append(replace(record, health=health))
    return changed


def _declared_health(
    endpoint_id: EndpointId, health: Health, declared: Mapping[EndpointId, EndpointDefinition], *, now_ms: int
) -> Health:
    if endpoint_id not in declared:
        return disabled(health, DisabledReason.REMOVED, at_ms=now_ms)
    if health.disabled_reason is DisabledReason.REMOVED:
        return enabled(health, at_ms=now_ms)
    return health


def _refuse_doubles(
    records: Mapping[EndpointId, EndpointRecord], declared: Mapping[EndpointId, EndpointDefinition]
) -> None:
    complaints = [
        ConfigError(f"endpoints.{endpoint_id}", "the API has made an endpoint of this id; remove one of the two")
        for endpoint_id in declared
        if endpoint_id in records and not records[endpoint_id].declared
    ]
    if complaints:
        raise ConfigErrors(complaints)


def _resolve(schema: EndpointSchema, record: EndpointRecord) -> EndpointDefinition:
    definition = schema.resolve(record.id, record.given, secret=record.secret, sample=record.sample)
    return in_overlap(definition, record)


def _words(error: InvalidRequestError) -> str:
    return "; ".join(f"{fault.pointer}: {fault.detail}" for fault in error.faults) or error.detail
