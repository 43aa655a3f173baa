"""The rooms behind the API as small fakes, and a way to run the API over them on real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.values import replace
from webhookd.api import Api, Patience, bind
from webhookd.core.attempt import Attempt, AttemptNotice, Outcome
from webhookd.core.delivery import Delivery, DeliveryState
from webhookd.core.endpoint import DisabledReason, EndpointRecord, Health
from webhookd.core.event import Draft, Event, EventSummary
from webhookd.core.ids import EPOCH_MS, DeliveryId, EndpointId, EventId
from webhookd.core.ports import Acceptance, BackupReport, Counts, Space
from webhookd.core.queries import DeliveryFilter, EventFilter, Page, ReplayFilter
from webhookd.core.services import Accepted, EndpointView, EngineStatus, Heard, NoticeFilter
from webhookd.core.settings import (
    DeliveryRules,
    EndpointDefinition,
    Ingest,
    Listen,
    NetworkRules,
    Role,
    Settings,
    Storage,
    TcpAddress,
    Token,
    UnixAddress,
)
from webhookd.errors import ConflictError, NotFoundError


class FakeAcceptor:
    """Accepts at once, or when `release` is called after `hold`; fails with `error` while there is one."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.error: Exception | None = None
        self.duplicate = False
        self.held: list[Accepted] | None = None
        self._next = 1 << 40
        self._came = asyncio.Event()

    def hold(self) -> None:
        """Leave what is handed in from now on unanswered until `release`."""
        self.held = []

    async def until_held(self, count: int = 1) -> None:
        """Wait for so many submissions to be held."""
        assert self.held is not None
        async with asyncio.timeout(5):
            while len(self.held) < count:
                self._came.clear()
                await self._came.wait()

    def release(self, index: int = 0) -> None:
        """Answer one of the held submissions."""
        assert self.held is not None
        self.held.pop(index)([self._acceptance()])

    def accept(self, drafts: Sequence[Draft], answered: Accepted) -> None:
        """Fill the port."""
        self.drafts += drafts
        if self.held is not None:
            self.held.append(answered)
            self._came.set()
            return
        outcome = self.error or [self._acceptance() for _ in drafts]
        asyncio.get_running_loop().call_soon(answered, outcome)

    def _acceptance(self) -> Acceptance:
        self._next += 1
        return Acceptance(EventId(self._next), self.duplicate, 2)


def an_event(number: int = 1 << 40, **changes: object) -> Event:
    """Build an event."""
    event = Event(
        id=EventId(number),
        type="order.completed",
        tenant="default",
        content_type="application/json",
        payload=b'{"n": 1}',
        accepted_at_ms=EPOCH_MS + 1234,
    )
    return replace(event, **changes)


def a_delivery(number: int = 1 << 41, **changes: object) -> Delivery:
    """Build a pending delivery."""
    delivery = Delivery(
        id=DeliveryId(number),
        event_id=EventId(1 << 40),
        endpoint_id=EndpointId("orders"),
        tenant="default",
        event_type="order.completed",
        state=DeliveryState.PENDING,
        held=False,
        reason=None,
        attempt_count=0,
        retries_used=0,
        owed_since_ms=EPOCH_MS,
        created_at_ms=EPOCH_MS,
        due_at_ms=EPOCH_MS + 5000,
        finished_at_ms=None,
    )
    return replace(delivery, **changes)


