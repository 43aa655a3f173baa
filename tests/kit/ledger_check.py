"""What must hold between the ledgers of producer and receiver and the database, whatever happened to the daemon."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path

from tests.kit.ledger_receiver import NO_VERDICT
from webhookd.core.ids import EventId, event_text

Pair = tuple[str, str]
"""Event id and endpoint."""

_ACCEPTED = {200, 202}
_UNKNOWN = {NO_VERDICT, 500, 503}
_SHOWN = 20


@dataclass(slots=True, kw_only=True)
class Life:
    """One process, as seen from outside: monotonic seconds, the exit code, and what was on record when it had ended.

    `delivered` are the ids of deliveries. `interrupted` is how many attempts an orderly stop says it broke off.
    """

    number: int
    started: float
    ended: float = 0.0
    code: int | None = None
    interrupted: int = 0
    delivered: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What there was, for those who ask how much a test has tried."""

    kills: int = 0
    stops: int = 0
    acknowledged: int = 0
    "events answered with 202, or with 200 under their key"
    in_doubt_present: int = 0
    "events never acknowledged and found on disk"
    in_doubt_absent: int = 0
    deliveries: int = 0
    delivered: int = 0
    dead: int = 0
    pending: int = 0
    requests: int = 0
    lost: int = 0
    duplicates: int = 0
    "requests for what the receiver had acknowledged before, since the daemon ended before that was on record"
    most_in_one_end: int = 0
    "duplicates that go back to one end of the process"
    oldest_unrecorded_ms: int = 0
    "how long before that end the oldest of their acknowledgements had been given"
    unheard: int = 0
    "requests for what the receiver had acknowledged by an answer that did not come through in time"

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, each.name):,} {each.name.replace('_', ' ')}" for each in fields(self))


@dataclass(frozen=True, slots=True)
class _Request:
    at: float
    event: str
    endpoint: str
    life: int
    attempt: int
    verdict: int
    size: int
    checksum: int


@dataclass(slots=True)
class _Event:
    """What the producer knows of one event, by its token."""

    type: str
    size: int
    checksum: int
    is_keyed: bool
    batch: tuple[str, ...]
    asked: int = 0
    ids: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Delivery:
    id: int
    event: str
    endpoint: str
    state: str
    reason: str | None
    attempt_count: int


@dataclass(slots=True)
class _Disk:
    """What is on record after the last life."""

    events: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    "type, token and payload by id"
    deliveries: dict[Pair, _Delivery] = field(default_factory=dict)
    attempts: dict[int, dict[int, int | None]] = field(default_factory=lambda: defaultdict(dict))
    "status by number, None for one without an answer, by delivery"
    keys: set[str] = field(default_factory=set)


def examine(
    *,
    producer_log: Path,
    receiver_log: Path,
    database: Path,
    daemon_log: str,
    lives: Sequence[Life],
    subscribed: Mapping[str, Sequence[str]],
    retries: Mapping[str, int],
    is_settled: bool = True,
    unrecorded_seconds: float = 5.0,
    most_unheard: int = 0,
    allowed_log: frozenset[str] = frozenset(),
) -> Report:
    """Return the counts, or raise AssertionError with everything that does not fit.

    `subscribed` are the patterns of each endpoint (none is all), `retries` how many each has. Without `is_settled`
    deliveries may be pending. An acknowledgement may be forgotten if it was given at most `unrecorded_seconds` before
    the process ended, and at most `most_unheard` may have been given in vain. `allowed_log` are messages of level error
    that are due.
    """
    wrong: list[str] = []
    produced = _read_producer(producer_log, wrong)
    requests = _read_receiver(receiver_log)
    disk = _read_database(database, wrong)
    _check_acceptance(produced, disk, subscribed, wrong)
    _check_states(disk, requests, retries, wrong, is_settled=is_settled)
    _check_bodies(produced, disk, requests, wrong)
    _check_order((request for request in requests if request.endpoint == "ordered"), wrong)
    repeats = _Repeats(disk, lives, wrong)
    for sequence in _by_pair(requests).values():
        repeats.look_at(sequence)
    repeats.check(unrecorded_seconds=unrecorded_seconds, most_unheard=most_unheard)
    _check_log(daemon_log, allowed_log, wrong)
    states = Counter(delivery.state for delivery in disk.deliveries.values())
    acknowledged = [event for event in produced.values() if event.ids]
    present = {token for _, token, _ in disk.events.values()}
    in_doubt = [token for token, event in produced.items() if not event.ids]
    report = Report(
        kills=sum(1 for life in lives if life.code not in {0, None}),
        stops=sum(1 for life in lives if life.code == 0),
        acknowledged=len(acknowledged),
        in_doubt_present=sum(1 for token in in_doubt if token in present),
        in_doubt_absent=sum(1 for token in in_doubt if token not in present),
        deliveries=len(disk.deliveries),
        delivered=states["delivered"],
        dead=states["dead"],
        pending=states["pending"],
        requests=len(requests),
        lost=sum(1 for complaint in wrong if complaint.startswith("lost")),
        duplicates=repeats.duplicates,
        most_in_one_end=max(map(len, repeats.by_life.values()), default=0),
        oldest_unrecorded_ms=round(repeats.oldest_seconds * 1000),
        unheard=repeats.unheard,
    )
    if wrong:
        shown = "\n  ".join(wrong[:_SHOWN])
        raise AssertionError(f"{len(wrong)} things do not fit:\n  {shown}\n{report}")
    return report


