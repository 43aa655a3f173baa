"""Requests that no honest client sends, each with the refusal it has to get."""

from __future__ import annotations

import gzip

MARK = b"sesame7c1e"
"""Stands in what is sent and must come back in no answer and no line of the log."""
EVENT = b'{"type":"bad","payload":{"n":"%b"}}' % MARK
POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(EVENT)
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
TLS_HELLO = bytes.fromhex("16030100a5010000a10303") + MARK * 16
MALFORMED = (400, "malformed_request")
INVALID = (422, "invalid_event")

Verdict = tuple[int, str] | None
"""Status and problem of the last answer; None for a connection that is closed without one."""


def post(body: bytes = EVENT, *fields: bytes) -> bytes:
    return POST + b"".join(field + b"\r\n" for field in fields) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(target: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (target, lines)


def raw(body: bytes, *, kind: bytes = b"application/json", path: bytes = b"/v1/events/bad") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (path, kind, len(body)) + body


FRAMING: dict[str, tuple[bytes, Verdict]] = {
    "length and chunks": (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, MALFORMED),
    "chunks and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + CHUNKS, MALFORMED),
    "two equal lengths": (POST + LENGTH[:-2] + LENGTH + EVENT, MALFORMED),
    "two different lengths": (POST + b"Content-Length: 1\r\n" + LENGTH + EVENT, MALFORMED),
    "list of equal lengths": (POST + b"Content-Length: 2, 2\r\n\r\n{}", MALFORMED),
    "length with space inside": (POST + b"Content-Length: 1 2\r\n\r\n" + EVENT, MALFORMED),
    "length with underscore": (POST + b"Content-Length: 1_0\r\n\r\n" + EVENT, MALFORMED),
    "length in hexadecimal": (POST + b"Content-Length: 0x2\r\n\r\n{}", MALFORMED),
    "signed length": (POST + b"Content-Length: +2\r\n\r\n{}", MALFORMED),
    "negative length": (POST + b"Content-Length: -2\r\n\r\n{}", MALFORMED),
    "empty length": (POST + b"Content-Length:\r\n\r\n" + EVENT, MALFORMED),
    "length above 64 bits": (POST + b"Content-Length: 18446744073709551617\r\n\r\n{}", MALFORMED),
    "length of 5,000 zeros": (POST + b"Content-Length: %b\r\n\r\n" % (b"0" * 5000), MALFORMED),
    "length behind 5,000 zeros": (POST + b"Content-Length: %b2\r\n\r\n{}" % (b"0" * 5000), MALFORMED),
    "chunked then identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS, MALFORMED),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKS, MALFORMED),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, MALFORMED),
    "chunked in quotes": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS, MALFORMED),
    "chunked with a comma": (POST + b"Transfer-Encoding: chunked,\r\n\r\n" + CHUNKS, MALFORMED),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, MALFORMED),
    "chunked and gzip": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, MALFORMED),
    "empty transfer coding": (POST + b"Transfer-Encoding:\r\n\r\n" + CHUNKS, MALFORMED),
    "chunked behind a vertical tab": (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNKS, MALFORMED),
    "chunked behind a tab at its end": (POST + b"Transfer-Encoding: chunked\t\r\n\r\n" + CHUNKS, MALFORMED),
    "space before the colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, MALFORMED),
    "folded transfer coding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS, MALFORMED),
    "folded header": (POST + b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, MALFORMED),
    "folded first header": (POST.replace(b"Host", b" Host") + b"\r\n", MALFORMED),
    "chunks in http 1.0": (CHUNKED.replace(b"/1.1", b"/1.0") + CHUNKS, MALFORMED),
    "chunks in http 1.0 with upgrade": (
        POST.replace(b"/1.1", b"/1.0")
        + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKS,
        MALFORMED,
    ),
    "negative chunk": (CHUNKED + b"-1\r\n" + EVENT, MALFORMED),
    "signed chunk": (CHUNKED + b"+" + CHUNKS, MALFORMED),
    "prefixed chunk": (CHUNKED + b"0x" + CHUNKS, MALFORMED),
    "space before the chunk size": (CHUNKED + b" " + CHUNKS, MALFORMED),
    "space behind the chunk size": (CHUNKED + CHUNKS.replace(b"\r\n{", b" \r\n{"), MALFORMED),
    "empty chunk size": (CHUNKED + b"\r\n" + CHUNKS, MALFORMED),
    "chunk size over 64 bits": (CHUNKED + b"1" + b"0" * 16 + b"\r\n" + EVENT, MALFORMED),
    "chunk longer than said": (CHUNKED + b"2\r\n" + EVENT + b"\r\n0\r\n\r\n", MALFORMED),
    "chunk without its line end": (CHUNKED + CHUNKS.replace(b"}\r\n", b"}"), MALFORMED),
    "chunk size ended by a line feed": (CHUNKED + CHUNKS.replace(b"\r\n{", b"\n{"), MALFORMED),
    "last chunk ended by line feeds": (CHUNKED + CHUNKS[:-4] + b"\n\n", MALFORMED),
    "line feed in a chunk extension": (CHUNKED + CHUNKS.replace(b"\r\n{", b";a\nb\r\n{"), MALFORMED),
    "endless chunk extension": (CHUNKED + b"1;" + MARK * 20_000, MALFORMED),
    "endless trailer": (CHUNKED + CHUNKS[:-2] + b"X: " + MARK * 20_000, MALFORMED),
    "trailer with a length": (CHUNKED + CHUNKS[:-2] + b"Content-Length: 3\r\n\r\n", MALFORMED),
    "trailer with a coding": (CHUNKED + CHUNKS[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", MALFORMED),
    "body shorter than said": (post()[:-1], MALFORMED),
    "chunks that stop": (CHUNKED + CHUNKS[:-2], MALFORMED),
}

HEADS: dict[str, tuple[bytes, Verdict]] = {
    "line feeds only": (post().replace(b"\r\n", b"\n"), MALFORMED),
    "one line feed only": (post(EVENT, b"X-A: b\nX-B: c"), MALFORMED),
    "bare carriage return": (post(EVENT, b"X-A: b\rX-B: c"), MALFORMED),
    "nul in a value": (post(EVENT, b"X-A: \x00" + MARK), MALFORMED),
    "nul in a name": (post(EVENT, b"X\x00A: b"), MALFORMED),
    "escape in a value": (post(EVENT, b"X-A: \x1b[31m"), MALFORMED),
    "delete in a value": (post(EVENT, b"X-A: \x7f"), MALFORMED),
    "no name": (post(EVENT, b": b"), MALFORMED),
    "no colon": (post(EVENT, MARK), MALFORMED),
    "101 headers": (post(EVENT, *[b"X-%d: a" % n for n in range(101)]), MALFORMED),
    "101 headers of one name": (post(EVENT, *[b"X: a"] * 101), MALFORMED),
    "long value": (post(EVENT, b"X-A: " + MARK * 820), MALFORMED),
    "long name": (post(EVENT, MARK * 820 + b": a"), MALFORMED),
    "long target": (get(b"/" + MARK * 820), MALFORMED),
    "much altogether": (post(EVENT, *[b"X-%d: %b" % (n, MARK * 400) for n in range(10)]), MALFORMED),
    "long value with upgrade": (
        get(b"/v1/status", b"Connection: upgrade", b"Upgrade: x", *[b"X: %b" % (MARK * 30)] * 90),
        MALFORMED,
    ),
    "no host": (post().replace(b"Host: localhost\r\n", b""), MALFORMED),
    "two hosts": (post(EVENT, b"Host: localhost"), MALFORMED),
    "host with a space": (post().replace(b"localhost", b"local host"), MALFORMED),
    "host with a path": (post().replace(b"localhost", b"localhost/" + MARK), MALFORMED),
    "host with a user": (post().replace(b"localhost", MARK + b"@localhost"), MALFORMED),
    "host with an endless port": (post().replace(b"localhost", b"localhost:" + b"9" * 400), MALFORMED),
    "bad host with upgrade": (
        post(EVENT, b"Connection: upgrade", b"Upgrade: h2c").replace(b"localhost", b"a b"),
        MALFORMED,
    ),
    "authority as target": (get(b"localhost:80"), MALFORMED),
    "connect": (get(b"x").replace(b"GET x", b"CONNECT localhost:80"), MALFORMED),
    "connect behind an upgrade": (
        get(b"/healthz", b"Connection: upgrade", b"Upgrade: x") + b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        MALFORMED,
    ),
    "asterisk": (get(b"*").replace(b"GET", b"OPTIONS"), MALFORMED),
    "foreign scheme": (get(b"ftp://localhost/" + MARK), MALFORMED),
    "url with a user": (get(b"http://%b@localhost/v1/status" % MARK), MALFORMED),
    "url without a path": (get(b"http://localhost"), MALFORMED),
    "url of elsewhere": (get(b"http://%b.example/v1/status" % MARK), (403, "host_refused")),
    "fragment": (get(b"/v1/status#" + MARK), MALFORMED),
    "fragment behind events": (post().replace(b"/events ", b"/events#a "), MALFORMED),
    "high bytes in the target": (get(b"/\xff" + MARK), MALFORMED),
    "control bytes in the target": (get(b"/\x1b" + MARK), MALFORMED),
    "no such path": (get(b"/" + MARK), (404, "not_found")),
    "percent-encoded path": (post().replace(b"/events ", b"/%65vents "), (405, "method_not_allowed")),
    "dots": (get(b"/v1/../../etc/passwd"), (404, "not_found")),
    "query of nul": (get(b"/v1/events?cursor=%00%ff"), (422, "invalid_query")),
    "http 0.9": (b"GET /v1/status\r\n\r\n", MALFORMED),
    "http 1.2": (post().replace(b"/1.1", b"/1.2"), MALFORMED),
    "http 2 by name": (post().replace(b"/1.1", b"/2.0"), MALFORMED),
    "http in small letters": (post().replace(b"HTTP/", b"http/"), MALFORMED),
    "http 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK, MALFORMED),
    "tls hello": (TLS_HELLO, MALFORMED),
    "garbage": (b"\x00\xff" + MARK + b"\r\n\r\n", MALFORMED),
    "unknown method": (post().replace(b"POST", b"NONSENSE"), MALFORMED),
    "tab behind the method": (post().replace(b"POST ", b"POST\t"), MALFORMED),
    "space before the method": (b" " + post(), MALFORMED),
    "unknown expectation": (post(EVENT, b"Expect: 200-ok"), (417, "expectation_failed")),
    "unknown expectation with upgrade": (
        post(EVENT, b"Connection: upgrade", b"Upgrade: x", b"Expect: 200-ok"),
        (417, "expectation_failed"),
    ),
    "large body with upgrade": (
        POST + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 99999999\r\n\r\n",
        (413, "body_too_large"),
    ),
    "two tokens": (post(EVENT, b"Authorization: Bearer a", b"Authorization: Bearer b"), MALFORMED),
    "two keys": (post(EVENT, b"Idempotency-Key: a", b"Idempotency-Key: b"), MALFORMED),
    "wrong token": (post(EVENT, b"Authorization: Bearer " + MARK), (401, "unauthorized")),
    "rebound name": (post().replace(b"localhost", b"rebound.example"), (403, "host_refused")),
    "page of another site": (post(EVENT, b"Origin: https://evil.example"), (403, "origin_refused")),
    "page without an origin": (post(EVENT, b"Origin: null"), (403, "origin_refused")),
    "page of another port": (
        post(EVENT, b"Origin: http://localhost:3000"),
        (403, "origin_refused"),
    ),
    "fetched across sites": (post(EVENT, b"Sec-Fetch-Site: cross-site"), (403, "origin_refused")),
    "fetched within a site": (post(EVENT, b"Sec-Fetch-Site: same-site"), (403, "origin_refused")),
    "preflight": (
        get(b"/v1/events", b"Origin: https://evil.example", b"Access-Control-Request-Method: POST").replace(
            b"GET", b"OPTIONS"
        ),
        (403, "origin_refused"),
    ),
    "form of a page": (
        post().replace(b"application/json", b"text/plain"),
        (415, "unsupported_media_type"),
    ),
}

BOMB = gzip.compress(b'{"type":"bad","payload":"' + b"a" * 5_000_000 + b'"}')

BODIES: dict[str, tuple[bytes, Verdict]] = {
    "no body": (post(b""), MALFORMED),
    "gzip bomb": (post(BOMB, b"Content-Encoding: gzip"), (415, "unsupported_media_type")),
    "gzip bomb unsaid": (post(BOMB), MALFORMED),
    "deep brackets": (post(b'{"type":"bad","payload":' + b"[" * 100_000), MALFORMED),
    "deep brackets that close": (post(b'{"type":"bad","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), MALFORMED),
    "deep objects": (post(b'{"type":"bad","payload":' + b'{"a":' * 40_000 + b"1" + b"}" * 40_001), MALFORMED),
    "deep in another key": (
        post(b'{"type":"bad","payload":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        MALFORMED,
    ),
    "deep with a surrogate": (
        post(b'{"type":"bad","payload":["\\ud800",' + b"[" * 90_000 + b"]" * 90_001 + b"}"),
        MALFORMED,
    ),
    "deep raw payload": (raw(b"[" * 100_000 + b"]" * 100_000), MALFORMED),
    "nan": (post(b'{"type":"bad","payload":NaN}'), MALFORMED),
    "infinity": (post(b'{"type":"bad","payload":[-Infinity]}'), MALFORMED),
    "raw nan": (raw(b"NaN"), MALFORMED),
    "number with a plus": (post(b'{"type":"bad","payload":+1}'), MALFORMED),
    "number from nought": (post(b'{"type":"bad","payload":01}'), MALFORMED),
    "single quotes": (post(b"{'type':'bad','payload':1}"), MALFORMED),
    "comma at the end": (post(b'{"type":"bad","payload":1,}'), MALFORMED),
    "comment": (post(b'{"type":"bad",/**/"payload":1}'), MALFORMED),
    "two values": (post(EVENT + EVENT), MALFORMED),
    "nul at the end": (post(EVENT + b"\x00"), MALFORMED),
    "nul in a string": (post(b'{"type":"bad","payload":"\x00"}'), MALFORMED),
    "surrogate as bytes": (post(b'{"type":"bad","payload":"\xed\xa0\x80"}'), MALFORMED),
    "overlong bytes": (post(b'{"type":"bad","payload":"\xc0\xaf"}'), MALFORMED),
    "cut character": (post(b'{"type":"bad","payload":"\xe2\x82"}'), MALFORMED),
    "utf-16": (post(EVENT.decode().encode("utf-16")), MALFORMED),
    "utf-16 without a mark": (post(EVENT.decode().encode("utf-16-le")), MALFORMED),
    "utf-32": (post(EVENT.decode().encode("utf-32")), MALFORMED),
    "byte order mark": (post(b"\xef\xbb\xbf" + EVENT), MALFORMED),
    "raw payload with byte order mark": (raw(b"\xef\xbb\xbf{}"), MALFORMED),
    "key twice": (post(b'{"type":"bad","type":"bad","payload":1}'), MALFORMED),
    "payload twice": (post(b'{"type":"bad","payload":1,"payload":2}'), MALFORMED),
    "key twice in other letters": (post(b'{"type":"bad","t\\u0079pe":"worse","payload":1}'), MALFORMED),
    "key that nobody knows": (post(b'{"type":"bad","payload":1,"colour":1}'), INVALID),
    "array": (post(b"[]"), INVALID),
    "string": (post(b'"bad"'), INVALID),
    "number of 2**63": (post(b"9223372036854775808"), INVALID),
    "type as a number": (post(b'{"type":9223372036854775808,"payload":1}'), INVALID),
    "type of 5,000 digits": (post(b'{"type":%b,"payload":1}' % (b"9" * 5000)), INVALID),
    "type of 1e999": (post(b'{"type":1e999,"payload":1}'), INVALID),
    "type with a surrogate": (post(b'{"type":"\\ud800","payload":1}'), INVALID),
    "type with a nul": (post(b'{"type":"a\\u0000","payload":1}'), INVALID),
    "type of 129": (post(b'{"type":"%b","payload":1}' % (b"b" * 129)), INVALID),
    "no payload": (post(b'{"type":"bad"}'), INVALID),
    "tenant with a surrogate": (post(b'{"type":"bad","tenant":"\\udfff","payload":1}'), INVALID),
    "tenant of the daemon": (post(b'{"type":"bad","tenant":"$webhookd","payload":1}'), INVALID),
    "time out of the calendar": (post(b'{"type":"bad","deliver_at":"9999-99-99T00:00:00Z","payload":1}'), INVALID),
    "time of 5,000 digits": (post(b'{"type":"bad","deliver_at":"%b","payload":1}' % (b"9" * 5000)), INVALID),
    "key of 256 in the header": (post(EVENT, b"Idempotency-Key: " + b"k" * 256), (422, "invalid_idempotency_key")),
    "key of 256": (
        post(b'{"type":"bad","payload":1,"idempotency_key":"%b"}' % (b"k" * 256)),
        (422, "invalid_idempotency_key"),
    ),
    "empty key": (post(EVENT, b"Idempotency-Key:"), (422, "invalid_idempotency_key")),
    "key with a space": (post(EVENT, b"Idempotency-Key: a b"), (422, "invalid_idempotency_key")),
    "key with high bytes": (post(EVENT, b"Idempotency-Key: \xe4"), (422, "invalid_idempotency_key")),
    "key with a surrogate": (post(b'{"type":"bad","payload":1,"idempotency_key":"\\ud800"}'), INVALID),
    "key in both places": (
        post(b'{"type":"bad","payload":1,"idempotency_key":"a"}', b"Idempotency-Key: a"),
        (422, "idempotency_key_twice"),
    ),
    "payload too large": (
        post(b'{"type":"bad","payload":"%b"}' % (b"a" * 262_143)),
        (413, "payload_too_large"),
    ),
    "body announced too large": (POST + b"Content-Length: 17000000\r\n\r\n", (413, "body_too_large")),
    "chunks too large": (CHUNKED + b"%x\r\n%b\r\n" % (400_000, b"a" * 400_000), (413, "body_too_large")),
    "batch with one bad line": (
        post(EVENT + b"\n" + b'{"type":"bad","payload":' + b"[" * 100_000).replace(b"/json", b"/x-ndjson"),
        MALFORMED,
    ),
    "batch of nothing": (post(b"\n\n\n").replace(b"/json", b"/x-ndjson"), (422, "empty_batch")),
    "batch of too many": (
        post(b'{"type":"bad","payload":1}\n' * 1001).replace(b"/json", b"/x-ndjson"),
        (413, "batch_too_large"),
    ),
    "content type of nonsense": (
        post().replace(b"application/json", b";;;" + MARK),
        (415, "unsupported_media_type"),
    ),
}

TABLE = FRAMING | HEADS | BODIES