class FakeHistory:
    """History over lists that a test fills; it keeps the filters it was asked with."""

    def __init__(self) -> None:
        self.all_events: list[Event] = []
        self.all_deliveries: list[Delivery] = []
        self.all_attempts: list[Attempt] = []
        self.asked: list[EventFilter | DeliveryFilter] = []
        self.error: Exception | None = None

    async def event(self, event_id: EventId) -> Event:
        """Fill the port."""
        if self.error is not None:
            raise self.error
        for event in self.all_events:
            if event.id == event_id:
                return event
        raise NotFoundError("there is no such event")

    async def events(self, which: EventFilter, *, limit: int, before: int | None) -> Page[EventSummary]:
        """Fill the port."""
        self.asked.append(which)
        found = [
            EventSummary(
                id=event.id,
                type=event.type,
                tenant=event.tenant,
                content_type=event.content_type,
                size_bytes=len(event.payload),
                accepted_at_ms=event.accepted_at_ms,
            )
            for event in sorted(self.all_events, key=lambda event: -event.id)
            if before is None or event.id < before
        ]
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def delivery(self, delivery_id: DeliveryId) -> Delivery:
        """Fill the port."""
        for delivery in self.all_deliveries:
            if delivery.id == delivery_id:
                return delivery
        raise NotFoundError("there is no such delivery")

    async def deliveries(self, which: DeliveryFilter, *, limit: int, before: int | None) -> Page[Delivery]:
        """Fill the port."""
        self.asked.append(which)
        found = [
            delivery
            for delivery in sorted(self.all_deliveries, key=lambda delivery: -delivery.id)
            if before is None or delivery.id < before
        ]
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def attempts(self, delivery_id: DeliveryId) -> list[Attempt]:
        """Fill the port."""
        return [attempt for attempt in self.all_attempts if attempt.delivery_id == delivery_id]

    async def attempt(self, delivery_id: DeliveryId, number: int) -> Attempt | None:
        """Fill the port."""
        raise NotImplementedError

    async def counts(self) -> Counts:
        """Fill the port."""
        raise NotImplementedError

    async def pending_by_endpoint(self, endpoint_ids: Collection[EndpointId]) -> dict[EndpointId, int]:
        """Fill the port."""
        raise NotImplementedError


class FakeDirectory:
    """A directory that believes everything; it keeps the keys it was given."""

    def __init__(self) -> None:
        self.views: dict[EndpointId, EndpointView] = {}
        self.keys: list[Mapping[str, object]] = []
        self.rotations: list[tuple[EndpointId, float, str | None]] = []
        self.outcome = Outcome(duration_ms=12.3456, status=200, excerpt=b"ok")

    def add(self, endpoint_id: str, **given: object) -> EndpointView:
        """Put an endpoint there."""
        name = EndpointId(endpoint_id)
        definition = EndpointDefinition(
            id=name, url=str(given.get("url", "https://example.com/")), tenant="default", given=given
        )
        record = EndpointRecord(id=name, declared=False, created_at_ms=EPOCH_MS, given=given, secret="whsec_x")
        self.views[name] = EndpointView(record=record, definition=definition, pending=3, last_attempt=None)
        return self.views[name]

    async def page(self, *, limit: int, before: int | None) -> Page[EndpointView]:
        """Fill the port."""
        views = list(self.views.values())
        start = 0 if before is None else -before
        more = len(views) > start + limit
        return Page(views[start : start + limit], -(start + limit) if more else None)

    async def show(self, endpoint_id: EndpointId) -> EndpointView:
        """Fill the port."""
        if endpoint_id not in self.views:
            raise NotFoundError("there is no such endpoint")
        return self.views[endpoint_id]

    async def create(
        self, endpoint_id: EndpointId | None, keys: Mapping[str, object]
    ) -> tuple[EndpointView, str | None]:
        """Fill the port."""
        self.keys.append(keys)
        if endpoint_id in self.views:
            raise ConflictError("endpoint_exists", "there is an endpoint of this name")
        given = {key: value for key, value in keys.items() if key not in {"secret", "sample"}}
        return self.add(endpoint_id or "ep_1", **given), None if "secret" in keys else "whsec_generated"

    async def update(self, endpoint_id: EndpointId, patch: Mapping[str, object]) -> EndpointView:
        """Fill the port."""
        self.keys.append(patch)
        return await self.show(endpoint_id)

    async def remove(self, endpoint_id: EndpointId) -> None:
        """Fill the port."""
        await self.show(endpoint_id)
        del self.views[endpoint_id]

    async def rotate(
        self, endpoint_id: EndpointId, *, overlap_seconds: float, secret: str | None
    ) -> tuple[EndpointView, str]:
        """Fill the port."""
        view = await self.show(endpoint_id)
        self.rotations.append((endpoint_id, overlap_seconds, secret))
        return view, secret or "whsec_rotated"

    async def enable(self, endpoint_id: EndpointId) -> EndpointView:
        """Fill the port."""
        return await self.show(endpoint_id)

    async def disable(self, endpoint_id: EndpointId) -> EndpointView:
        """Fill the port."""
        view = await self.show(endpoint_id)
        health = Health(disabled_reason=DisabledReason.OPERATOR, disabled_at_ms=EPOCH_MS)
        self.views[endpoint_id] = replace(view, record=replace(view.record, health=health))
        return self.views[endpoint_id]

    async def test(self, endpoint_id: EndpointId) -> tuple[bool, Outcome]:
        """Fill the port."""
        await self.show(endpoint_id)
        return self.outcome.status == 200, self.outcome

    def not_matched(self, event: Event, owed: Collection[EndpointId], *, limit: int) -> list[tuple[EndpointId, str]]:
        """Fill the port."""
        return [(name, "type does not match") for name in self.views if name not in owed][:limit]


