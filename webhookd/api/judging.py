"""What the head of a request says about it, and the heads of which that is known before they are read."""

from __future__ import annotations

from msgspec import Struct

from webhookd.api.auth import NOBODY, Gate, Grant, Tokens, require
from webhookd.api.decode import Plan, plan_events, takes_events
from webhookd.api.heads import Head, split_target
from webhookd.api.lobby import OTHER_BODY_BYTES, Lobby
from webhookd.core.settings import KIB, Ingest, Role

KNOWN_HEADS = 256
KNOWN_HEAD_BYTES = KIB
"""The longest head that is remembered; with the fields read from them, those of one listener take about 4 MiB."""

_LENGTH_DIGITS = 10
_END = b"\r\n\r\n"
_NAME_END = b"ength: "
_NAME = b"\r\ncontent-length: "
# One varies with every request, the other asks for an answer while the body is still to come.
_NOT_REMEMBERED = frozenset({b"idempotency-key", b"expect"})


class Judged(Struct):
    """A request as its head has it; `plan` says how to read the events where it hands some in."""

    method: bytes
    head: Head
    for_events: bool = False
    grant: Grant = NOBODY
    plan: Plan | None = None
    limit_bytes: int = 0


class Caller(Struct):
    """Who is at the other end of a connection, as far as it was asked: the last authorization and what it grants."""

    local_address: str | None = None
    tokens: Tokens | None = None
    authorization: bytes | None = None
    grant: Grant = NOBODY


_NOTHING = b"", b"", Judged(b"", Head(b"", {}, 0, 0))


class Judge:
    """Judges the heads that come in through one gate, and knows again those that a producer sends all the time.

    A head is known by its bytes, all but the digits of its Content-Length. What was judged by other tokens or settings
    than those in force is judged anew; nothing else that can change has a part in the judgement of what is remembered.
    """

    __slots__ = ("_gate", "_ingest", "_known", "_last", "_lobby", "_tokens")

    def __init__(self, lobby: Lobby, gate: Gate) -> None:
        self._lobby = lobby
        self._gate = gate
        self._known: dict[bytes, Judged] = {}
        self._last = _NOTHING
        """What stands before and after the digits of the head that was known last, and its judgement."""
        self._tokens: Tokens = gate.tokens
        self._ingest: Ingest = lobby.ingest

    def __len__(self) -> int:
        """Count the heads that are known."""
        return len(self._known)

    def judge(self, judged: Judged, caller: Caller) -> None:
        """Fill in what the head leads to. Raises what the request is to be refused with."""
        fields = judged.head.fields
        gate = self._gate
        path, query = split_target(judged.head)
        judged.for_events = judged.method == b"POST" and takes_events(path)
        gate.check_site(fields, caller.local_address)
        authorization = fields.get(b"authorization")
        if caller.tokens is not gate.tokens or caller.authorization != authorization:
            caller.grant = gate.grant(authorization)
            caller.tokens, caller.authorization = gate.tokens, authorization
        judged.grant = caller.grant
        if judged.for_events:
            require(judged.grant, Role.INGEST)
            judged.plan = plan_events(path, query, fields, self._lobby.ingest)
            judged.limit_bytes = judged.plan.limit_bytes
        else:
            judged.limit_bytes = OTHER_BODY_BYTES

    def find(self, data: bytes, at: int) -> tuple[Judged, int, int] | None:
        """Return how the head at `data[at]` is judged, where its body begins and how long that is; None if unknown."""
        if not self._is_in_force():
            return None
        before, after, judged = self._last
        digits_at = at + len(before)
        digits_end = data.find(b"\r", digits_at, digits_at + _LENGTH_DIGITS + 1)
        # Most often it is the one that came last.
        if not before or digits_end < 0 or not data.startswith(before, at) or not data.startswith(after, digits_end):
            digits_at = data.find(_NAME_END, at, at + KNOWN_HEAD_BYTES) + len(_NAME_END)
            digits_end = data.find(b"\r", digits_at, digits_at + _LENGTH_DIGITS + 1)
            end = data.find(_END, digits_end, at + KNOWN_HEAD_BYTES) + len(_END)
            if not at + len(_NAME_END) <= digits_at <= digits_end < end:
                return None
            before, after = data[at:digits_at], data[digits_end:end]
            known = self._known.get(before + after)
            if known is None:
                return None
            judged = known
            self._last = before, after, judged
        digits = data[digits_at:digits_end]
        if not digits.isdigit() or not 0 < (length := int(digits)) <= judged.limit_bytes:
            return None
        return judged, digits_end + len(after), length

    def remember(self, data: bytes, judged: Judged) -> None:
        """Know again the head that `data` begins with, and that was judged to be of a request that can be answered.

        It must leave no doubt about where it begins and ends, and where the digits of its length stand.
        """
        self._is_in_force()
        fields = judged.head.fields
        end_at, name_at = data.find(_END, 0, KNOWN_HEAD_BYTES), data.find(_NAME_END, 0, KNOWN_HEAD_BYTES)
        if name_at < 0 or end_at < name_at:
            return
        head, digits_at = data[: end_at + len(_END)], name_at + len(_NAME_END)
        if (
            head.startswith(b"\r")
            or not head[:digits_at].lower().endswith(_NAME)
            or not head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n")
            or not _NOT_REMEMBERED.isdisjoint(fields)
            or not self._gate.knows(fields.get(b"host", b""))
        ):
            return
        if len(self._known) >= KNOWN_HEADS:
            # Whoever sends another head each time fills it; all others are read once more.
            self._known.clear()
        self._known[head[:digits_at] + head[head.index(b"\r", digits_at) :]] = judged

    def _is_in_force(self) -> bool:
        """Say whether what is known was judged by the tokens and settings of this moment; if not, forget it.

        What was judged by a token that has been revoked is not even kept: heads hold tokens as they were sent.
        """
        if self._tokens is self._gate.tokens and self._ingest is self._lobby.ingest:
            return True
        self._tokens, self._ingest = self._gate.tokens, self._lobby.ingest
        self._known.clear()
        self._last = _NOTHING
        return False
