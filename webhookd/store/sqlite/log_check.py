"""Whether a write-ahead log still holds what was committed to it, which SQLite itself does not ask.

SQLite reads a log up to the first frame that does not pass, and takes what follows as never committed. After a loss of
power that is right: each commit is synced before anything more is written, so only the last one can be torn. If a whole
commit and more follow a frame that does not pass, then what had been acknowledged is damaged, and SQLite would drop it
without a word; where a checkpoint had moved some of it already, that would damage the file as well.

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import BinaryIO

from webhookd.core.settings import MIB

LOG_HEADER_BYTES = 32
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_MASK = 0xFFFF_FFFF
_CHECKED_BYTES = 256 * MIB

_Sums = tuple[int, int]


def damage_of(log: Path) -> str | None:
    """Say what is wrong with a log in a way that no loss of power explains, None if nothing is.

    Logs are cut at 64 MiB unless something keeps on reading; of a larger one the first 256 MiB are looked at.
    """
    with log.open("rb") as file:
        header = file.read(LOG_HEADER_BYTES)
        if len(header) < LOG_HEADER_BYTES:
            return None
        found = _look_through(file, header)
        file.seek(0)
        # A replicator may have had the log started again meanwhile; then it was read whole by SQLite just now.
        return found if file.read(LOG_HEADER_BYTES) == header else None


def _look_through(file: BinaryIO, header: bytes) -> str | None:
    magic, _, page_bytes, _, *salts, first, second = _HEADER.unpack(header)
    swapped = (magic & 1) != (sys.byteorder == "big")
    sums = (first, second)
    # It is synced before the first frame is written, so that a log with frames has a sound one.
    if magic & ~1 != _MAGIC or _summed(header[:24], (0, 0), swapped=swapped) != sums:
        return "the header of its log is not valid"
    number = spoiled = committed_page = 0
    while number * page_bytes < _CHECKED_BYTES and len(frame := file.read(_FRAME.size + page_bytes)) > _FRAME.size:
        number += 1
        page, pages_after, *frame_salts, first, second = _FRAME.unpack_from(frame)
        if frame_salts != salts:
            # What an earlier round through the file has left, or a frame spoiled in its head.
            spoiled, committed_page = spoiled or number, 0
            continue
        # Each frame's sums go on from those of the one before, so that frames written in one go are known as such also
        # behind a spoiled one, and what an earlier crash left there is not taken for a part of them.
        follows = _summed(frame[_FRAME.size :], _summed(frame[:8], sums, swapped=swapped), swapped=swapped)
        sums = (first, second)
        if follows != sums:
            spoiled = spoiled or number
        # SQLite may repeat the last frame of a commit, to fill a sector.
        elif spoiled and committed_page and not (pages_after and page == committed_page):
            return f"frame {spoiled} of its log is not valid, and more was written after a later commit"
        committed_page = page if pages_after else 0
    return None


def _summed(data: bytes, sums: _Sums, *, swapped: bool) -> _Sums:
    words = array("I", data[: len(data) // 8 * 8])
    if swapped:
        words.byteswap()
    one, two = sums
    pairs = iter(words)
    for word in pairs:
        one = (one + word + two) & _MASK
        two = (two + next(pairs) + one) & _MASK
    return one, two
