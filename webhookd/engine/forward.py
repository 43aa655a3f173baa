"""After the wall clock went back: what was written down by the later time must not wait until that comes again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from webhookd.core.ports import Clock, Head, Outbox
from webhookd.core.schedule import longest_ms
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.errors import StoreCorruptError, StoreIOError, StoreUnavailableError

log = logging.getLogger(__name__)


class BringingForward:
    """Lets no first attempt wait but for its `deliver_at`, no retry for longer than its schedule's longest delay."""

    def __init__(self, *, clock: Clock, store: Outbox, endpoints: LiveEndpoints) -> None:
        self._clock = clock
        self._store = store
        self._endpoints = endpoints

    def concerns(self, heads: Iterable[Head]) -> bool:
        """Say whether anything waits at all, as `run` would find out."""
        now_ms = self._clock.now_ms()
        return any((head.last_due_ms or 0) > now_ms for head in heads)

    async def run(self, heads: Iterable[Head] | None = None) -> list[Head]:
        """Change what waits for too long; return where endpoints whose rows were changed are to be looked at again.

        Without `heads` they are read first. A store that takes no writes, or does not even answer, is left as it is,
        and the next start sees to it.
        """
        changed: list[Head] = []
        try:
            await self._change(await self._store.heads() if heads is None else heads, changed)
        except (StoreIOError, StoreCorruptError):
            raise
        except StoreUnavailableError as error:
            log.warning("deliveries.late", extra={"fields": {"reason": str(error)}})
        return changed

    async def _change(self, heads: Iterable[Head], changed: list[Head]) -> None:
        for head in heads:
            live, now_ms = self._endpoints.get(head.endpoint_id), self._clock.now_ms()
            if live is None or live.definition is None or (head.last_due_ms or 0) <= now_ms:
                continue
            rules = live.definition.rules
            latest_ms = now_ms + longest_ms(rules.retry, jitter=rules.jitter)
            count = await self._store.bring_forward(head.endpoint_id, now_ms=now_ms, latest_ms=latest_ms)
            if count:
                fields = {"endpoint": head.endpoint_id, "deliveries": count}
                log.warning("deliveries.brought_forward", extra={"fields": fields})
                changed.append(Head(endpoint_id=head.endpoint_id, due_at_ms=now_ms, replay_due_ms=now_ms))
