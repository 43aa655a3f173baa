"""Heads that are known again lead to what the parser leads to: the same bytes written, the same events."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from tests.kit.hostile_requests import CHUNKED, CHUNKS, EVENT, POST, TABLE, get, post
from tests.kit.wired import Scene, Step, story
from tests.property.test_front_bytes import cut
from webhookd.api.auth import Gate, Tokens
from webhookd.api.heads import Head
from webhookd.api.judging import KNOWN_HEAD_BYTES, KNOWN_HEADS, Caller, Judge, Judged
from webhookd.api.lobby import Lobby, Patience
from webhookd.core.settings import Ingest, Role, Token

LATIN = b'{"type":"bad","payload":"\xe9"}'
NDJSON = EVENT + b"\n" + EVENT + b"\n"
BEARER = b"Authorization: Bearer one"


class Forgetful(Judge):
    """Knows no head again, so that all are parsed."""

    def find(self, data: bytes, at: int) -> tuple[Judged, int, int] | None:
        """Find nothing."""
        return None


def use_tokens(*secrets: str) -> Step:
    """Let these tokens be in force from now on."""

    def step(scene: Scene) -> None:
        scene.gate.tokens = Tokens([Token(name=secret, role=Role.INGEST, secret=secret) for secret in secrets])

    return step


def take_at_most(payload_bytes: int) -> Step:
    """Let the settings say so from now on."""

    def step(scene: Scene) -> None:
        scene.lobby.ingest = Ingest(max_payload_bytes=payload_bytes, max_request_bytes=2 * payload_bytes)

    return step


def drain(scene: Scene) -> None:
    """Begin to stop."""
    scene.lobby.draining = True


def fill(scene: Scene) -> None:
    """Let there be room for the body of one request at a time, if it is short."""
    scene.lobby.patience = Patience(buffered_bytes=60)


def vacate(scene: Scene) -> None:
    """Let there be room again."""
    scene.lobby.patience = Patience()


def come_again(scene: Scene) -> None:
    """Hang up and come in once more."""
    scene.hang_up()
    scene.connect()


def hold(scene: Scene) -> None:
    """Leave what is handed in without an answer."""
    scene.patient = True


def answer(scene: Scene) -> None:
    """Answer what is owed, and what comes from now on at once."""
    scene.patient = False
    scene.recorder.answer()


def with_length(digits: bytes, name: bytes = b"Content-Length: ", body: bytes = EVENT) -> bytes:
    """Build a request whose length is written in this way."""
    return POST + name + digits + b"\r\n\r\n" + body


SIZE = b"%d" % len(EVENT)
PLAIN = [
    post(),
    post(b'{"type":"a","payload":1}'),
    post(b'{"type":"a","payload":%b}' % (b"1" * 90)),
    post(LATIN),
    post(b"{}"),
    post(EVENT, b"Connection: keep-alive"),
    post(EVENT, BEARER),
    post(NDJSON).replace(b"application/json", b"application/x-ndjson"),
    post(EVENT).replace(b"/v1/events", b"/v1/events/bad?tenant=a"),
    post(EVENT).replace(b"/v1/events", b"http://localhost/v1/events"),
    with_length(SIZE, b"content-length: "),
    post().replace(b"/events", b"/endpoints"),
]
NASTY: list[bytes] = [
    *(with_length(digits) for digits in (b"0" + SIZE, b"0", b"00", b"+" + SIZE, SIZE + b" ", SIZE + b"\t", b"", b"x")),
    *(with_length(digits) for digits in (b"9" * 10, b"9" * 20, b"0" * 9 + SIZE, b"0" * 30 + SIZE, SIZE + b", " + SIZE)),
    with_length(SIZE, b"CONTENT-LENGTH: "),
    with_length(SIZE, b"Content-Length:"),
    with_length(SIZE, b"Content-Length:  "),
    with_length(SIZE, b"Content-Length : "),
    with_length(SIZE, b"Content-Length:\r\n "),
    with_length(SIZE + b"\r\n 5"),
    with_length(SIZE + b"\r\nContent-Length: " + SIZE),
    with_length(SIZE + b"\r\nX-Strength: 5"),
    with_length(SIZE, b"X-Strength: 5\r\nContent-Length: "),
    with_length(SIZE, b"X-Content-Length: "),
    with_length(SIZE, b"X-Content-Length: 5\r\nContent-Length: "),
    post(EVENT, b"X-Strength: " + SIZE),
    with_length(SIZE) + b"\r\n",
    b"\r\n" + with_length(SIZE),
    b"\n" + with_length(SIZE),
    with_length(SIZE) + b"more",
    with_length(SIZE)[:-3],
    post().replace(b"\r\n", b"\n"),
    post().replace(b"localhost\r\n", b"localhost\n"),
    post(EVENT, b"Transfer-Encoding: chunked"),
    CHUNKED + CHUNKS,
    post(EVENT, b"Expect: 100-continue"),
    post(EVENT, b"Expect: more"),
    post(EVENT, b"Idempotency-Key: a"),
    post(EVENT, b"Idempotency-Key: b"),
    post(EVENT, b"Connection: close"),
    post(EVENT, b"Connection: upgrade", b"Upgrade: h2c"),
    post(EVENT, b"Content-Encoding: gzip"),
    post(EVENT, b"Origin: http://elsewhere"),
    post(EVENT, b"Authorization: Bearer two"),
    post(EVENT, b"X-Long: " + b"x" * KNOWN_HEAD_BYTES),
    post().replace(b"localhost", b"elsewhere"),
    post().replace(b"localhost", b"127.0.0.1"),
    post().replace(b"POST", b"PUT"),
    post().replace(b"HTTP/1.1", b"HTTP/1.0"),
    post().replace(b"application/json", b"text/plain"),
    get(b"/v1/status"),
]
NASTY_TABLE = len(NASTY)
NASTY += [data for data, _ in TABLE.values() if len(data) < 2000]
CHANGES: list[Step] = [
    use_tokens(),
    use_tokens("one"),
    use_tokens("two"),
    use_tokens("one", "two"),
    take_at_most(40),
    take_at_most(100_000),
    fill,
    vacate,
    drain,
    come_again,
    come_again,
    hold,
    answer,
]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Requests that follow each other without a pause, and the places where what is read of them ends."""

    requests: tuple[bytes, ...]
    at: tuple[int, ...]

    def steps(self) -> list[Step]:
        """Return the pieces that arrive."""
        return list(cut(b"".join(self.requests), list(self.at)))


