"""The pool of idle connections: how long, how many, and which one next."""

import asyncio
from time import monotonic

import pytest

from webhookd.core.settings import TlsFiles
from webhookd.net.pool import IDLE_PER_ORIGIN, IDLE_SECONDS, LIFE_SECONDS, Pool

HERE = ("https", "a.example", 443, None)
THERE = ("https", "b.example", 443, None)
NOW = 5000.0


class FakeConnection:
    """A connection as far as the pool looks at it."""

    def __init__(self, opened_at=NOW):
        self.opened_at = opened_at
        self.is_open = True

    def drop(self):
        self.is_open = False


@pytest.fixture
async def pool():
    pool = Pool(1000)
    yield pool
    pool.clear()


async def test_a_kept_connection_is_taken_once(pool):
    connection = FakeConnection()
    pool.put(HERE, connection, NOW)
    assert pool.take(HERE, NOW) is connection
    assert pool.take(HERE, NOW) is None


async def test_origins_do_not_share(pool):
    pool.put(HERE, FakeConnection(), NOW)
    assert pool.take(THERE, NOW) is None
    assert pool.take(("http", "a.example", 443, None), NOW) is None
    assert pool.take(("https", "a.example", 443, TlsFiles(fingerprint="a")), NOW) is None


async def test_the_connection_used_last_goes_first(pool):
    first, last = FakeConnection(), FakeConnection()
    pool.put(HERE, first, NOW)
    pool.put(HERE, last, NOW)
    assert pool.take(HERE, NOW) is last


async def test_a_connection_idle_for_too_long_is_closed_and_not_taken(pool):
    connection = FakeConnection()
    pool.put(HERE, connection, NOW)
    assert pool.take(HERE, NOW + IDLE_SECONDS) is None
    assert not connection.is_open


async def test_a_connection_that_is_too_old_is_not_taken(pool):
    connection = FakeConnection(opened_at=NOW - LIFE_SECONDS + 1)
    pool.put(HERE, connection, NOW)
    assert pool.take(HERE, NOW + 1) is None
    assert not connection.is_open


async def test_a_connection_that_is_too_old_is_not_kept(pool):
    connection = FakeConnection(opened_at=NOW - LIFE_SECONDS)
    pool.put(HERE, connection, NOW)
    assert not connection.is_open
    assert len(pool) == 0


async def test_a_connection_that_ended_meanwhile_is_passed_over(pool):
    good, ended = FakeConnection(), FakeConnection()
    pool.put(HERE, good, NOW)
    pool.put(HERE, ended, NOW)
    ended.drop()
    assert pool.take(HERE, NOW) is good


async def test_an_origin_keeps_a_bounded_number_and_gives_up_the_oldest(pool):
    connections = [FakeConnection() for _ in range(IDLE_PER_ORIGIN + 1)]
    for connection in connections:
        pool.put(HERE, connection, NOW)
    assert len(pool) == IDLE_PER_ORIGIN
    assert [connection.is_open for connection in connections[:2]] == [False, True]


async def test_all_origins_together_keep_a_bounded_number():
    pool = Pool(2)
    connections = [FakeConnection() for _ in range(3)]
    for number, connection in enumerate(connections):
        pool.put(("https", f"{number}.example", 443, None), connection, NOW)
    assert [connection.is_open for connection in connections] == [False, True, True]
    pool.clear()
    assert not any(connection.is_open for connection in connections)


async def test_resizing_closes_what_was_kept_under_the_old_rules(pool):
    connection = FakeConnection()
    pool.put(HERE, connection, NOW)
    pool.resize(10)
    assert not connection.is_open
    assert pool.take(HERE, NOW) is None


async def test_idle_connections_are_closed_without_anybody_asking(pool):
    old, young = FakeConnection(), FakeConnection(opened_at=monotonic())
    begun = monotonic()
    pool.put(HERE, old, begun - IDLE_SECONDS + 0.02)
    pool.put(THERE, young, begun)
    while old.is_open:
        assert monotonic() < begun + 2
        await asyncio.sleep(0.01)
    assert len(pool) == 1
    assert young.is_open
