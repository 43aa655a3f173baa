"""A run counts only if every event was accepted and delivered exactly once, and the database knows it."""

import sqlite3

import pytest

from bench.counting import check, check_backlog, check_database
from bench.processes import MeasurementError


def load(*ids, **given):
    return {"refused": {}, "accepted": len(ids), "ids": list(ids)} | given


def seen(*ids, duplicates=0, **given):
    ids_seen = {"requests": len(ids) + duplicates, "duplicates": duplicates, "held_twice": 0, "ids": list(ids)}
    return ids_seen | {"checked": 1, "complaints": []} | given


def test_all_accepted_and_delivered_once_counts():
    check(load("a", "b"), seen("b", "a"), events=2)


def test_one_event_comes_once_to_each_path():
    check(load("a"), seen("a /hook/0", "a /hook/1"), events=1, deliveries=2)
    with pytest.raises(MeasurementError, match="1 deliveries came of 2"):
        check(load("a"), seen("a /hook/0"), events=1, deliveries=2)


@pytest.mark.parametrize(
    ("handed_in", "received", "complaint"),
    [
        (load("a", "b"), seen("a"), "1 were accepted and not delivered, such as b"),
        (load("a", "b"), seen("a", "b", duplicates=1), "1 deliveries came twice"),
        (load("a", "b"), seen("a", "c"), "1 were delivered and not accepted, such as c"),
        (load("a", refused={"503": 1}), seen("a"), "1 were answered 503, not 202"),
        (load("a", "a"), seen("a"), "2 were accepted under only 1 ids"),
        (load("a", "b", "c"), seen("a", "b", "c"), "3 were accepted of 2 events"),
        (load("a"), seen("a"), "1 were accepted of 2 events"),
        (load("a", "b"), seen("a", "b", requests=3), "3 deliveries came of 2"),
        (load("a", "b"), seen("a", "b", held_twice=1), "1 deliveries came twice"),
        (load("a", "b"), seen("a", "b", checked=0), "no delivery was looked at"),
        (load("a", "b"), seen("a", "b", complaints=["the signature does not hold"]), "the signature does not hold"),
    ],
)
def test_anything_else_does_not_count(handed_in, received, complaint):
    with pytest.raises(MeasurementError, match=complaint):
        check(handed_in, received, events=2)


def test_of_events_whose_receivers_hang_fewer_are_delivered():
    check(load("a", "b"), seen("b"), events=2, deliveries=1)
    with pytest.raises(MeasurementError, match="0 deliveries came of 1"):
        check(load("a", "b"), seen(), events=2, deliveries=1)


@pytest.fixture
def database(tmp_path):
    """Return a database with two deliveries made and three pending."""
    path = tmp_path / "bench.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE deliveries (endpoint_id TEXT, state TEXT)")
        db.executemany("INSERT INTO deliveries VALUES ('e0', ?)", [("delivered",)] * 2 + [("pending",)] * 3)
    db.close()
    return path


def test_the_database_has_to_know_of_every_delivery(database):
    check_database(database, {"delivered": 2, "pending": 3, "dead": 0})
    check_database(database, {}, where="endpoint_id = 'e1'")
    with pytest.raises(MeasurementError, match=r"are \{'delivered': 2, 'pending': 3\}, not \{'delivered': 5\}"):
        check_database(database, {"delivered": 5})


def test_of_a_backlog_what_was_not_delivered_is_pending(database):
    check_backlog(load("a"), seen("x", "y"), database, events=1, owed=5)


@pytest.mark.parametrize(
    ("handed_in", "received", "complaint"),
    [
        (load("a"), seen("x"), "'delivered': 2"),
        (load("a"), seen("x", "y", "z"), "'delivered': 2"),
        (load("a"), seen("x", duplicates=1), "1 deliveries came twice"),
        (load("a", refused={"507": 1}), seen("x", "y"), "1 were answered 507, not 202"),
        (load(), seen("x", "y"), "0 were accepted of 1 events"),
        (load("a"), seen("x", "y", complaints=["the signature does not hold"]), "the signature does not hold"),
    ],
)
def test_a_backlog_that_lost_or_doubled_something_does_not_count(database, handed_in, received, complaint):
    with pytest.raises(MeasurementError, match=complaint):
        check_backlog(handed_in, received, database, events=1, owed=5)
