"""Announces attempts, once they are on disk, to whoever follows the daemon live."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from fnmatch import fnmatchcase

from webhookd.core.attempt import AttemptNotice
from webhookd.core.services import Heard, NoticeFilter
from webhookd.engine.recorder import Record

MOST_FOLLOWERS = 64
MOST_BUFFERED = 1024
"""Notices that wait for one follower: two of the recorder's largest batches."""

MOST_BUFFERED_BYTES = 1 << 20
_NOTICE_BYTES = 512
_MOST_AT_ONCE = 64


class AttemptHub:
    """Fills the AttemptFeed port; without followers it costs nothing.

    A follower that does not keep up loses what finds no room, and is told how many; nobody ever waits for it.
    """

    def __init__(self) -> None:
        self._followers: dict[HubFollower, None] = {}
        self._has_ended = False

    def __repr__(self) -> str:
        return f"<AttemptHub {len(self._followers)} followers>"

    def follow(self, which: NoticeFilter) -> HubFollower | None:
        """See AttemptFeed."""
        if len(self._followers) >= MOST_FOLLOWERS:
            return None
        follower = HubFollower(self, which)
        if self._has_ended:
            follower.leave()
        else:
            self._followers[follower] = None
        return follower

    def end(self) -> None:
        """See AttemptFeed."""
        self._has_ended = True
        for follower in list(self._followers):
            follower.leave()

    def forget(self, follower: HubFollower) -> None:
        """Tell a follower nothing more; harmless when repeated."""
        self._followers.pop(follower, None)

    def publish(self, records: Iterable[Record]) -> None:
        """Announce attempts that have just been committed."""
        if not self._followers:
            return
        for record in records:
            settlement, source = record.settlement, record.source
            notice = AttemptNotice(
                attempt=settlement.attempt,
                event_id=source.event_id,
                event_type=source.event_type,
                tenant=source.tenant,
                endpoint_id=record.station.live.record.id,
                state=settlement.state,
                next_attempt_ms=settlement.due_at_ms,
            )
            for follower in self._followers:
                follower.offer(notice)


class HubFollower:
    """One who listens."""

    def __init__(self, hub: AttemptHub, which: NoticeFilter) -> None:
        self._hub = hub
        self._which = which
        self._waiting: deque[AttemptNotice] = deque()
        self._bytes = 0
        self._dropped = 0
        self._has_left = False
        self._arrived = asyncio.Event()

    def offer(self, notice: AttemptNotice) -> None:
        """Take in a notice that is asked for, or count it as lost."""
        which = self._which
        if (
            (which.endpoint_id is not None and which.endpoint_id != notice.endpoint_id)
            or (which.tenant is not None and which.tenant != notice.tenant)
            or (which.type is not None and not fnmatchcase(notice.event_type, which.type))
        ):
            return
        size_bytes = _size_bytes(notice)
        # Once something is lost, nothing more goes in before that is told: so it stands where it was lost.
        if self._dropped or len(self._waiting) >= MOST_BUFFERED or self._bytes + size_bytes > MOST_BUFFERED_BYTES:
            self._dropped += 1
        else:
            self._waiting.append(notice)
            self._bytes += size_bytes
        self._arrived.set()

    async def hear(self) -> Heard | None:
        """See Follower."""
        while not self._waiting and not self._dropped and not self._has_left:
            self._arrived.clear()
            await self._arrived.wait()
        notices = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
        self._bytes -= sum(map(_size_bytes, notices))
        dropped = 0
        if not self._waiting:
            dropped, self._dropped = self._dropped, 0
        return Heard(notices, dropped) if notices or dropped else None

    def leave(self) -> None:
        """See Follower."""
        self._hub.forget(self)
        self._has_left = True
        self._arrived.set()


def _size_bytes(notice: AttemptNotice) -> int:
    return len(notice.attempt.outcome.excerpt) + _NOTICE_BYTES
