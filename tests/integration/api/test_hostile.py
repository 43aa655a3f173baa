"""Requests that no honest client sends: each gets its 4xx and is hung up on, and the next connection works."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.kit.fakes_api import Answer, Patience, request
from webhookd.api.lobby import SLOW_SECONDS

EVENT = request("POST", "/v1/events", b'{"type":"a","payload":1}')
START = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"

MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "http 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http 0.9": b"GET /v1/status\r\n\r\n",
    "http 1.2": b"GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "http 2 version": b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "bare line feeds": EVENT.replace(b"\r\n", b"\n"),
    "one bare line feed": EVENT.replace(b"\r\n\r\n", b"\r\nX-A: b\nX-C: d\r\n\r\n"),
    "bare carriage return": EVENT.replace(b"\r\n\r\n", b"\r\nX-A: b\rX-C: d\r\n\r\n"),
    "folded header": EVENT.replace(b"\r\n\r\n", b"\r\nX-A: b\r\n c\r\n\r\n"),
    "space before colon": EVENT.replace(b"\r\n\r\n", b"\r\nX-A : b\r\n\r\n"),
    "nul in header": EVENT.replace(b"\r\n\r\n", b"\r\nX-A: a\x00b\r\n\r\n"),
    "empty header name": EVENT.replace(b"\r\n\r\n", b"\r\n: b\r\n\r\n"),
    "no host": EVENT.replace(b"host: localhost\r\n", b""),
    "two hosts": EVENT.replace(b"host: localhost\r\n", b"Host: localhost\r\nhost: localhost\r\n"),
    "bad host": EVENT.replace(b"host: localhost\r\n", b"Host: local host\r\n"),
    "length and chunks": START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": START + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two different lengths": START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length list": START + b"Content-Length: 2, 2\r\n\r\n{}",
    "signed length": START + b"Content-Length: +2\r\n\r\n{}",
    "negative length": START + b"Content-Length: -2\r\n\r\n{}",
    "hexadecimal length": START + b"Content-Length: 0x2\r\n\r\n{}",
    "endless length": START + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "gzip transfer coding": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown transfer coding": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": START + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks in http 1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "bad chunk size": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "signed chunk size": CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n",
    "endless chunk size": CHUNKED + b"fffffffffffffffff\r\nabc",
    "chunk longer than said": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "chunk with bare line feed": CHUNKED + b"3\nabc\n0\n\n",
    "long header line": START + b"X-A: " + b"a" * 9000 + b"\r\n\r\n",
    "long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "too many headers": START + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n",
    "too much head": START + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 4000) for n in range(20)) + b"\r\n",
    "the same header too often": START + b"X: a\r\n" * 101 + b"\r\n",
    "two keys": START + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n",
    "two tokens": START + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 0\r\n\r\n",
    "two content types": START + b"Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    "connect": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "foreign scheme": b"GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no path": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes above ascii in the target": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "control bytes in the target": b"GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown method": b"NONSENSE /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def is_problem(answer: Answer, sent: bytes = b"") -> bool:
    document = orjson.loads(answer.body)
    echoed = [word for word in sent.split() if len(word) > 30 and word in answer.body]
    return (
        answer.headers["content-type"] == "application/problem+json"
        and document["type"].startswith("urn:webhookd:problem:")
        and document["status"] == answer.status
        and not echoed
        and b"Traceback" not in answer.body
        and b"<" not in answer.body
    )


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_is_400_and_the_end_of_its_connection(client, house, name):
    wire = await client.wire()
    answer = await wire.ask(MALFORMED[name])
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert is_problem(answer, MALFORMED[name])
    wire.finish()
    assert await wire.end() == b""
    assert (await client.ask(EVENT)).status == 202
    assert len(house.acceptor.drafts) == 1


@pytest.mark.parametrize("name", ["garbage", "no host", "two lengths", "bad chunk size", "too many headers"])
async def test_it_is_the_same_behind_requests_of_either_kind(client, name):
    for before in (EVENT, request("GET", "/healthz")):
        wire = await client.wire()
        await wire.send(before + MALFORMED[name])
        assert (await wire.answer()).status in {200, 202}
        assert (await wire.answer()).status == 400
        wire.finish()
        assert await wire.end() == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "x"])
@pytest.mark.parametrize("target", ["/v1/events", "/v1/events/a", "/v1/endpoints"])
async def test_encoded_bodies_are_415(client, coding, target):
    answer = await client.ask(request("POST", target, b"\x1f\x8b" * 20, content_encoding=coding))
    assert answer.status == 415
    assert is_problem(answer)


async def test_the_identity_encoding_is_none(client):
    assert (await client.ask(EVENT.replace(b"\r\n\r\n", b"\r\nContent-Encoding: Identity\r\n\r\n"))).status == 202


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_methods_that_are_not_there_are_405(client, method):
    answer = await client.ask(request(method, "/v1/events"))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert is_problem(answer)


@pytest.mark.parametrize(
    "target", ["/", "/v1", "/v1/", "/v1/events/", "/v1/events/a/b", "/%2e%2e/etc/passwd", "//", "/?x", "/v1/<script>"]
)
async def test_paths_that_are_not_there_are_404(client, target):
    answer = await client.ask(request("GET", target))
    assert answer.status == 404
    assert is_problem(answer, target.encode())


async def test_the_answer_to_head_has_no_body(client):
    wire = await client.wire()
    for target, headers, status in (
        ("/healthz", {}, 200),
        ("/v1/none", {}, 404),
        ("/healthz", {"authorization": "Bearer x"}, 401),
    ):
        await wire.send(request("HEAD", target, **headers))
        assert (await wire.answer(head_only=True)).status == status
    assert (await wire.ask(EVENT)).status == 202


async def test_a_body_shorter_than_announced_is_400(client, house):
    wire = await client.wire()
    await wire.send(EVENT[:-1])
    wire.finish()
    assert (await wire.answer()).status == 400
    assert await wire.end() == b""
    assert house.acceptor.drafts == []


async def test_lines_that_never_end_are_cut_off(client):
    for start in (b"GET /", START + b"X-A: ", CHUNKED + b"1\r\na\r\n0\r\nTrailer: ", CHUNKED + b"1;x="):
        wire = await client.wire()
        answer = await wire.ask(start + b"a" * 300_000)
        assert answer.status == 400
        wire.finish()
        await wire.end()


async def test_a_trickle_of_chunk_overhead_is_cut_off(client):
    wire = await client.wire()
    await wire.send(CHUNKED + b"1;")
    for _ in range(80):
        await wire.send(b"x" * 1000)
        await asyncio.sleep(0)
    assert (await wire.answer()).status == 400


# Time.

QUICK = Patience(
    head_seconds=0.1, body_seconds=0.1, idle_seconds=0.15, write_seconds=0.1, linger_seconds=0.1, tick_seconds=0.01
)


@pytest.mark.parametrize("start", [b"P", b"POST /v1/events HT", EVENT[:30], CHUNKED, CHUNKED + b"5\r\nab", EVENT[:-1]])
async def test_a_request_that_does_not_get_on_is_408(client, start):
    await client.serve(patience=QUICK)
    wire = await client.wire()
    assert (await wire.ask(start)).status == 408
    assert await wire.end() == b""


async def test_a_head_in_drops_is_408_in_the_end(client):
    await client.serve(patience=QUICK)
    wire = await client.wire()
    answered = asyncio.get_running_loop().create_task(wire.answer())
    await wire.send(START)
    for number in range(90):
        await wire.send(b"X-%d: a\r\n" % number)
        await asyncio.sleep(0.01)
        if answered.done():
            break
    assert (await answered).status == 408


async def test_who_says_nothing_is_hung_up_on(client):
    await client.serve(patience=QUICK)
    assert await (await client.wire()).end() == b""
    wire = await client.wire()
    assert (await wire.ask(EVENT)).status == 202
    assert await wire.end() == b""
    wire = await client.wire()
    assert (await wire.ask(request("GET", "/healthz"))).status == 200
    assert await wire.end() == b""


async def test_blank_lines_are_not_a_request(client):
    await client.serve(patience=QUICK)
    wire = await client.wire()
    for _ in range(30):
        await wire.send(b"\r\n")
        await asyncio.sleep(0.01)
    assert await wire.end() == b""


async def test_waiting_for_the_disk_is_not_idleness(client, house):
    await client.serve(patience=QUICK)
    house.acceptor.hold()
    wire = await client.wire()
    await wire.send(EVENT)
    await asyncio.sleep(0.25)
    house.acceptor.release()
    assert (await wire.answer()).status == 202


async def test_who_never_hangs_up_after_a_refusal_is_cut_off(client):
    await client.serve(patience=QUICK)
    wire = await client.wire()
    assert (await wire.ask(MALFORMED["garbage"])).status == 400
    assert await wire.end() == b""
    await asyncio.sleep(0.2)
    assert client.house.api.connections == 0


async def test_who_never_reads_is_cut_off(client, house):
    await client.serve(patience=QUICK)
    house.directory.add("orders", url="https://example.com/", description="x" * 500_000)
    wire = await client.wire()
    await wire.send(request("GET", "/v1/endpoints/orders") * 20)
    await asyncio.sleep(0.3)
    assert house.api.connections == 0


async def test_a_stalled_loop_does_not_count_against_who_sent_in_time(client):
    await client.serve(patience=QUICK)
    wire = await client.wire()
    await wire.send(EVENT[:-1])
    await asyncio.sleep(0.02)
    import time

    time.sleep(0.3)
    await asyncio.sleep(0.02)
    assert (await wire.ask(EVENT[-1:])).status == 202


# Number.


async def test_the_longest_idle_connection_makes_room(client):
    await client.serve(patience=Patience(connections=3, tick_seconds=0.01))
    wires = []
    for _ in range(3):
        wires.append(await client.wire())
        assert (await wires[-1].ask(EVENT)).status == 202
        await asyncio.sleep(0.03)
    assert (await wires[0].ask(EVENT)).status == 202
    await asyncio.sleep(0.03)
    fourth = await client.wire()
    assert (await fourth.ask(EVENT)).status == 202
    assert await wires[1].end() == b""
    assert [(await wire.ask(EVENT)).status for wire in (wires[0], wires[2], fourth)] == [202, 202, 202]


async def test_where_nobody_is_idle_the_newcomer_is_503(client, house):
    await client.serve(patience=Patience(connections=2))
    house.acceptor.hold()
    busy = [await client.wire() for _ in range(2)]
    for wire in busy:
        await wire.send(EVENT)
    await house.acceptor.until_held(2)
    wire = await client.wire()
    answer = await wire.answer()
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert is_problem(answer)
    assert "retry-after" in answer.headers
    house.acceptor.release()
    assert (await busy[0].answer()).status == 202


async def test_who_has_been_idle_makes_room_before_who_is_slow_to_send(client):
    await client.serve(patience=Patience(connections=2, tick_seconds=0.01))
    slow, idle = [await client.wire() for _ in range(2)]
    await slow.send(EVENT[:-1])
    assert (await idle.ask(EVENT)).status == 202
    await asyncio.sleep(SLOW_SECONDS + 0.1)
    newcomer = await client.wire()
    assert (await newcomer.ask(EVENT)).status == 202
    assert await idle.end() == b""
    await slow.send(EVENT[-1:])
    assert (await slow.answer()).status == 202


async def test_who_is_slow_to_send_makes_room_before_who_has_just_come(client):
    await client.serve(patience=Patience(connections=3, tick_seconds=0.01))
    slow = [await client.wire() for _ in range(2)]
    await slow[0].send(START)
    await asyncio.sleep(0.05)
    await slow[1].send(EVENT[:-1])
    await asyncio.sleep(SLOW_SECONDS + 0.1)
    idle = await client.wire()
    assert (await idle.ask(EVENT)).status == 202
    newcomers = []
    for wire in slow:
        newcomers.append(await client.wire())
        assert (await newcomers[-1].ask(EVENT)).status == 202
        assert await wire.end() == b""
    assert (await idle.ask(EVENT)).status == 202


async def test_those_who_were_refused_do_not_make_the_limit_grow(client, house):
    await client.serve(patience=Patience(connections=2))
    house.acceptor.hold()
    busy = [await client.wire() for _ in range(2)]
    for wire in busy:
        await wire.send(EVENT)
    await house.acceptor.until_held(2)
    for _ in range(10):
        wire = await client.wire()
        assert (await wire.ask(EVENT)).status == 503
        assert house.api.connections <= 3
    assert len(house.acceptor.held) == 2
    for _ in busy:
        house.acceptor.release()
    for wire in busy:
        assert (await wire.answer()).status == 202


async def test_a_client_cannot_pile_up_requests_without_bound(client, house):
    wire = await client.wire()
    house.acceptor.hold()
    sending = asyncio.get_running_loop().create_task(wire.send(EVENT * 50_000))
    await asyncio.sleep(0.2)
    assert 64 <= len(house.acceptor.held) < 5000
    sending.cancel()