def _check_acceptance(
    produced: Mapping[str, _Event], disk: _Disk, subscribed: Mapping[str, Sequence[str]], wrong: list[str]
) -> None:
    """See that what was acknowledged is there once, with all it is owed to, and nothing else but what is in doubt."""
    by_token: dict[str, list[str]] = defaultdict(list)
    for event_id, (_, token, _) in disk.events.items():
        by_token[token].append(event_id)
    for token, event in produced.items():
        found = by_token.pop(token, [])
        if missing := event.ids.difference(found):
            wrong.append(f"lost: {token} was acknowledged as {missing}, and is not there")
        if len(found) > (1 if event.is_keyed else event.asked) or len(event.ids) > 1:
            wrong.append(f"twice: {token}, asked {event.asked} times, is {found}, acknowledged as {event.ids}")
        if found and event.is_keyed and token not in disk.keys:
            wrong.append(f"lost: the key of {token}")
        for event_id in found:
            owed = {name for name, patterns in subscribed.items() if _fits(event.type, patterns)}
            have = {name for name in subscribed if (event_id, name) in disk.deliveries}
            if owed != have:
                wrong.append(f"lost: {event_id} ({event.type}) is owed to {owed} and has deliveries to {have}")
    wrong.extend(f"from nowhere: {token} is {found}" for token, found in by_token.items())
    present = {token for _, token, _ in disk.events.values()}
    acknowledged = {token for token, event in produced.items() if event.ids}
    for batch in {event.batch for event in produced.values()}:
        for what, tokens in (("there", present), ("acknowledged", acknowledged)):
            if 0 < len(tokens.intersection(batch)) < len(batch):
                wrong.append(f"half a batch is {what}: {tokens.intersection(batch)} of {batch}")


def _check_states(
    disk: _Disk, requests: Sequence[_Request], retries: Mapping[str, int], wrong: list[str], *, is_settled: bool
) -> None:
    """See that every delivery has ended, or may still wait, and that what is on record is what the receiver did."""
    given: dict[Pair, set[tuple[int, int]]] = defaultdict(set)
    for request in requests:
        given[request.event, request.endpoint].add((request.attempt, request.verdict))
    for pair, delivery in disk.deliveries.items():
        attempts = disk.attempts[delivery.id]
        said = f"{pair} is {delivery.state} after {attempts}"
        if sorted(attempts) != list(range(1, delivery.attempt_count + 1)):
            wrong.append(f"{said} of {delivery.attempt_count}")
        wrong.extend(
            f"{said}, and {number} was not answered with {status} but {sorted(given[pair])}"
            for number, status in attempts.items()
            if status is not None and (number, status) not in given[pair]
        )
        acknowledged = [number for number, status in attempts.items() if status == 200]
        match delivery.state:
            case "delivered":
                is_right = acknowledged == [delivery.attempt_count]
            case "dead":
                exhausted = delivery.attempt_count == retries[delivery.endpoint] + 1
                is_right = not acknowledged and exhausted and delivery.reason == "retries_exhausted"
            case "pending":
                is_right = not acknowledged and not is_settled
            case _:
                is_right = False
        if not is_right:
            wrong.append(f"{said}, reason {delivery.reason}")


