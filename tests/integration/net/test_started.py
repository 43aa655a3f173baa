"""Attempts that are started and call back: exactly once, later, and not at all once they are cancelled."""

import asyncio
import os
from time import monotonic

import pytest

from tests.integration.net.servers import answering
from tests.kit.builders import endpoint, event, work
from webhookd.core.attempt import ErrorClass, Outcome
from webhookd.core.settings import Body, DeliveryRules

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENT = DeliveryRules(timeout_seconds=5, connect_timeout_seconds=5)
UNSIGNABLE = endpoint(secret=None)


class Told:
    """What the attempts of a test ended as, by the name each was started under."""

    def __init__(self, sender):
        self.sender = sender
        self.outcomes = {}
        self._news = asyncio.Event()

    def start(self, name, url, *, rules=PATIENT, of=None, **more):
        def ended(outcome):
            assert name not in self.outcomes, "told twice"
            self.outcomes[name] = outcome
            self._news.set()

        to = endpoint(url=url, rules=rules, **more)
        started = self.sender.start(work(of=of or event()), to, ended)
        assert name not in self.outcomes, "told before it was started"
        return started

    async def all(self, number):
        async with asyncio.timeout(5):
            while len(self.outcomes) < number:
                self._news.clear()
                await self._news.wait()
        # Whoever is told too much is told by now.
        await asyncio.sleep(0.01)
        assert len(self.outcomes) == number
        return self.outcomes

    async def statuses(self, number):
        return {name: outcome.status for name, outcome in (await self.all(number)).items()}


@pytest.fixture
def told(sender):
    return Told(sender)


def waiting_for(gate, *, begins_with=b""):
    """Answer at once until `gate` is a closed one, then only once it opens."""

    async def behave(server, reader, writer):
        while True:
            await server.request(reader)
            writer.write(begins_with)
            await gate.wait()
            writer.write(OK[len(begins_with) :])

    return behave


async def test_attempts_of_one_turn_have_a_connection_and_an_answer_each(serve, told):
    async def echo(server, reader, writer):
        while True:
            _, body = await server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    server = await serve(echo)
    for turn in range(1, 4):
        for number in range(10):
            told.start((turn, number), server.url, of=event(payload=b"[%d,%d]" % (turn, number)))
        await told.all(10 * turn)
    assert {name: outcome.excerpt for name, outcome in told.outcomes.items()} == {
        (turn, number): b"[%d,%d]" % (turn, number) for turn in range(1, 4) for number in range(10)
    }
    assert server.connections == 10


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"nonsense"])
async def test_an_attempt_that_has_ended_waits_for_no_deadline(serve, told, answer):
    async def behave(server, reader, writer):
        await server.request(reader)
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.01)

    server = await serve(behave)
    told.start("first", server.url)
    told.start("cancelled", server.url).cancel()
    await told.all(1)
    ways = told.sender._ways  # noqa: SLF001
    assert (len(ways.limits), len(ways.bodies)) == (0, 0)


