"""Where endpoints are looked up and changed: the live set, its rows in the store, and the dispatcher kept in step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from webhookd.core.attempt import Attempt, Outcome
from webhookd.core.delivery import Work
from webhookd.core.endpoint import DisabledReason, EndpointRecord, Health
from webhookd.core.event import JSON_CONTENT_TYPE, Event
from webhookd.core.health import disabled, enabled
from webhookd.core.ids import DeliveryId, EndpointId, EventId, IdGenerator
from webhookd.core.matching import mismatch
from webhookd.core.news import News, of_health
from webhookd.core.payloads import Payload
from webhookd.core.ports import Clock, Sender, Store, Submission
from webhookd.core.queries import Page
from webhookd.core.services import EndpointSchema, EndpointView
from webhookd.core.settings import EndpointDefinition
from webhookd.core.verdict import is_acknowledged
from webhookd.engine import reconcile, rotation
from webhookd.engine.announcer import Announcer, receivers
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoint, LiveEndpoints
from webhookd.engine.revision import patched
from webhookd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError

_SAMPLE = b'{"type":"webhookd.test"}'


class EndpointDirectory:
    """Fills the Directory port.

    A change is validated, then stored, then made to count; deleting is the other way round, so that no event matched
    before it can reach the store after it. Changes are made one at a time.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        sender: Sender,
        endpoints: LiveEndpoints,
        dispatcher: Dispatcher,
        announcer: Announcer,
        ids: IdGenerator,
        schema: EndpointSchema,
    ) -> None:
        self._clock = clock
        self._store = store
        self._sender = sender
        self._endpoints = endpoints
        self._dispatcher = dispatcher
        self._announcer = announcer
        self._ids = ids
        self._changing = asyncio.Lock()
        self.schema = schema

    async def page(self, *, limit: int, before: int | None) -> Page[EndpointView]:
        """See Directory; the order is that of creation, and `before` counts endpoints from the oldest."""
        ordered = sorted(self._endpoints, key=lambda live: (live.record.created_at_ms, live.record.id))
        end = len(ordered) if before is None else max(0, min(before, len(ordered)))
        start = max(0, end - limit)
        views = await self._views(reversed(ordered[start:end]))
        return Page(views, start if start > 0 else None)

    async def show(self, endpoint_id: EndpointId) -> EndpointView:
        """See Directory."""
        (view,) = await self._views([self._need(endpoint_id)])
        return view

    async def create(
        self, endpoint_id: EndpointId | None, keys: Mapping[str, object]
    ) -> tuple[EndpointView, str | None]:
        """See Directory."""
        now_ms = self._clock.now_ms()
        new_id = endpoint_id or EndpointId(f"ep_{self._ids.mint(now_ms):016x}")
        given, secret, sample = _split(keys)
        async with self._changing:
            if self._endpoints.get(new_id) is not None:
                raise ConflictError("endpoint_exists", f"there is an endpoint {new_id!r} already")
            definition = self.schema.resolve(
                new_id, given, secret=secret, sample=sample, make_secret=rotation.generated_secret
            )
            record = EndpointRecord(
                id=new_id, declared=False, created_at_ms=now_ms, given=given, secret=definition.secret, sample=sample
            )
            await self._store.put_endpoints([record])
            self._endpoints.put(LiveEndpoint(record, definition))
            # Events resent since it was stored may be owed to it, if there was one of its id before.
            self._dispatcher.wake(new_id)
        return await self.show(new_id), definition.secret if secret is None else None

    async def update(self, endpoint_id: EndpointId, patch: Mapping[str, object]) -> EndpointView:
        """See Directory."""
        changes, new_secret, new_sample = _split(patch)
        async with self._changing:
            live = self._need(endpoint_id)
            _need_undeclared(live)
            record = live.record
            secret = new_secret if "secret" in patch else record.secret
            sample = new_sample if "sample" in patch else record.sample
            given = patched(record.given, changes)
            definition = self.schema.resolve(endpoint_id, given, secret=secret, sample=sample)
            changed = replace(live.current_record(), given=given, secret=secret, sample=sample)
            if "secret" in patch:
                # Whoever sets a secret, and does not rotate to it, wants no other one to sign from now on.
                changed = replace(changed, previous_secret=None, previous_secret_until_ms=None)
            changed = rotation.without_expired(changed, now_ms=self._clock.now_ms())
            definition = rotation.in_overlap(definition, changed)
            await self._put(changed)
            live.record, live.definition = changed, definition
            self._endpoints.put(live)
            self._dispatcher.refresh(endpoint_id)
        return await self.show(endpoint_id)

    async def remove(self, endpoint_id: EndpointId) -> None:
        """See Directory."""
        async with self._changing:
            live = self._need(endpoint_id)
            _need_undeclared(live)
            self._endpoints.discard(endpoint_id)
            try:
                await self._store.remove_endpoint(endpoint_id, now_ms=self._clock.now_ms())
            except BaseException:
                self._endpoints.put(live)
                self._endpoints.change_health(live, live.health)
                # Some of its deliveries may have been cancelled; others may have been committed and not handed over.
                self._dispatcher.refresh(endpoint_id)
                raise
            self._dispatcher.forget(endpoint_id)

    async def enable(self, endpoint_id: EndpointId) -> EndpointView:
        """See Directory."""
        at_ms = self._clock.now_ms()
        async with self._changing:
            live = self._need(endpoint_id)
            _need_definition(live)
            await self._store_health(live, lambda health: enabled(health, at_ms=at_ms))
            self._dispatcher.refresh(endpoint_id, gently=True)
        return await self.show(endpoint_id)

    async def disable(self, endpoint_id: EndpointId) -> EndpointView:
        """See Directory."""
        at_ms = self._clock.now_ms()
        async with self._changing:
            live = self._need(endpoint_id)
            await self._store_health(live, lambda health: disabled(health, DisabledReason.OPERATOR, at_ms=at_ms))
            self._dispatcher.refresh(endpoint_id)
        return await self.show(endpoint_id)

    async def rotate(
        self, endpoint_id: EndpointId, *, overlap_seconds: float, secret: str | None
    ) -> tuple[EndpointView, str]:
        """See Directory."""
        now_ms = self._clock.now_ms()
        async with self._changing:
            live = self._need(endpoint_id)
            _need_undeclared(live)
            record, definition = live.current_record(), _need_definition(live)
            following = rotation.next_secret(record, definition) if secret is None else secret
            definition = self.schema.resolve(endpoint_id, record.given, secret=following, sample=record.sample)
            changed = rotation.rotated(record, following, overlap_ms=round(overlap_seconds * 1000), now_ms=now_ms)
            await self._put(changed)
            live.record, live.definition = changed, rotation.in_overlap(definition, changed)
            self._endpoints.put(live)
            self._dispatcher.refresh(endpoint_id)
        return await self.show(endpoint_id), following

    async def test(self, endpoint_id: EndpointId) -> tuple[bool, Outcome]:
        """See Directory."""
        definition = _need_definition(self._need(endpoint_id))
        now_ms = self._clock.now_ms()
        event = Event(
            id=EventId(self._ids.mint(now_ms)),
            type="webhookd.test",
            tenant=definition.tenant,
            content_type=JSON_CONTENT_TYPE,
            payload=_SAMPLE if definition.sample is None else definition.sample,
            accepted_at_ms=now_ms,
        )
        work = Work(
            id=DeliveryId(self._ids.mint(now_ms)),
            endpoint_id=endpoint_id,
            event=event,
            due_at_ms=now_ms,
            owed_since_ms=now_ms,
        )
        outcome = await self._sender.send(work, definition)
        return is_acknowledged(outcome, definition.rules), outcome

    def not_matched(self, event: Event, owed: Collection[EndpointId], *, limit: int) -> list[tuple[EndpointId, str]]:
        """See Directory."""
        reasons: list[tuple[EndpointId, str]] = []
        payload = Payload(event.payload, event.content_type)
        for live in self._endpoints:
            if len(reasons) == limit:
                break
            if live.record.id in owed:
                continue
            if live.definition is None:
                reason: str | None = "is no longer in the configuration file"
            else:
                reason = mismatch(event.tenant, event.type, payload, live.definition)
            reasons.append((live.record.id, reason or "did not exist or take it when the event was accepted"))
        return reasons

    async def reload(self, declared: Mapping[EndpointId, EndpointDefinition], schema: EndpointSchema) -> None:
        """Bring every endpoint in step with another configuration, or raise ConfigErrors with nothing changed."""
        async with self._changing:
            before = {live: (live.definition, live.is_enabled) for live in self._endpoints}
            told = await reconcile.reload(
                self._endpoints,
                clock=self._clock,
                store=self._store,
                announcer=self._announcer,
                declared=declared,
                schema=schema,
            )
            self.schema = schema
            for live in self._endpoints:
                definition, was_enabled = before.get(live, (None, False))
                if definition != live.definition or was_enabled != live.is_enabled:
                    self._dispatcher.refresh(live.record.id, gently=live in before and not was_enabled)
            self._wake(told)

    async def _views(self, endpoints: Iterable[LiveEndpoint]) -> list[EndpointView]:
        chosen = list(endpoints)
        pending = await self._store.pending_by_endpoint([live.record.id for live in chosen])
        return [
            EndpointView(
                record=live.current_record(),
                definition=live.definition,
                pending=pending.get(live.record.id, 0),
                last_attempt=await self._last_attempt(live.health),
            )
            for live in chosen
        ]

    async def _last_attempt(self, health: Health) -> Attempt | None:
        return None if health.last_attempt is None else await self._store.attempt(*health.last_attempt)

    def _need(self, endpoint_id: EndpointId) -> LiveEndpoint:
        live = self._endpoints.get(endpoint_id)
        if live is None:
            msg = f"there is no endpoint {endpoint_id[:80]!r}"
            raise NotFoundError(msg)
        return live

    async def _store_health(self, live: LiveEndpoint, change: Callable[[Health], Health]) -> None:
        """Make a change of health count only once it is on disk, but build it on whatever happened until then."""
        now_ms, before, after = self._clock.now_ms(), live.health, change(live.health)
        await self._put(
            replace(live.record, health=after), *of_health(before, after, subject=live.subject, at_ms=now_ms)
        )
        # Batches of outcomes queued after that carry the health of before with them, so it is written once more.
        self._endpoints.change_health(live, change(live.health))

    async def _put(self, record: EndpointRecord, *news: News) -> None:
        """Store a record, its health of this moment included, with all that is still to be told of that."""
        untold = self._endpoints.take_untold([record.id])
        events = self._announcer.submissions([*untold.get(record.id, ()), *news])
        try:
            await self._store.put_endpoints([record], events)
        except BaseException:
            self._endpoints.mark_untold(untold)
            raise
        self._wake(events)

    def _wake(self, events: Sequence[Submission]) -> None:
        for endpoint_id in receivers(events):
            self._dispatcher.wake(endpoint_id)


def _need_undeclared(live: LiveEndpoint) -> None:
    if live.record.declared:
        raise ConflictError(
            "endpoint_declared", f"{live.record.id!r} stands in the configuration file; change it there and reload"
        )


def _need_definition(live: LiveEndpoint) -> EndpointDefinition:
    if live.definition is None:
        raise ConflictError("endpoint_removed", f"{live.record.id!r} is not defined at present; see the log")
    return live.definition


def _split(keys: Mapping[str, object]) -> tuple[dict[str, object], str | None, bytes | None]:
    """Part the keys that are kept as they were given from the secret and the sample."""
    given = {key: value for key, value in keys.items() if key not in ("secret", "sample")}
    secret, sample = keys.get("secret"), keys.get("sample")
    if secret is not None and not isinstance(secret, str):
        raise InvalidRequestError("invalid_endpoint", "secret must be text", faults=(Fault("/secret", "must be text"),))
    if sample is not None and not isinstance(sample, bytes):
        raise TypeError("the sample must have been encoded by the border it came in by")
    return given, secret, sample
