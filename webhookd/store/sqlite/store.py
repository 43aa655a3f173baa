"""The store as the rest of webhookd sees it: every role of `core.ports.Store` over the writer and the readers."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from webhookd.core.attempt import Attempt
from webhookd.core.delivery import Delivery, DeliveryState
from webhookd.core.endpoint import EndpointRecord, Health
from webhookd.core.event import Event, EventSummary
from webhookd.core.ids import DeliveryId, EndpointId, EventId, delivery_text, event_text
from webhookd.core.ports import Answer, BackupReport, Counts, DueBatch, Head, Settlement, Space, Submission
from webhookd.core.queries import DeliveryFilter, EventFilter, Page, ReplayFilter
from webhookd.core.settings import Storage
from webhookd.errors import NotFoundError
from webhookd.store.sqlite import changes, history, outbox, replay
from webhookd.store.sqlite.backup import Backups
from webhookd.store.sqlite.directory import DirectoryLock
from webhookd.store.sqlite.lives import Lives
from webhookd.store.sqlite.retention import Retention
from webhookd.store.sqlite.room import Room
from webhookd.store.sqlite.rows import SELECT_ATTEMPT, SELECT_ENDPOINT, attempt_of, endpoint_of, find_delivery
from webhookd.store.sqlite.session import ReaderPool
from webhookd.store.sqlite.transaction import Accept, Change, Settle
from webhookd.store.sqlite.writer import Writer, new_answer

HIGHEST_ID = "SELECT max((SELECT coalesce(max(id), 0) FROM events), (SELECT coalesce(max(id), 0) FROM deliveries))"


class SqliteStore:
    """Everything in one file; opened by `open_store`.

    Calls that write are queued before they return. `warnings` are sentences about the place it lives in.
    """

    def __init__(  # noqa: PLR0913 - the parts it is made of, nearly all by name
        self,
        storage: Storage,
        lock: DirectoryLock,
        lives: Lives,
        writer: Writer,
        *,
        outbox: ReaderPool,
        history: ReaderPool,
        room: Room,
        backups: Backups,
        mint: Callable[[], int],
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.warnings = warnings
        self.sqlite_version = sqlite3.sqlite_version
        self.crashed_lately = False
        """Whether the daemon has crashed at least three times within a minute before this start."""
        self._lock = lock
        self._lives = lives
        self._writer = writer
        self._outbox = outbox
        self._history = history
        self._room = room
        self._backups = backups
        self._mint = mint
        self._retention = Retention(storage)

    @property
    def refusal(self) -> str | None:
        return self._room.last_refusal

    def apply(self, storage: Storage, *, idempotency_window_seconds: float) -> None:
        """Follow changed limits and keeping times; the path is the one thing that cannot change."""
        self._room.storage = storage
        self._retention.apply(storage)
        self._writer.apply(idempotency_window_seconds=idempotency_window_seconds)

    async def failure(self) -> BaseException:
        """Return the error that ended the writer, once one has; the process must then stop, since nothing is kept.

        A StoreIOError or StoreCorruptError is the disk's; anything else is a fault of ours. Never returns otherwise.
        """
        return await self._writer.failure()

    def accept(self, calls: Sequence[Sequence[Submission]]) -> Awaitable[list[Answer]]:
        return self._writer.submit(Accept.of(calls, new_answer()))

    async def highest_id(self) -> int:
        return await self._history.read(_highest_id)

    async def heads(self) -> list[Head]:
        return await self._outbox.read(outbox.heads)

    async def due(
        self,
        endpoint_id: EndpointId,
        *,
        now_ms: int,
        limit: int,
        max_bytes: int,
        ordered: bool,
        exclude: Collection[DeliveryId],
        replay_limit: int = 0,
        replay_max_bytes: int = 0,
    ) -> DueBatch:
        return await self._outbox.read(
            partial(
                outbox.due,
                endpoint_id=endpoint_id,
                now_ms=now_ms,
                limit=limit,
                max_bytes=max_bytes,
                ordered=ordered,
                # A copy: the caller's set may change while another thread reads it.
                exclude=tuple(exclude),
                replay_limit=replay_limit,
                replay_max_bytes=replay_max_bytes,
            )
        )

    async def bring_forward(self, endpoint_id: EndpointId, *, now_ms: int, latest_ms: int) -> int:
        find = partial(outbox.too_late, endpoint_id=endpoint_id, now_ms=now_ms, latest_ms=latest_ms)
        count = 0
        while ids := await self._outbox.read(find):
            change = partial(outbox.bring_forward, ids=ids, now_ms=now_ms, latest_ms=latest_ms)
            count += await self._change(change, rows=len(ids))
            if len(ids) < outbox.FORWARD_ROWS:
                break
        return count

    def settle(
        self,
        settlements: Sequence[Settlement],
        health: Mapping[EndpointId, Health],
        events: Sequence[Submission] = (),
    ) -> Awaitable[None]:
        return self._writer.submit(
            Settle(
                settlements=tuple(settlements),
                health=dict(health),
                events=tuple(events),
                rows=len(settlements) + len(health) + sum(1 + len(event.deliveries) for event in events),
                answer=new_answer(),
            )
        )

    def resend(self, delivery_id: DeliveryId, *, now_ms: int) -> Awaitable[Delivery]:
        return self._change(partial(changes.resend, delivery_id=delivery_id, now_ms=now_ms))

    def resend_event(
        self, event_id: EventId, endpoint_id: EndpointId | None, *, now_ms: int
    ) -> Awaitable[list[Delivery]]:
        # Minted here, on the loop, since the generator is not made for two threads; an id left over is no loss.
        spare = DeliveryId(self._mint())
        return self._change(
            partial(changes.resend_event, event_id=event_id, endpoint_id=endpoint_id, spare=spare, now_ms=now_ms)
        )

    async def replay(self, which: ReplayFilter, *, now_ms: int) -> int:
        replayed = 0
        async for ids, state in self._matching(which):
            for start in range(0, len(ids), replay.BATCH_ROWS):
                some = ids[start : start + replay.BATCH_ROWS]
                change = partial(replay.owe_again, endpoint_id=which.endpoint_id, ids=some, state=state, now_ms=now_ms)
                replayed += await self._change(change, rows=len(some))
        return replayed

    async def replayable(self, which: ReplayFilter) -> int:
        return sum([len(ids) async for ids, _ in self._matching(which)])

    async def _matching(self, which: ReplayFilter) -> AsyncIterator[tuple[list[int], DeliveryState]]:
        """Find on a reader, part by part, so that the writer is only asked to do what is to be done."""
        bounds = replay.Bounds.of(which, highest_id=await self.highest_id())
        for state in dict.fromkeys(which.states):
            after: int | None = bounds.lowest - 1
            while after is not None:
                find = partial(replay.find, which=which, state=state, after=after, below=bounds.below)
                ids, after = await self._history.read(find)
                yield ids, state

    def cancel(self, delivery_id: DeliveryId, *, now_ms: int) -> Awaitable[Delivery]:
        return self._change(partial(changes.cancel, delivery_id=delivery_id, now_ms=now_ms))

    async def endpoints(self) -> list[EndpointRecord]:
        rows = await self._history.read(_all(f"{SELECT_ENDPOINT} ORDER BY id"))
        return [endpoint_of(row) for row in rows]

    def put_endpoints(self, records: Sequence[EndpointRecord], events: Sequence[Submission] = ()) -> Awaitable[None]:
        return self._change(
            partial(changes.put_endpoints, records=tuple(records), events=tuple(events)),
            rows=len(records) + sum(1 + len(event.deliveries) for event in events),
        )

    def remove_endpoint(self, endpoint_id: EndpointId, *, now_ms: int) -> Awaitable[int]:
        return self._change(changes.Removal(endpoint_id, now_ms=now_ms), rows=changes.REMOVAL_ROWS)

    async def event(self, event_id: EventId) -> Event:
        rows = await self._history.read(
            _all(
                "SELECT type, tenant, content_type, payload, accepted_at_ms, deliver_at_ms FROM events WHERE id = ?",
                event_id,
            )
        )
        if not rows:
            raise NotFoundError(f"there is no event {event_text(event_id)}")
        ((type_, tenant, content_type, payload, accepted_at_ms, deliver_at_ms),) = rows
        return Event(
            id=event_id,
            type=type_,
            tenant=tenant,
            content_type=content_type,
            payload=payload,
            accepted_at_ms=accepted_at_ms,
            deliver_at_ms=deliver_at_ms,
        )

    async def events(self, which: EventFilter, *, limit: int, before: int | None) -> Page[EventSummary]:
        return await self._history.read(partial(history.events, which=which, limit=limit, before=before))

    async def delivery(self, delivery_id: DeliveryId) -> Delivery:
        found = await self._history.read(partial(find_delivery, delivery_id=delivery_id))
        if found is None:
            raise NotFoundError(f"there is no delivery {delivery_text(delivery_id)}")
        return found

    async def deliveries(self, which: DeliveryFilter, *, limit: int, before: int | None) -> Page[Delivery]:
        return await self._history.read(partial(history.deliveries, which=which, limit=limit, before=before))

    async def attempts(self, delivery_id: DeliveryId) -> list[Attempt]:
        rows = await self._history.read(_all(f"{SELECT_ATTEMPT} WHERE delivery_id = ? ORDER BY number", delivery_id))
        return [attempt_of(row) for row in rows]

    async def attempt(self, delivery_id: DeliveryId, number: int) -> Attempt | None:
        rows = await self._history.read(
            _all(f"{SELECT_ATTEMPT} WHERE delivery_id = ? AND number = ?", delivery_id, number)
        )
        return attempt_of(rows[0]) if rows else None

    async def counts(self) -> Counts:
        return await self._history.read(history.counts)

    async def pending_by_endpoint(self, endpoint_ids: Collection[EndpointId]) -> dict[EndpointId, int]:
        return await self._history.read(partial(history.pending_by_endpoint, endpoint_ids=tuple(endpoint_ids)))

    async def space(self) -> Space:
        return await self._history.read(self._room.space)

    def prune(self, *, now_ms: int) -> Awaitable[int]:
        return self._change(partial(self._retention.prune, now_ms=now_ms))

    def checkpoint(self) -> Awaitable[None]:
        return self._writer.checkpoint()

    async def backup(self, target: Path, *, overwrite: bool) -> BackupReport:
        return await self._backups.make(target, overwrite=overwrite)

    def ping(self) -> Awaitable[None]:
        return self._writer.look()

    async def close(self) -> None:
        await self._backups.close()
        # Readers first: the last connection to go is the one that may move the log into the file.
        await self._outbox.close()
        await self._history.close()
        await self._writer.close()
        self.end_life()
        self._lock.release()

    def end_life(self) -> None:
        """Note that the process ends for a reason of which it knows, which is no crash; nothing is closed by that."""
        self._lives.end()

    def _change(self, apply: Callable[[sqlite3.Connection], object], *, rows: int = 1) -> Awaitable:  # type: ignore[type-arg]
        return self._writer.submit(Change(apply=apply, rows=rows, answer=new_answer()))


def _all(sql: str, *values: object) -> Callable[[sqlite3.Connection], list[tuple]]:  # type: ignore[type-arg]
    return lambda db: db.execute(sql, values).fetchall()


def _highest_id(db: sqlite3.Connection) -> int:
    (highest,) = db.execute(HIGHEST_ID).fetchone()
    return int(highest)