class FakeDesk:
    """A desk over the deliveries of a history."""

    def __init__(self, history: FakeHistory) -> None:
        self._history = history
        self.resent: list[tuple[EventId, EndpointId | None]] = []
        self.replays: list[tuple[ReplayFilter, bool]] = []

    async def resend(self, delivery_id: DeliveryId) -> Delivery:
        """Fill the port."""
        return await self._history.delivery(delivery_id)

    async def resend_event(self, event_id: EventId, endpoint_id: EndpointId | None) -> list[Delivery]:
        """Fill the port."""
        await self._history.event(event_id)
        self.resent.append((event_id, endpoint_id))
        return [delivery for delivery in self._history.all_deliveries if delivery.event_id == event_id]

    async def replay(self, which: ReplayFilter, *, dry_run: bool) -> int:
        """Fill the port."""
        self.replays.append((which, dry_run))
        return 42

    async def cancel(self, delivery_id: DeliveryId) -> Delivery:
        """Fill the port."""
        delivery = await self._history.delivery(delivery_id)
        if delivery.state is not DeliveryState.PENDING:
            raise ConflictError("delivery_ended", "the delivery has ended")
        return replace(delivery, state=DeliveryState.CANCELLED, reason="operator", finished_at_ms=EPOCH_MS)


class FakeFeed:
    """A feed whose followers hear what a test tells, as long as there is room for them."""

    def __init__(self) -> None:
        self.followers: list[FakeFollower] = []
        self.has_room = True

    def follow(self, which: NoticeFilter) -> FakeFollower | None:
        """Fill the port."""
        if not self.has_room:
            return None
        self.followers.append(FakeFollower(which))
        return self.followers[-1]

    def end(self) -> None:
        """Fill the port."""
        for follower in self.followers:
            follower.leave()


class FakeFollower:
    """One who hears what a test tells."""

    def __init__(self, which: NoticeFilter) -> None:
        self.which = which
        self.left = asyncio.Event()
        self._told: asyncio.Queue[Heard | None] = asyncio.Queue()

    def tell(self, *notices: AttemptNotice, dropped: int = 0) -> None:
        """Let it hear."""
        self._told.put_nowait(Heard(notices, dropped))

    async def hear(self) -> Heard | None:
        """Fill the port."""
        return await self._told.get()

    def leave(self) -> None:
        """Fill the port."""
        self.left.set()
        self._told.put_nowait(None)


