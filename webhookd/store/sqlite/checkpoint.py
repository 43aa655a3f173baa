"""When to move the write-ahead log into the database file, and how."""

from __future__ import annotations

import logging
import sqlite3

from webhookd.core.settings import MIB
from webhookd.store.sqlite.room import Room
from webhookd.store.sqlite.session import patience

log = logging.getLogger(__name__)

CHECKPOINT_BYTES = 4 * MIB
TRUNCATE_BYTES = 64 * MIB
_TRUNCATE_PATIENCE_SECONDS = 0.1
_FRAME_BYTES = 4096 + 24
_CHECKPOINT_FRAMES = CHECKPOINT_BYTES // _FRAME_BYTES


class Checkpointer:
    """Estimates how far the log has grown and checkpoints it; only ever on the writer's connection.

    The size of the log file does not tell, since SQLite writes it again from the start after a checkpoint. So frames
    are estimated from rows and payload bytes, by the ratio that the last checkpoint has shown.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._frames_per_row = 4.0
        self._rows = 0
        self._payload_frames = 0.0
        self._frames_left = 0
        self._has_told = False

    @property
    def due(self) -> bool:
        """Say whether about CHECKPOINT_BYTES were written since the last checkpoint."""
        return self._rows * self._frames_per_row + self._payload_frames >= _CHECKPOINT_FRAMES

    def count(self, rows: int, size_bytes: int) -> None:
        """Take note of a commit."""
        self._rows += rows
        self._payload_frames += size_bytes / _FRAME_BYTES

    def run(self, db: sqlite3.Connection) -> None:
        """Checkpoint as far as readers allow, and cut a file that has grown past TRUNCATE_BYTES if nobody reads it."""
        try:
            self._run(db)
        except sqlite3.Error as error:
            raise self._room.explained(error) from error

    def _run(self, db: sqlite3.Connection) -> None:
        _, frames, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frames >= 0:
            self._learn(frames)
            # The log starts again only after all of it was moved; until then it goes on growing from here.
            self._frames_left = 0 if moved == frames else frames
        if self._room.log_bytes() > TRUNCATE_BYTES:
            self._truncate(db)
        self._tell(self._room.log_bytes())
        self._rows, self._payload_frames = 0, 0.0

    def _learn(self, frames: int) -> None:
        grown = frames - self._frames_left if frames >= self._frames_left else frames
        if self._rows:
            seen = (grown - self._payload_frames) / self._rows
            self._frames_per_row = min(8.0, max(0.25, seen))

    def _tell(self, size_bytes: int) -> None:
        """Log once that the file could not be cut, for which no short read is to blame, and once that it was."""
        if (size_bytes > TRUNCATE_BYTES) == self._has_told:
            return
        self._has_told = not self._has_told
        fields: dict[str, object] = {"wal_bytes": size_bytes}
        if self._has_told:
            cause = "another process keeps a read transaction open, or a backup is being made"
            log.error("wal.grown", extra={"fields": {**fields, "cause": cause}})
        else:
            log.warning("wal.cut", extra={"fields": fields})

    def _truncate(self, db: sqlite3.Connection) -> None:
        # A reader that never ends, such as a replica's, must not hold up the commits behind this for long.
        with patience(db, _TRUNCATE_PATIENCE_SECONDS):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