def _check_bodies(produced: Mapping[str, _Event], disk: _Disk, requests: Sequence[_Request], wrong: list[str]) -> None:
    """Compare what is on disk and what arrived with the bytes of the producer."""
    sums: dict[str, tuple[int, int]] = {}
    for event_id, (kind, token, payload) in disk.events.items():
        event = produced.get(token)
        if event is None:
            continue
        sums[event_id] = (event.size, event.checksum)
        if (len(payload), zlib.crc32(payload), kind) != (event.size, event.checksum, event.type):
            wrong.append(f"{event_id} is not what was handed in as {token}")
    wrong.extend(
        f"{request} is not what was handed in, or was never there"
        for request in requests
        if sums.get(request.event) != (request.size, request.checksum)
    )


def _check_order(requests: Iterable[_Request], wrong: list[str]) -> None:
    """See that no event came after a later one, crash or not; ids sort in the order of acceptance."""
    wrong.extend(
        f"out of order: {later} after {earlier}"
        for earlier, later in pairwise(requests)
        if later.event < earlier.event
    )  # fmt: skip


class _Repeats:
    """Says why every request was made that was not the first for its delivery, and counts what is nobody's wish."""

    def __init__(self, disk: _Disk, lives: Sequence[Life], wrong: list[str]) -> None:
        self._disk = disk
        self._lives = {life.number: life for life in lives}
        self._wrong = wrong
        self.duplicates = 0
        self.unheard = 0
        self.oldest_seconds = 0.0
        self.by_life: dict[int, set[Pair]] = defaultdict(set)
        "what was sent again because of the end of each life"

    def look_at(self, sequence: Sequence[_Request]) -> None:
        """Take all requests of one delivery, in the order in which they came."""
        acknowledged: _Request | None = None
        for index, request in enumerate(sequence):
            before = sequence[index - 1] if index else None
            if before is not None and request.life == before.life:
                self._within_a_life(before, request, sequence[:index])
            elif before is not None and request.life < before.life:
                self._wrong.append(f"from a life that was over: {request} after {before}")
            elif acknowledged is not None:
                self._across_lives(acknowledged, request)
            self.duplicates += acknowledged is not None and acknowledged.life < request.life
            if request.verdict == 200:
                acknowledged = request

    def check(self, *, unrecorded_seconds: float, most_unheard: int) -> None:
        """Compare the sums with what they may be."""
        for number, pairs in self.by_life.items():
            life = self._lives[number]
            if life.code == 0 and len(pairs) > life.interrupted:
                self._wrong.append(f"{len(pairs)} sent again after an orderly stop that interrupted {life.interrupted}")
        if self.oldest_seconds > unrecorded_seconds:
            self._wrong.append(f"an acknowledgement {self.oldest_seconds:.3f} s before the end was not on record")
        if self.unheard > most_unheard:
            self._wrong.append(f"{self.unheard} acknowledgements were given in vain")

    def _within_a_life(self, before: _Request, request: _Request, earlier: Sequence[_Request]) -> None:
        delivery = self._disk.deliveries.get((request.event, request.endpoint))
        on_record = self._disk.attempts[delivery.id] if delivery else {}
        if before.verdict == 200 and on_record.get(before.attempt, 0) is None and request.attempt > before.attempt:
            # A failure of the connection is what is on record: the answer was given, and did not come through.
            self.unheard += 1
        elif before.verdict == 200:
            self._wrong.append(f"sent again though acknowledged in the same life: {request} after {before}")
        elif request.attempt < before.attempt:
            self._wrong.append(f"numbered backwards in the same life: {request} after {before}")
        elif request.attempt == before.attempt:
            same = [one for one in earlier if (one.life, one.attempt) == (request.life, request.attempt)]
            # A kept-alive connection that ends before the first byte of an answer is replaced, once.
            if before.verdict != NO_VERDICT or len(same) > 1:
                self._wrong.append(f"sent again under its number: {request} after {before}")

    def _across_lives(self, acknowledged: _Request, request: _Request) -> None:
        pair = (request.event, request.endpoint)
        life = self._lives[acknowledged.life]
        delivery = self._disk.deliveries.get(pair)
        if delivery is not None and delivery.id in life.delivered:
            self._wrong.append(f"sent again with its success on record: {request} after {acknowledged}")
        self.by_life[life.number].add(pair)
        self.oldest_seconds = max(self.oldest_seconds, life.ended - acknowledged.at)


