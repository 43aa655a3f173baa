"""Records all that SQLite does to the files of a database, from below the product's own code.

The SQLite is the one that apsw brings, whose file system layer can be put in from outside; `Recorder.connect` stands in
for `sqlite3.connect`, and everything above that is what runs in production.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from tests.kit.powerloss import Acknowledged, Created, Deleted, Entry, Found, Renamed, Synced, Truncated, Written


class Recorder:
    """Keeps the log of what is done to files in `directory` through the connections it opens.

    `entries` is in the order in which the operating system saw it; `acknowledge` adds to it. Only one thread may write
    at a time. `close` when no connection is left.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        found = [path for path in sorted(self._directory.iterdir()) if self.watches(path)]
        self.entries: list[Entry] = [Found({path.name: path.read_bytes() for path in found})]
        self._names = {path.stat().st_ino: path.name for path in found}
        self._connect = sqlite3.connect
        self._vfs = _Vfs(self)

    def acknowledge(self, what: object) -> None:
        """Note that whoever waited was now told that `what` is kept."""
        self.entries.append(Acknowledged(what))

    def connect(self, address: str, **settings: Any) -> Any:
        """Open what `sqlite3.connect` would, as something that answers like it as far as the store asks."""
        if not address.startswith("file:"):
            return self._connect(address, **settings)
        assert settings["uri"], settings
        assert settings["isolation_level"] is None, settings
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        with _Translated():
            db = apsw.Connection(
                address, flags=flags, vfs=self._vfs.name, statementcachesize=settings["cached_statements"]
            )
        db.set_busy_timeout(round(settings["timeout"] * 1000))
        return Connection(db)

    def close(self) -> None:
        """Take the file system layer out of SQLite again."""
        self._vfs.unregister()

    def opened(self, path: Path, *, was_there: bool) -> None:
        """Note what the opening of a file tells: that it was made, or that it has another name than before."""
        inode = path.stat().st_ino
        known = self._names.get(inode)
        if not was_there:
            self.entries.append(Created(path.name))
        elif known != path.name:
            assert known is not None, f"{path} was made past SQLite"
            self.entries.append(Renamed(known, path.name))
        self._names[inode] = path.name

    def watches(self, path: Path) -> bool:
        """Say whether a loss of power is to be told by this file; the index of a log is made anew at every start."""
        return path.parent == self._directory and not path.name.endswith("-shm")


class _Vfs(apsw.VFS):
    def __init__(self, recorder: Recorder) -> None:
        self.name = f"powerloss-{id(recorder)}"
        self._recorder = recorder
        super().__init__(self.name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        given = name.filename() if isinstance(name, apsw.URIFilename) else name
        if given is None or not self._recorder.watches(path := Path(given)):
            return apsw.VFSFile("", name, flags)
        was_there = path.exists()
        file = _File(self._recorder, path.name, name, flags)
        self._recorder.opened(path, was_there=was_there)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        super().xDelete(filename, syncdir)
        if self._recorder.watches(path := Path(filename)):
            self._recorder.entries.append(Deleted(path.name))


class _File(apsw.VFSFile):
    def __init__(self, recorder: Recorder, short: str, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._recorder = recorder
        self._name = short

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._recorder.entries.append(Written(self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(newsize)
        self._recorder.entries.append(Truncated(self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        # The recording is what counts; that the files it is made from survive is nothing to wait for.
        self._recorder.entries.append(Synced(self._name))


class Connection:
    """An apsw connection that speaks like one of the standard library's, as far as the store asks."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    @property
    def total_changes(self) -> int:
        return self._db.total_changes()

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Result:
        """Run one statement and take all of its rows."""
        with _Translated():
            rows = list(self._db.execute(sql, values))
            return Result(rows, self._db.changes())

    def interrupt(self) -> None:
        """End what is being executed."""
        self._db.interrupt()

    def close(self) -> None:
        """Close; the last one moves the log into the file."""
        try:
            with _Translated():
                self._db.close()
        except sqlite3.OperationalError as error:
            # SQLite tries for a lock as it closes, which one that only reads cannot have; only apsw minds that.
            if error.sqlite_errorcode != apsw.SQLITE_IOERR_LOCK:
                raise


class Result:
    """The rows of a statement."""

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self.rowcount = rowcount
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)


class _Translated:
    """Raises the standard library's error for one of apsw's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, apsw.Error):
            code: int = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
            translated = sqlite3.OperationalError(str(error))
            translated.sqlite_errorcode = code
            translated.sqlite_errorname = str(apsw.mapping_extended_result_codes.get(code, "SQLITE_ERROR"))
            raise translated from error
