"""Owing many deliveries again, and copying the database, as the API asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.fakes_api import request
from webhookd.core.delivery import DeliveryState
from webhookd.core.queries import ReplayFilter
from webhookd.core.settings import Role
from webhookd.errors import BackupFailedError, ConflictError, Fault, InvalidRequestError

REPLAY = "/v1/endpoints/orders/replay"


def said(answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["type"].rpartition(":")[2]


def pointers(answer) -> list[str]:
    return [error["pointer"] for error in json.loads(answer.body)["errors"]]


async def test_without_a_body_what_died_is_replayed(house, client):
    answer = await client.ask(request("POST", REPLAY))
    assert (answer.status, json.loads(answer.body)) == (202, {"count": 42})
    assert house.desk.replays == [(ReplayFilter(endpoint_id="orders", states=(DeliveryState.DEAD,)), False)]


async def test_everything_can_be_said_and_a_dry_run_changes_nothing(house, client):
    body = {
        "since": "2024-01-01T00:00:01Z",
        "until": "2024-01-01T01:00:02.500+01:00",
        "states": ["dead", "cancelled", "delivered"],
        "types": ["order.*", "user.made"],
        "dry_run": True,
    }
    answer = await client.ask(request("POST", REPLAY, json.dumps(body).encode()))
    assert (answer.status, json.loads(answer.body)) == (200, {"count": 42})
    which = ReplayFilter(
        endpoint_id="orders",
        states=(DeliveryState.DEAD, DeliveryState.CANCELLED, DeliveryState.DELIVERED),
        types=("order.*", "user.made"),
        since_ms=1_704_067_201_000,
        until_ms=1_704_067_202_500,
    )
    assert house.desk.replays == [(which, True)]


async def test_times_may_be_null(house, client):
    assert (await client.ask(request("POST", REPLAY, b'{"since":null,"until":null}'))).status == 202


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"since": "yesterday"}, ["/since"]),
        ({"until": 5}, ["/until"]),
        ({"states": ["pending"]}, ["/states"]),
        ({"states": []}, ["/states"]),
        ({"states": "dead"}, ["/states"]),
        ({"states": [1]}, ["/states"]),
        ({"types": "a"}, ["/types"]),
        ({"types": [""]}, ["/types"]),
        ({"types": ["a b"]}, ["/types"]),
        ({"types": ["a"] * 101}, ["/types"]),
        ({"dry_run": "yes"}, ["/dry_run"]),
        ({"dryrun": True}, ["/dryrun"]),
        ({"since": 1, "states": None}, ["/since", "/states"]),
    ],
)
async def test_a_wrong_replay_is_refused_whole(house, client, body, wrong):
    answer = await client.ask(request("POST", REPLAY, json.dumps(body).encode()))
    assert said(answer) == (422, "invalid_body")
    assert pointers(answer) == wrong
    assert house.desk.replays == []


async def test_a_backup_answers_with_what_it_holds(house, client):
    answer = await client.ask(request("POST", "/v1/backup", b'{"path":"/var/backups/a.db"}'))
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "path": "/var/backups/a.db",
        "size": 4096,
        "duration_ms": 1.235,
        "events": 3,
        "deliveries": 5,
    }
    await client.ask(request("POST", "/v1/backup", b'{"path":"/b","overwrite":true}'))
    assert house.keeper.asked == [(Path("/var/backups/a.db"), False), (Path("/b"), True)]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, "/path"),
        ({"path": "a.db"}, "/path"),
        ({"path": 1}, "/path"),
        ({"path": "/a", "overwrite": 1}, "/overwrite"),
        ({"path": "/a", "force": True}, "/force"),
    ],
)
async def test_a_wrong_request_for_a_backup(house, client, body, wrong):
    answer = await client.ask(request("POST", "/v1/backup", json.dumps(body).encode()))
    assert said(answer) == (422, "invalid_body")
    assert pointers(answer) == [wrong]
    assert house.keeper.asked == []


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (InvalidRequestError("backup_refused", "no", faults=(Fault("/path", "no"),)), 422, "backup_refused"),
        (ConflictError("backup_exists", "there"), 409, "backup_exists"),
        (ConflictError("backup_running", "wait"), 409, "backup_running"),
        (BackupFailedError("the disk is full"), 500, "backup_failed"),
    ],
)
async def test_a_backup_that_cannot_be_made_says_why(house, client, error, status, slug):
    house.keeper.error = error
    answer = await client.ask(request("POST", "/v1/backup", b'{"path":"/b"}'))
    assert said(answer) == (status, slug)
    assert json.loads(answer.body)["detail"] == str(error)


@pytest.mark.parametrize("path", [REPLAY, "/v1/backup"])
async def test_looking_is_not_enough(house, client, path):
    await client.serve(how={"role": Role.READ})
    assert said(await client.ask(request("POST", path, b'{"path":"/b"}'))) == (403, "forbidden")
    assert (house.desk.replays, house.keeper.asked) == ([], [])