class FakeKeeper:
    """A keeper that only says it has copied."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path, bool]] = []
        self.error: Exception | None = None

    async def backup(self, target: Path, *, overwrite: bool) -> BackupReport:
        """Fill the port."""
        self.asked.append((target, overwrite))
        if self.error is not None:
            raise self.error
        return BackupReport(size_bytes=4096, duration_ms=1.23456, events=3, deliveries=5)


class FakeMonitor:
    """A monitor with a status that a test may replace."""

    def __init__(self) -> None:
        self.now = EngineStatus(
            in_flight_fast=1,
            in_flight_slow=2,
            oldest_due_ms=EPOCH_MS,
            resting=0,
            endpoints_enabled=3,
            endpoints_disabled=0,
            draining=False,
            refusing=None,
            stuck=None,
        )

    def status(self) -> EngineStatus:
        """Fill the port."""
        return self.now

    async def counts(self) -> Counts:
        """Fill the port."""
        return Counts(pending=5, held=1, delivered=7, dead=2, cancelled=1, events=9)

    async def space(self) -> Space:
        """Fill the port."""
        return Space(used_bytes=4096, wal_bytes=0, free_bytes=1 << 30)

    def attention(self) -> Sequence[EndpointView]:
        """Fill the port."""
        return []


class FakeObserver:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.slugs: list[str] = []
        self.count = 0
        self.seconds: list[float] = []

    def rejected(self, slug: str) -> None:
        """Fill the port."""
        self.slugs.append(slug)

    def accepted(self, count: int, seconds: float) -> None:
        """Fill the port."""
        self.count += count
        self.seconds.append(seconds)


def settings(*, tokens: tuple[Token, ...] = (), ingest: Ingest | None = None) -> Settings:
    """Build settings as far as the API looks at them."""
    return Settings(
        source=None,
        listen=(),
        tokens=tokens,
        ingest=ingest or Ingest(),
        storage=Storage(path=Path("unused.db")),
        network=NetworkRules(),
        delivery=DeliveryRules(),
        profiles={},
        endpoints={},
    )


@dataclass(kw_only=True)
class House:
    """An API that is being served, with the fakes behind it."""

    acceptor: FakeAcceptor = field(default_factory=FakeAcceptor)
    history: FakeHistory = field(default_factory=FakeHistory)
    directory: FakeDirectory = field(default_factory=FakeDirectory)
    feed: FakeFeed = field(default_factory=FakeFeed)
    keeper: FakeKeeper = field(default_factory=FakeKeeper)
    monitor: FakeMonitor = field(default_factory=FakeMonitor)
    observer: FakeObserver = field(default_factory=FakeObserver)
    api: Api = field(init=False)
    desk: FakeDesk = field(init=False)

    def open(
        self, *, patience: Patience | None = None, tokens: tuple[Token, ...] = (), ingest: Ingest | None = None
    ) -> None:
        """Start the API, listening nowhere yet."""
        self.desk = FakeDesk(self.history)
        self.api = Api(
            settings=settings(tokens=tokens, ingest=ingest),
            acceptor=self.acceptor,
            directory=self.directory,
            desk=self.desk,
            feed=self.feed,
            keeper=self.keeper,
            monitor=self.monitor,
            history=self.history,
            observer=self.observer,
            metrics_text=self._metrics,
            version="9.9.9",
            patience=patience,
        )

    async def _metrics(self) -> bytes:
        return b"webhookd_build_info 1\n"

    async def on_unix(self, path: Path, role: Role = Role.OPERATE) -> Callable[[], socket.socket]:
        """Listen on a unix socket; returns what connects to it."""
        address = UnixAddress(path)
        await self.api.serve(bind(address), Listen(address=address, role=role))

        def connect() -> socket.socket:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
            except OSError:
                sock.close()
                raise
            sock.setblocking(False)
            return sock

        return connect

    async def on_tcp(
        self, role: Role = Role.OPERATE, *, host: str = "127.0.0.1", hosts: frozenset[str] = frozenset()
    ) -> Callable[[], socket.socket]:
        """Listen on a TCP socket with a free port; returns what connects to it over loopback."""
        address = TcpAddress(host, 0)
        listening = bind(address)
        port = listening.getsockname()[1]
        await self.api.serve(listening, Listen(address=address, role=role, hosts=hosts))

        def connect() -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            return sock

        return connect


@dataclass(slots=True)
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A client that speaks raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, connect: Callable[[], socket.socket]) -> Wire:
        """Connect."""
        sock = connect()
        if sock.family == socket.AF_UNIX:
            return cls(*await asyncio.open_unix_connection(sock=sock))
        return cls(*await asyncio.open_connection(sock=sock))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; a server that has hung up already is no error here."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (ConnectionError, RuntimeError):
            # uvloop calls it a RuntimeError to write to what the other side has closed.
            return

    def finish(self) -> None:
        """Say that no more will be sent."""
        self._writer.write_eof()

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Read one response, whole."""
        async with asyncio.timeout(5):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            status = int(status_line.split(" ")[1])
            size = 0 if head_only or status in {100, 204} else int(headers["content-length"])
            return Answer(status, headers, await self._reader.readexactly(size))

    async def ask(self, data: bytes) -> Answer:
        """Send and read one response."""
        await self.send(data)
        return await self.answer()

    async def end(self) -> bytes:
        """Read to the end of the connection; a reset counts as one."""
        async with asyncio.timeout(5):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    def reset(self) -> None:
        """Vanish from a TCP connection without a goodbye."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    content_type: str | None = "application/json",
    **headers: str,
) -> bytes:
    """Build a request; underscores in header names become dashes."""
    lines = [f"{method} {target} HTTP/1.1"]
    fields = {"host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if body or method in {"POST", "PATCH"}:
        fields["content-length"] = str(len(body))
    if body and content_type is not None:
        fields["content-type"] = content_type
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
