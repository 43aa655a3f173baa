"""The real daemon under requests that no honest client sends: each gets its refusal, and the next client is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.kit import daemon as kit
from tests.kit.daemon import Daemon, running_daemon
from tests.kit.hostile_requests import BODIES, CHUNKED, EVENT, FRAMING, HEADS, MALFORMED, MARK, TABLE, post, raw
from tests.kit.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The daemon that all rows are put to, and the one who receives what it accepts."""

    daemon: Daemon
    receiver: Receiver

    async def talk(self, data: bytes, *, finish: bool = True, timeout_seconds: float = 15.0) -> list[Answer]:
        """Send `data`, say that there is no more, and return the answers up to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.daemon.port)
        received = b""
        # A daemon that has heard enough may end the connection while we still write.
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            if finish:
                writer.write_eof()
            async with asyncio.timeout(timeout_seconds):
                while piece := await reader.read(65536):
                    received += piece
        writer.close()
        return answers_in(received)

    async def events(self, kind: str) -> list[dict[str, object]]:
        """Return the newest events of one type."""
        found: list[dict[str, object]] = (await self.daemon.get(f"/v1/events?type={kind}&limit=500")).json()["data"]
        return found

    def log_since(self, size: int) -> str:
        """Return what was logged after the first `size` characters."""
        return self.daemon.log[size:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response out of several on a connection."""

    status: int
    head: bytes
    body: bytes

    @property
    def problem(self) -> str:
        """The name of the problem, empty where the answer is none."""
        if b"application/problem+json" not in self.head:
            return ""
        document = json.loads(self.body)
        assert document["status"] == self.status
        return str(document["type"]).removeprefix("urn:webhookd:problem:")


def answers_in(received: bytes) -> list[Answer]:
    """Take a connection apart; what is no sequence of whole responses fails here."""
    found: list[Answer] = []
    while received:
        head, separator, rest = received.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert match is not None, received[:200]
        assert separator, received[:200]
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else 0
        assert len(rest) >= size, received[:200]
        found.append(Answer(status=int(match[1]), head=head, body=rest[:size]))
        received = rest[size:]
    return found


GOOD = post(b'{"type":"good","payload":{"n":1}}', b"Connection: close")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    async with Receiver() as receiver, running_daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        endpoint = {"id": "sink", "url": receiver.url, "types": ["kept.*"]}
        assert (await daemon.post("/v1/endpoints", endpoint)).status == 201
        yield Target(daemon=daemon, receiver=receiver)
        assert await daemon.terminate() == 0


@pytest.fixture
def target(shared: Target) -> Target:
    # The list is emptied after each test, and this daemon outlives them.
    kit.RECENT.append(shared.daemon)
    return shared


@pytest.mark.parametrize("name", TABLE)
async def test_a_hostile_request_is_refused_and_leaves_nothing_behind(target: Target, name: str) -> None:
    data, wanted = TABLE[name]
    logged = len(target.daemon.log)
    answers = await target.talk(data)
    assert (answers[-1].status, answers[-1].problem) == wanted
    assert all(answer.status < 500 for answer in answers)
    assert MARK not in b"".join(answer.head + answer.body for answer in answers)
    assert [answer.status for answer in await target.talk(GOOD)] == [202]
    assert await target.events("bad") == []
    log = target.log_since(logged)
    assert "request.failed" not in log
    assert "Traceback" not in log
    assert MARK.decode() not in log


# What is missing from a body that was cut off is taken from what comes next, as it must be.
READ_ON = {"body shorter than said"}
UNREADABLE = [name for name, (_, wanted) in (FRAMING | HEADS).items() if wanted == MALFORMED and name not in READ_ON]


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_ends_the_connection_and_nothing_behind_it_is_done(target: Target, name: str) -> None:
    data, _ = TABLE[name]
    behind = post(b'{"type":"smuggled","payload":1}')
    before = post(b'{"type":"good","payload":1}')
    answers = await target.talk(before + data + behind * 3)
    assert [answer.status for answer in answers if answer.status != 200] == [202, 400]
    assert b"connection: close" in answers[-1].head.lower()
    assert await target.events("smuggled") == []


async def test_a_refusal_whose_end_is_known_keeps_the_connection(target: Target) -> None:
    bad = [BODIES["array"][0], BODIES["nan"][0], HEADS["rebound name"][0], HEADS["no such path"][0]]
    answers = await target.talk(b"".join(data + GOOD.replace(b"Connection: close\r\n", b"") for data in bad))
    assert [answer.status for answer in answers] == [422, 202, 400, 202, 403, 202, 404, 202]


