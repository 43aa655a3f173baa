"""The endpoints as the running daemon holds them: definition, health and the index events are matched by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from webhookd.core.endpoint import EndpointRecord, Health
from webhookd.core.ids import EndpointId
from webhookd.core.matching import Matcher, looks_inside, takes
from webhookd.core.news import News, Subject
from webhookd.core.payloads import Payload
from webhookd.core.settings import EndpointDefinition


class LiveEndpoint:
    """One endpoint; `definition` is None where a declared one left the file, and nothing can be sent then."""

    __slots__ = ("_definition", "_health", "is_enabled", "record")

    def __init__(self, record: EndpointRecord, definition: EndpointDefinition | None) -> None:
        self.record = record
        self._definition = definition
        self._health = record.health
        self.is_enabled: bool
        """Whether deliveries may be attempted now; asked several times for each, and so not worked out each time."""
        self._note_change()

    def __repr__(self) -> str:
        return f"<LiveEndpoint {self.record.id} {self.health.status}>"

    @property
    def definition(self) -> EndpointDefinition | None:
        return self._definition

    @definition.setter
    def definition(self, definition: EndpointDefinition | None) -> None:
        self._definition = definition
        self._note_change()

    @property
    def health(self) -> Health:
        return self._health

    @health.setter
    def health(self, health: Health) -> None:
        self._health = health
        self._note_change()

    def _note_change(self) -> None:
        self.is_enabled = self._definition is not None and self._health.disabled_reason is None

    @property
    def subject(self) -> Subject:
        """What news about it names it by."""
        tenant = None if self.definition is None else self.definition.tenant
        return Subject(id=self.record.id, declared=self.record.declared, tenant=tenant)

    def current_record(self) -> EndpointRecord:
        """Return the record with the health of this moment."""
        return replace(self.record, health=self.health)


class LiveEndpoints:
    """Every endpoint by id, the matching index over them, and which of them have health that is not yet on disk.

    Of that health there may be news, which goes to disk with it and not without it.
    """

    def __init__(self) -> None:
        self._by_id: dict[EndpointId, LiveEndpoint] = {}
        self._matcher = Matcher()
        self._choosy: dict[EndpointId, EndpointDefinition] = {}
        """Those for which the payload counts too."""
        # Dictionaries keep their order in every process, and with it what is told in which order.
        self._unsaved: dict[EndpointId, None] = {}
        self._on_unsaved: Callable[[], None] = lambda: None
        self._untold: dict[EndpointId, list[News]] = {}

    def __iter__(self) -> Iterator[LiveEndpoint]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, endpoint_id: EndpointId) -> LiveEndpoint | None:
        """Return the endpoint, None when there is no such one."""
        return self._by_id.get(endpoint_id)

    def put(self, endpoint: LiveEndpoint) -> None:
        """Add or replace, and match events against its definition from now on."""
        endpoint_id = endpoint.record.id
        self._by_id[endpoint_id] = endpoint
        self._choosy.pop(endpoint_id, None)
        definition = endpoint.definition
        if definition is None:
            self._matcher.discard(endpoint_id)
            return
        self._matcher.put(endpoint_id, definition.tenant, definition.types)
        if looks_inside(definition):
            self._choosy[endpoint_id] = definition

    def discard(self, endpoint_id: EndpointId) -> LiveEndpoint | None:
        """Remove and return it; no event is matched to it from now on."""
        self._matcher.discard(endpoint_id)
        self._choosy.pop(endpoint_id, None)
        self._unsaved.pop(endpoint_id, None)
        self._untold.pop(endpoint_id, None)
        return self._by_id.pop(endpoint_id, None)

    def match(self, tenant: str, event_type: str) -> tuple[EndpointId, ...]:
        """Return who subscribes to such events; disabled endpoints are among them, theirs is held."""
        return self._matcher.match(tenant, event_type)

    def choose(self, matched: tuple[EndpointId, ...], payload: bytes, content_type: str) -> tuple[EndpointId, ...]:
        """Return those of `matched` that an event with this payload is owed to.

        The payload is only looked at where one of them asks for it, and then once for all of them.
        """
        if not self._choosy or self._choosy.keys().isdisjoint(matched):
            return matched
        content = Payload(payload, content_type)
        return tuple(
            endpoint_id
            for endpoint_id in matched
            if (definition := self._choosy.get(endpoint_id)) is None or takes(definition, content)
        )

    @property
    def has_unsaved(self) -> bool:
        """Say whether some health is not yet on disk."""
        return bool(self._unsaved)

    def call_when_unsaved(self, callback: Callable[[], None]) -> None:
        """Have `callback` told whenever there is health to be committed."""
        self._on_unsaved = callback

    def change_health(self, endpoint: LiveEndpoint, health: Health, news: Sequence[News] = ()) -> None:
        """Note new health, to be committed with the next batch of outcomes, and what is to be told of it."""
        endpoint.health = health
        endpoint_id = endpoint.record.id
        if self._by_id.get(endpoint_id) is endpoint:
            if news:
                self._untold.setdefault(endpoint_id, []).extend(news)
            if endpoint_id not in self._unsaved:
                self._unsaved[endpoint_id] = None
                self._on_unsaved()

    def take_unsaved(self) -> dict[EndpointId, Health]:
        """Return the health that is not yet on disk; the caller now answers for its getting there."""
        unsaved = {endpoint_id: self._by_id[endpoint_id].health for endpoint_id in self._unsaved}
        self._unsaved.clear()
        return unsaved

    def take_untold(self, endpoint_ids: Iterable[EndpointId]) -> dict[EndpointId, list[News]]:
        """Return the news of these endpoints' health; the caller, who is about to store the health, answers for it."""
        return {name: self._untold.pop(name) for name in endpoint_ids if name in self._untold}

    def mark_untold(self, untold: Mapping[EndpointId, list[News]]) -> None:
        """Give back what `take_untold` returned and could not be committed."""
        for endpoint_id, news in untold.items():
            if endpoint_id in self._by_id:
                self._untold[endpoint_id] = news + self._untold.get(endpoint_id, [])

    def mark_unsaved(self, endpoint_ids: Iterable[EndpointId]) -> None:
        """Give back what `take_unsaved` returned and could not be committed."""
        self._unsaved.update(dict.fromkeys(name for name in endpoint_ids if name in self._by_id))
