"""Takes outcomes to the store in batches, and tells the dispatcher when they are on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import chain

from msgspec import Struct

from webhookd.core.ids import EndpointId, EventId
from webhookd.core.news import News
from webhookd.core.ports import Clock, Outbox, Settlement
from webhookd.engine.announcer import Announcer, receivers
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.engine.station import Station
from webhookd.errors import StoreCorruptError, StoreIOError, StoreUnavailableError

log = logging.getLogger(__name__)

_MOST_IN_BATCH = 1024
_MOST_WAITING = 4096
_REPEAT_SECONDS = 1.0


class Source(Struct, frozen=True):
    """The event that an attempt was made for, without its payload, which need not stay in memory."""

    event_id: EventId
    event_type: str
    tenant: str


class Record(Struct, frozen=True):
    """A settlement, the station it came from, and what is to be told of it."""

    station: Station
    settlement: Settlement
    source: Source
    news: tuple[News, ...] = ()


class Recorder:
    """One loop that commits whatever outcomes have come in since the last commit.

    An outcome that cannot be recorded would be sent again, so while the store refuses writes (`trouble` says why) or
    more than a few thousand outcomes wait, `is_congested` asks the dispatcher to start nothing. Batches are kept and
    repeated once a second until the store takes them. A disk that fails ends the loop with StoreIOError.
    """

    def __init__(self, *, store: Outbox, endpoints: LiveEndpoints, announcer: Announcer, clock: Clock) -> None:
        self._store = store
        self._endpoints = endpoints
        self._announcer = announcer
        self._clock = clock
        self._waiting: list[Record] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._on_committed: list[Callable[[list[Record]], None]] = []
        self._on_announced: Callable[[EndpointId], None] = lambda _endpoint_id: None
        self.trouble: str | None = None
        self.commit_started: float | None = None
        """When the commit under way began, monotonic seconds; None when there is none."""
        endpoints.call_when_unsaved(self._wake)

    def __repr__(self) -> str:
        return f"<Recorder {len(self._waiting)} waiting, trouble={self.trouble!r}>"

    @property
    def is_congested(self) -> bool:
        """Say whether starting further attempts would risk sending what cannot be recorded."""
        return self.trouble is not None or len(self._waiting) > _MOST_WAITING

    def call_when_committed(self, callback: Callable[[list[Record]], None]) -> None:
        """Have `callback` told of every batch that is on disk, and of every change of `trouble` with an empty one."""
        self._on_committed.append(callback)

    def call_when_announced(self, callback: Callable[[EndpointId], None]) -> None:
        """Have `callback` told of each endpoint that operational events were committed for, together with outcomes."""
        self._on_announced = callback

    def record(self, record: Record) -> None:
        """Queue one outcome."""
        if not self._waiting:
            self._wake()
        self._waiting.append(record)

    async def flushed(self) -> None:
        """Return once everything recorded so far is on disk."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit batches until cancelled; raises StoreIOError or StoreCorruptError once the disk cannot be trusted."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting or self._endpoints.has_unsaved:
                batch, self._waiting = self._waiting[:_MOST_IN_BATCH], self._waiting[_MOST_IN_BATCH:]
                await self._commit(batch)
                self._tell(batch)
            self._idle.set()

    async def _commit(self, batch: list[Record]) -> None:
        settlements = [record.settlement for record in batch]
        deaths = [piece for record in batch for piece in record.news]
        while True:
            health = self._endpoints.take_unsaved()
            untold = self._endpoints.take_untold(health)
            events = self._announcer.submissions(chain(deaths, *untold.values()))
            self.commit_started = self._clock.monotonic()
            try:
                await self._store.settle(settlements, health, events)
            except (StoreIOError, StoreCorruptError) as error:
                # The process is about to end; until then nothing more may be sent that cannot be recorded.
                self.trouble = str(error)
                raise
            except StoreUnavailableError as error:
                self._endpoints.mark_unsaved(health)
                self._endpoints.mark_untold(untold)
                self._note_trouble(str(error))
                await self._clock.sleep(_REPEAT_SECONDS)
            else:
                self._note_trouble(None)
                for endpoint_id in receivers(events):
                    self._on_announced(endpoint_id)
                return
            finally:
                self.commit_started = None

    def _wake(self) -> None:
        if not self._arrived.is_set():
            self._arrived.set()
            self._idle.clear()

    def _note_trouble(self, trouble: str | None) -> None:
        if (trouble is None) != (self.trouble is None):
            if trouble is None:
                log.warning("recording.resumed")
            else:
                log.error("recording.suspended", extra={"fields": {"reason": trouble, "waiting": len(self._waiting)}})
            self.trouble = trouble
            self._tell([])

    def _tell(self, batch: list[Record]) -> None:
        for callback in self._on_committed:
            callback(batch)