async def test_nothing_behind_the_last_request_is_done(target: Target) -> None:
    smuggled = post(b'{"type":"smuggled","payload":1}')
    for last in (GOOD, GOOD.replace(b"Connection: close\r\n", b"").replace(b"/1.1", b"/1.0")):
        assert [answer.status for answer in await target.talk(last + smuggled * 3)] == [202]
    assert await target.events("smuggled") == []


async def test_an_upgrade_is_declined_by_going_on_without_it(target: Target) -> None:
    wanted = post(b'{"type":"good","payload":1}', b"Connection: upgrade, http2-settings", b"Upgrade: h2c")
    assert [answer.status for answer in await target.talk(wanted * 3 + GOOD)] == [202, 202, 202, 202]


async def test_who_expects_to_be_told_to_go_on_is_told_so_once(target: Target) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.daemon.port)
    head, separator, body = post(b'{"type":"good","payload":1}', b"Expect: 100-continue").partition(b"\r\n\r\n")
    async with asyncio.timeout(15):
        writer.write(head + separator)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
    writer.close()


async def test_who_would_be_refused_is_not_told_to_go_on(target: Target) -> None:
    for field in (b"Host: rebound.example", b"Content-Encoding: gzip", b"Content-Length: 99999999"):
        name = field.partition(b":")[0]
        kept = [line for line in post(EVENT, b"Expect: 100-continue").split(b"\r\n") if not line.startswith(name)]
        data = b"\r\n".join([kept[0], field, *kept[1:]])
        (answer,) = await target.talk(data[: -len(EVENT)], finish=False)
        assert answer.status in {403, 413, 415}


async def test_trailers_mean_nothing(target: Target) -> None:
    trailers = (
        b"Authorization: Bearer x\r\nHost: evil.example\r\nIdempotency-Key: k\r\nContent-Type: text/plain\r\n\r\n"
    )
    event = b'{"type":"good","payload":1}'
    data = CHUNKED + b"%x\r\n%b\r\n0\r\n" % (len(event), event) + trailers
    (first, second) = await target.talk(data * 2)
    assert (first.status, second.status) == (202, 202)
    assert json.loads(first.body)["id"] != json.loads(second.body)["id"]


VERBATIM = {
    "keys twice": b'{"a":1,"a":2,"type":"x","payload":[]}',
    "two to the 63": b"[9223372036854775808,-9223372036854775809,18446744073709551616]",
    "5,000 digits": b"9" * 5000,
    "5,000 digits behind the point": b"0." + b"1" * 5000,
    "1e999": b"[1e999,-1e999,1E-999]",
    "lone surrogates as escapes": b'["\\ud800","\\udfff\\ud800","\\uD83D"]',
    "nul as an escape": b'"\\u0000"',
    "spaces": b" \t[ 1 ,\r\n2 ] ",
    "deep but not too deep": b"[" * 500 + b"]" * 500,
    "beyond the basic plane": '"\U0010ffff\U0001f4a9"'.encode(),
    "odd key": b'{"":1,"\\"payload\\":":2}',
    "as large as may be": b'"' + b"a" * 262_142 + b'"',
}


@pytest.mark.parametrize("name", VERBATIM)
async def test_what_is_json_comes_through_byte_for_byte(target: Target, name: str) -> None:
    payload = VERBATIM[name]
    for data in (
        post(b'{"type":"kept.json","payload":' + payload + b"}", b"Connection: close"),
        raw(payload, path=b"/v1/events/kept.raw").replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
    ):
        seen = target.receiver.count
        (answer,) = await target.talk(data)
        assert answer.status == 202, answer.body
        request = (await target.receiver.wait_for(seen + 1))[-1]
        wrapped = b'"payload":' in data.partition(b"\r\n\r\n")[2][:40]
        assert request.body == (payload.strip(b" \t") if wrapped else payload)


async def test_keys_of_255_visible_characters_are_keys(target: Target) -> None:
    key = bytes(range(0x21, 0x7F)) * 3
    # A backslash and quotes are characters like any other within a key that stands bare in the header.
    data = post(b'{"type":"good","payload":1}', b"Idempotency-Key: " + key[:255], b"Connection: close")
    first, second = [(await target.talk(data))[0] for _ in range(2)]
    assert (first.status, second.status) == (202, 200)
    assert json.loads(first.body)["id"] == json.loads(second.body)["id"]
    (other,) = await target.talk(data.replace(b'"payload":1', b'"payload":2'))
    assert (other.status, other.problem) == (409, "idempotency_conflict")