plain = st.sampled_from(PLAIN)
arrivals = st.builds(
    Arrival,
    st.lists(st.one_of(plain, plain, st.sampled_from(NASTY)), min_size=1, max_size=4).map(tuple),
    st.one_of(st.just(()), st.lists(st.integers(0, 2000), max_size=4).map(tuple)),
)


@st.composite
def courses(draw: st.DrawFn) -> list[Step]:
    """Let few requests arrive again and again, with a change now and then."""
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 3))):
        again = draw(st.lists(arrivals, min_size=1, max_size=3))
        for arrival in draw(st.lists(st.sampled_from(again), min_size=2, max_size=5)):
            steps += arrival.steps()
        if draw(st.booleans()):
            steps.append(draw(st.sampled_from(CHANGES)))
    return steps


def check_course(steps: list[Step]) -> None:
    """Hold what is known to what is parsed."""
    known, parsed = story(steps), story(steps, Forgetful)
    assert known == parsed
    assert known.written == parsed.written


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(steps=courses())
@example(steps=[PLAIN[0], PLAIN[0] + PLAIN[1] + PLAIN[0][:-5], PLAIN[0][-5:]])
@example(steps=[PLAIN[0], use_tokens("two"), post(EVENT, BEARER), use_tokens("one"), post(EVENT, BEARER)])
@example(steps=[PLAIN[6], use_tokens("one"), PLAIN[6], PLAIN[6], use_tokens("two"), PLAIN[6]])
@example(steps=[use_tokens("one"), *[post(EVENT, BEARER)] * 3, use_tokens("two"), *[post(EVENT, BEARER)] * 3])
@example(steps=[PLAIN[0], PLAIN[0], PLAIN[0], take_at_most(10), PLAIN[0], PLAIN[0], PLAIN[0]])
@example(steps=[PLAIN[0], take_at_most(10), PLAIN[0], PLAIN[0]])
@example(steps=[PLAIN[0], fill, PLAIN[2], PLAIN[0]])
@example(steps=[PLAIN[0], PLAIN[0][:-5], drain, PLAIN[0][-5:] + PLAIN[0]])
def test_a_known_head_is_answered_as_if_it_were_parsed(steps: list[Step]) -> None:
    check_course(steps)


@pytest.mark.parametrize("number", range(NASTY_TABLE))
def test_nasty_heads_are_judged_alike_behind_each_other(number: int) -> None:
    first = NASTY[number]
    for nasty in NASTY[:NASTY_TABLE]:
        check_course([first, come_again, nasty, come_again, nasty])


@pytest.mark.parametrize("number", range(len(NASTY)))
@pytest.mark.parametrize("before", [0, 6, 7, 8, 10])
def test_a_nasty_head_is_judged_alike_behind_one_that_is_known(number: int, before: int) -> None:
    usual, nasty = PLAIN[before], NASTY[number]
    check_course([usual, usual, nasty])
    check_course([usual, nasty, usual])
    check_course([nasty, come_again, nasty, usual])
    check_course([usual, usual + nasty + usual + nasty])
    check_course([usual, hold, nasty, usual, answer])


@pytest.mark.long
def test_the_same_at_length(request: pytest.FixtureRequest, scale: int) -> None:
    examples = 3000 * scale

    @seed(request.config.getoption("--seed"))
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(steps=courses())
    def run(steps: list[Step]) -> None:
        check_course(steps)

    run()


