"""What a disk may hold after a loss of power, by a recording of what was written and synced until then."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is on disk when the recording begins."""

    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Created:
    """A file came to be, empty."""

    name: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file got another name, past SQLite."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes were handed to the operating system."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file was cut."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """All that was written to a file before is on disk."""

    name: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file's name was removed."""

    name: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Somebody was told that `what` is kept."""

    what: object


Entry = Found | Created | Renamed | Written | Truncated | Synced | Deleted | Acknowledged


class Loss(StrEnum):
    """What becomes of what was not synced."""

    NONE = "none"
    """It is all there, as after a crash of the process alone."""

    ALL = "all"
    SOME = "some"
    """Any of the writes are there, later ones also without earlier ones."""

    TORN = "torn"
    """Any sector is as any of the writes to it left it, or as it was before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What may be found after a loss of power: the files, and what had been acknowledged by then."""

    at: int
    loss: Loss
    files: Mapping[str, bytes]
    acknowledged: Sequence[object]

    def put(self, directory: Path) -> None:
        """Make `directory` hold these files and no others."""
        for leftover in directory.iterdir():
            if leftover.name not in self.files:
                leftover.unlink()
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def crashes(entries: Sequence[Entry], *, seed: int, share: float = 1.0) -> Iterator[Crash]:
    """Yield a crash after each entry in every kind of loss, or that `share` of them; a seed gives the same again."""
    disk = _Disk()
    told: list[object] = []
    for at, entry in enumerate(entries, 1):
        if isinstance(entry, Acknowledged):
            told.append(entry.what)
        else:
            disk.follow(entry)
        for loss in Loss:
            chance = random.Random(f"{seed}/{at}/{loss}")
            if chance.random() < share:
                yield Crash(at=at, loss=loss, files=disk.after(loss, chance), acknowledged=tuple(told))


@dataclass(slots=True)
class _Content:
    """One file: what is on disk for certain, and what has been done to it since, in order."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[Written | Truncated] = field(default_factory=list)
    has_name: bool = False

    def sync(self) -> None:
        for change in self.since:
            _do(self.durable, change)
        self.since.clear()
        self.has_name = True

    def after(self, loss: Loss, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        for change in self.since:
            match loss:
                case Loss.NONE:
                    _do(content, change)
                case Loss.SOME if chance.random() < 0.5:
                    _do(content, change)
                case Loss.TORN if isinstance(change, Written):
                    for piece in _sectors(change):
                        if chance.random() < 0.5:
                            _do(content, piece)
                case Loss.TORN if chance.random() < 0.5:
                    _do(content, change)
                case _:
                    pass
        return bytes(content)


class _Disk:
    """The files of a directory; names are kept from the first sync of a file on, when SQLite syncs the directory."""

    def __init__(self) -> None:
        self._files: dict[str, _Content] = {}
        self._deleted: dict[str, _Content] = {}

    def follow(self, entry: Found | Created | Renamed | Written | Truncated | Synced | Deleted) -> None:
        match entry:
            case Found(files):
                for name, content in files.items():
                    self._files[name] = _Content(durable=bytearray(content), has_name=True)
            case Created(name):
                self._files[name] = _Content()
            case Renamed(old, new):
                # The store syncs the directory after it, before anything else is written.
                self._files[new] = self._files.pop(old)
            case Written(name) | Truncated(name):
                self._files[name].since.append(entry)
            case Synced(name):
                self._files[name].sync()
                self._deleted.pop(name, None)
            case Deleted(name):
                self._deleted[name] = self._files.pop(name)

    def after(self, loss: Loss, chance: random.Random) -> dict[str, bytes]:
        """Return what is found; a name whose removal or making was not synced may be as it was before."""
        found = {
            name: content.after(loss, chance)
            for name, content in self._files.items()
            if content.has_name or _stays(loss, chance)
        }
        for name, content in self._deleted.items():
            if name not in found and not _stays(loss, chance):
                found[name] = content.after(loss, chance)
        return found


def _stays(loss: Loss, chance: random.Random) -> bool:
    return loss is Loss.NONE or (loss is not Loss.ALL and chance.random() < 0.5)


def _do(content: bytearray, change: Written | Truncated) -> None:
    match change:
        case Written(offset=offset, data=data):
            if len(content) < offset:
                content.extend(bytes(offset - len(content)))
            content[offset : offset + len(data)] = data
        case Truncated(size=size):
            del content[size:]
            content.extend(bytes(size - len(content)))


def _sectors(change: Written) -> Iterator[Written]:
    start = 0
    while start < len(change.data):
        end = min(len(change.data), start + SECTOR_BYTES - (change.offset + start) % SECTOR_BYTES)
        yield Written(change.name, change.offset + start, change.data[start:end])
        start = end