@pytest.mark.parametrize("other", [b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", OK[:-2] + b"ko"])
async def test_an_answer_that_is_like_the_last_says_the_same_and_another_does_not(serve, sender, other):
    server = await serve(answering(OK, OK, other, other, OK))
    heard = []
    for _ in range(5):
        outcome = await sender.send(work(of=event()), endpoint(url=server.url, rules=PATIENT))
        heard.append((outcome.status, outcome.excerpt, outcome.retry_after_seconds))
    first, second, third, fourth, fifth = heard
    assert first == second == fifth == (200, b"ok", None)
    assert third == fourth == ((503, b"", 7.0) if b"503" in other else (200, b"ko", None))
    assert server.connections == 1


async def test_who_cancels_before_the_request_is_sent_sends_nothing(serve, told):
    server = await serve(answering(OK))
    told.start("first", server.url)
    await told.all(1)
    told.start("cancelled", server.url).cancel()
    told.start("last", server.url)
    assert await told.statuses(2) == {"first": 200, "last": 200}
    assert len(server.requests) == 2
    assert server.connections == 1


@pytest.mark.parametrize("begins_with", [b"", OK[:10]])
@pytest.mark.parametrize("kept", [True, False])
async def test_who_cancels_drops_the_connection_and_hears_nothing(serve, told, kept, begins_with):
    gate = asyncio.Event()
    server = await serve(waiting_for(gate, begins_with=begins_with))
    if kept:
        gate.set()
        told.start("first", server.url)
        await told.all(1)
        gate.clear()
    server.arrived.clear()
    attempt = told.start("cancelled", server.url)
    await asyncio.wait_for(server.arrived.wait(), 2)
    await asyncio.sleep(0.01)
    attempt.cancel()
    attempt.cancel()
    gate.set()
    told.start("last", server.url)
    assert (await told.statuses(1 + kept))["last"] == 200
    assert server.connections == 2


async def test_who_cancels_during_the_dial_hears_nothing(serve, sender_with):
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def names(_host):
        loop.call_soon_threadsafe(asked.set)
        return [(2, ("127.0.0.1", 0))]

    server = await serve(answering(OK))
    told = Told(sender_with(names=names))
    attempt = told.start("cancelled", f"http://a.example:{server.port}/")
    await asyncio.wait_for(asked.wait(), 2)
    attempt.cancel()
    await asyncio.sleep(0.05)
    assert not told.outcomes
    assert not server.requests


async def test_to_cancel_what_has_ended_does_nothing_to_the_connection(serve, told):
    server = await serve(answering(OK))
    attempt = told.start("first", server.url)
    await told.all(1)
    later = told.start("second", server.url)
    attempt.cancel()
    await told.all(2)
    later.cancel()
    told.start("third", server.url)
    assert await told.statuses(3) == {"first": 200, "second": 200, "third": 200}
    assert server.connections == 1


async def test_what_is_known_without_the_network_is_told_later_too(told):
    rules = DeliveryRules(timeout_seconds=5, body=Body.ENVELOPE)
    told.start("first", "http://127.0.0.1:1/", rules=rules, of=event(content_type="text/plain"))
    assert (await told.all(1))["first"].error.kind is ErrorClass.INTERNAL


async def test_a_fault_of_ours_is_told_as_one_and_costs_no_neighbour(serve, told):
    server = await serve(answering(OK))
    told.start("first", server.url)
    await told.all(1)
    told.start("before", server.url)
    told.start("faulty", server.url, secret=None)
    told.start("behind", server.url)
    outcomes = await told.all(4)
    assert isinstance(outcomes["faulty"], ValueError)
    assert [outcomes[name].status for name in ("before", "behind")] == [200, 200]


async def test_a_fault_of_ours_is_raised_by_a_send(sender):
    with pytest.raises(ValueError, match="secret"):
        await sender.send(work(), UNSIGNABLE)


async def test_a_deadline_is_met_on_a_kept_connection_by_each_attempt_alone(serve, told):
    gate = asyncio.Event()
    gate.set()
    server = await serve(waiting_for(gate))
    rules = DeliveryRules(timeout_seconds=0.15, connect_timeout_seconds=1)
    for name in ("a", "b", "c"):
        told.start(name, server.url, rules=rules)
    await told.all(3)
    gate.clear()
    begun = monotonic()
    told.start("early", server.url, rules=rules)
    await asyncio.sleep(0.08)
    told.start("late", server.url, rules=rules)
    outcomes = await told.all(5)
    assert monotonic() - begun >= 0.22
    for name in ("early", "late"):
        outcome = outcomes[name]
        assert isinstance(outcome, Outcome)
        assert outcome.error.kind is ErrorClass.TIMEOUT
        assert outcome.error.text == "no answer within 0.15 s (waiting for the first byte)"
        assert 149 <= outcome.duration_ms < 1000
    assert server.connections == 3


async def test_only_the_connection_that_was_spoilt_is_replaced(serve, told):
    writers = []

    async def behave(server, reader, writer):
        writers.append(writer)
        while True:
            await server.request(reader)
            writer.write(OK)

    server = await serve(behave)
    for name in range(4):
        told.start(name, server.url)
    await told.all(4)
    for name in range(4, 8):
        told.start(name, server.url)
    # Sent in the turn of the loop in which they were started, so that nobody has read it when they depart.
    os.write(writers[2].get_extra_info("socket").fileno(), b"HTTP/1.1 500 Surprise\r\nContent-Length: 0\r\n\r\n")
    assert set((await told.statuses(8)).values()) == {200}
    assert server.connections == 5
