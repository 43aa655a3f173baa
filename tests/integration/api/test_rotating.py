"""Rotating a secret over the API: what is asked, what is answered, and what is refused before anything is done."""

import pytest

from tests.integration.api.test_operating import Talk
from webhookd.core.endpoint import EndpointRecord
from webhookd.core.services import EndpointView

ROTATE = "/v1/endpoints/orders/rotate-secret"


@pytest.fixture
async def talk(client) -> Talk:
    return Talk(await client.wire())


@pytest.mark.parametrize(
    ("body", "rotation"),
    [
        (b"", ("orders", 86_400.0, None)),
        (b"{}", ("orders", 86_400.0, None)),
        (b'{"overlap":"0s"}', ("orders", 0.0, None)),
        (b'{"overlap":"1.5h","secret":"mine"}', ("orders", 5400.0, "mine")),
        (b'{"overlap":"365d"}', ("orders", 31_536_000.0, None)),
    ],
)
async def test_the_new_secret_is_answered_this_once(talk, house, body, rotation):
    house.directory.add("orders")
    status, document = await talk("POST", ROTATE, body)
    assert (status, document["id"], document["secret"]) == (200, "orders", rotation[2] or "whsec_rotated")
    assert house.directory.rotations == [rotation]
    _, document = await talk("GET", "/v1/endpoints/orders")
    assert "secret" not in document


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"overlap":"soon"}', "/overlap"),
        (b'{"overlap":24}', "/overlap"),
        (b'{"overlap":null}', "/overlap"),
        (b'{"overlap":"-1s"}', "/overlap"),
        (b'{"overlap":"366d"}', "/overlap"),
        (b'{"secret":5}', "/secret"),
        (b'{"overlaps":"1h"}', "/overlaps"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_field(talk, house, body, pointer):
    house.directory.add("orders")
    status, document = await talk("POST", ROTATE, body)
    assert (status, [error["pointer"] for error in document["errors"]]) == (422, [pointer])
    assert house.directory.rotations == []


async def test_an_endpoint_that_is_not_there_is_404(talk):
    assert (await talk("POST", ROTATE))[0] == 404


async def test_an_endpoint_says_until_when_two_secrets_sign(talk, house):
    view = house.directory.add("orders")
    record = EndpointRecord(
        id=view.record.id,
        declared=False,
        created_at_ms=0,
        secret="whsec_AAAA",
        previous_secret="hush",
        previous_secret_until_ms=1_700_000_000_000,
    )
    house.directory.views["orders"] = EndpointView(
        record=record, definition=view.definition, pending=0, last_attempt=None
    )
    _, document = await talk("GET", "/v1/endpoints/orders")
    assert document["previous_secret_until"] == "2023-11-14T22:13:20.000Z"
    assert "hush" not in str(document)


async def test_the_secret_of_a_signature_is_never_shown(talk, house):
    house.directory.add("orders", signatures=[{"scheme": "stripe", "secret": "hush"}, {"scheme": "standard"}])
    _, document = await talk("GET", "/v1/endpoints/orders")
    assert document["signatures"] == [{"scheme": "stripe", "secret": "********"}, {"scheme": "standard"}]