def _check_log(log: str, allowed: frozenset[str], wrong: list[str]) -> None:
    for line in log.splitlines():
        if not line.startswith("{"):
            wrong.append(f"the log has {line[:200]!r}")
            continue
        entry = json.loads(line)
        if entry["level"] in {"error", "critical"} and entry["message"] not in allowed:
            wrong.append(f"the log has {line[:500]}")


def _fits(kind: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(
        kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern for pattern in patterns
    )


def _by_pair(requests: Sequence[_Request]) -> dict[Pair, list[_Request]]:
    sequences: dict[Pair, list[_Request]] = defaultdict(list)
    for request in requests:
        sequences[request.event, request.endpoint].append(request)
    return sequences


def _read_producer(log: Path, wrong: list[str]) -> dict[str, _Event]:
    events: dict[str, _Event] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        entry = json.loads(line)
        if "ask" in entry:
            batch = tuple(entry["ask"])
            for token, kind, (size, checksum) in zip(batch, entry["types"], entry["sums"], strict=True):
                event = events.setdefault(token, _Event(kind, size, checksum, entry["keyed"], batch))
                event.asked += 1
        elif entry["status"] in _ACCEPTED:
            for token, event_id in zip(entry["answer"], entry["ids"], strict=True):
                events[token].ids.add(event_id)
        elif entry["status"] not in _UNKNOWN:
            wrong.append(f"the producer was refused: {line[:500]}")
    return events


def _read_receiver(log: Path) -> list[_Request]:
    requests = []
    for line in log.read_text().splitlines() if log.exists() else ():
        at, event, endpoint, life, attempt, verdict, size, checksum = line.split(" ")
        requests.append(
            _Request(
                float(at), event, endpoint, int(life), int(attempt), int(verdict), int(size), int(checksum)
            )
        )  # fmt: skip
    return requests


def _read_database(path: Path, wrong: list[str]) -> _Disk:
    disk = _Disk()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        wrong.extend(f"integrity_check: {row}" for (row,) in db.execute("PRAGMA integrity_check") if row != "ok")
        for number, kind, payload in db.execute("SELECT id, type, payload FROM events"):
            disk.events[event_text(EventId(number))] = (kind, json.loads(payload)["token"], payload)
        deliveries = "SELECT id, event_id, endpoint_id, state, reason, attempt_count FROM deliveries"
        for number, event, endpoint, state, reason, count in db.execute(deliveries):
            pair = (event_text(EventId(event)), endpoint)
            if pair in disk.deliveries:
                wrong.append(f"owed twice: {pair}")
            disk.deliveries[pair] = _Delivery(number, *pair, state, reason, count)
        for number, attempt, status in db.execute("SELECT delivery_id, number, status FROM attempts"):
            disk.attempts[number][attempt] = status
        disk.keys.update(key for (key,) in db.execute("SELECT key FROM idempotency"))
        (counted,) = db.execute("SELECT value FROM figures WHERE name = 'events'").fetchone()
        if counted != len(disk.events):
            wrong.append(f"{counted} events are counted and {len(disk.events)} are there")
    orphans = disk.attempts.keys() - {delivery.id for delivery in disk.deliveries.values()}
    wrong.extend(f"attempts of nothing: {number}" for number in orphans)
    return disk