class Watched(Judge):
    """Counts what was known."""

    known = 0

    def find(self, data: bytes, at: int) -> tuple[Judged, int, int] | None:
        """Find as ever."""
        found = super().find(data, at)
        self.known += found is not None
        return found


def known_in(*steps: Step) -> int:
    """Return how many heads were known again."""
    judges: list[Watched] = []

    def judge_of(lobby: Lobby, gate: Gate) -> Judge:
        judges.append(Watched(lobby, gate))
        return judges[0]

    story(steps, judge_of)
    return judges[0].known


@pytest.mark.parametrize("request_", PLAIN[:1] + PLAIN[5:])
def test_a_head_is_known_when_it_comes_again(request_: bytes) -> None:
    first = use_tokens("one")
    assert known_in(first, request_) == 0
    assert known_in(first, request_, request_, request_ + request_) == 3


BLANK_LINE_BEFORE = b"\r\nPOST /v1/endpoints HTTP/1.1\r\nHost: localhost\r\nContent-Length: %b\r\n\r\n"


def test_what_stands_in_a_body_is_no_head() -> None:
    """It was to be found from a place before the head, which is where a name that is not there seemed to be."""
    behind = get(b"/v1/status")
    inside = b"AAAAAA%d" % len(behind + b"B") + BLANK_LINE_BEFORE % b"" + b"B"
    steps = [
        BLANK_LINE_BEFORE % b"1" + b"A",
        with_length(b"1", body=b"A"),
        with_length(b"%d" % (1 + len(inside)), body=b"C"),
        inside + behind,
    ]
    assert story(steps, Judge) == story(steps, Forgetful)


def test_a_head_behind_a_blank_line_is_not_remembered() -> None:
    assert known_in(b"\r\n" + post(), b"\r\n" + post(), post()) == 0


def test_a_head_is_known_whatever_its_length() -> None:
    assert known_in(PLAIN[0], PLAIN[1], PLAIN[2] + PLAIN[0], PLAIN[0][:-7], PLAIN[0][-7:]) == 4


def test_what_a_token_was_sent_with_is_forgotten_when_it_is_revoked() -> None:
    judges: list[Judge] = []

    def judge_of(lobby: Lobby, gate: Gate) -> Judge:
        judges.append(Judge(lobby, gate))
        return judges[0]

    story([use_tokens("one"), post(EVENT, BEARER), use_tokens("two"), post()], judge_of)
    assert not any(b"Bearer one" in head for head in judges[0]._known)  # noqa: SLF001


@pytest.mark.parametrize("change", [use_tokens(), take_at_most(40)])
def test_a_head_is_judged_anew_after_a_change(change: Step) -> None:
    assert known_in(PLAIN[0], change, PLAIN[0]) == 0
    assert known_in(PLAIN[0], change, PLAIN[0], PLAIN[0]) == 1


def test_heads_that_differ_each_time_take_no_more_than_a_bounded_memory() -> None:
    judges: list[Judge] = []

    def judge_of(lobby: Lobby, gate: Gate) -> Judge:
        judges.append(Judge(lobby, gate))
        return judges[0]

    heads = [post(EVENT, b"X-Trace: %d" % number) for number in range(3 * KNOWN_HEADS)]
    assert set(story(heads, judge_of).statuses) == {202}
    assert 0 < len(judges[0]) <= KNOWN_HEADS


@pytest.mark.parametrize(
    "field", [b"Idempotency-Key: a", b"Expect: 100-continue", b"X-Long: " + b"x" * KNOWN_HEAD_BYTES]
)
def test_a_head_that_asks_for_more_is_not_remembered(field: bytes) -> None:
    request = post(EVENT, field)
    assert known_in(request, request) == 0


def test_a_head_is_not_remembered_while_its_host_is_let_in_on_one_address_only() -> None:
    """The gate remembers a bounded number of hosts; another may be one of ours only where the connection came in."""
    hosts = [post().replace(b"localhost", b"127.0.0.%d" % number) for number in range(1, 80)]
    assert known_in(*hosts, hosts[10], hosts[70], hosts[70]) == 1


@pytest.mark.parametrize("doubtful", [post().replace(b"\r\n", b"\n", 1), post().replace(b"\r\nHost", b"\r\r\nHost")])
def test_a_head_with_lines_that_another_reader_would_end_elsewhere_is_not_remembered(doubtful: bytes) -> None:
    judges: list[Judge] = []

    def remember(scene: Scene) -> None:
        fields = {b"content-length": SIZE, b"content-type": b"application/json", b"host": b"localhost"}
        judged = Judged(b"POST", Head(b"/v1/events", fields, 0, 0))
        judges[0].judge(judged, Caller())
        judges[0].remember(doubtful, judged)
        assert len(judges[0]) == 0
        judges[0].remember(post(), judged)
        assert len(judges[0]) == 1

    def judge_of(lobby: Lobby, gate: Gate) -> Judge:
        judges.append(Judge(lobby, gate))
        return judges[0]

    story([remember], judge_of)
