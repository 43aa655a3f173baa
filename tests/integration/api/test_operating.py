"""The operating routes: shapes, filters, pages and refusals."""

from __future__ import annotations

import orjson
import pytest

from tests.kit.fakes_api import a_delivery, an_event, request
from tests.kit.values import replace
from webhookd.core.attempt import Attempt, AttemptError, ErrorClass, Outcome, Trigger
from webhookd.core.delivery import DeliveryState
from webhookd.core.endpoint import EndpointStatus
from webhookd.core.ids import EPOCH_MS, EndpointId, delivery_text, event_text
from webhookd.core.queries import DeliveryFilter, EventFilter
from webhookd.errors import StoreUnavailableError


class Talk:
    """Asks and reads JSON."""

    def __init__(self, wire) -> None:
        self._wire = wire

    async def __call__(self, method: str, target: str, body: bytes = b"", **how):
        answer = await self._wire.ask(request(method, target, body, **how))
        if answer.status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.status, orjson.loads(answer.body) if answer.body else None


@pytest.fixture
async def talk(client) -> Talk:
    return Talk(await client.wire())


def pointers(document) -> list[str]:
    return [error["pointer"] for error in document["errors"]]


# Events.


async def test_events_come_in_pages_newest_first(talk, house):
    house.history.all_events += [an_event(number) for number in range(1, 8)]
    seen, cursor = [], ""
    while cursor is not None:
        status, document = await talk("GET", "/v1/events?limit=3" + (f"&cursor={cursor}" if cursor else ""))
        assert status == 200
        seen += [event["id"] for event in document["data"]]
        cursor = document["next"]
    assert seen == [event_text(number) for number in range(7, 0, -1)]


async def test_an_event_in_a_list(talk, house):
    house.history.all_events.append(an_event())
    _, document = await talk("GET", "/v1/events")
    assert document == {
        "data": [
            {
                "id": event_text(an_event().id),
                "type": "order.completed",
                "tenant": "default",
                "content_type": "application/json",
                "size": 8,
                "accepted_at": "2024-01-01T00:00:01.234Z",
                "deliver_at": None,
            }
        ],
        "next": None,
    }


async def test_filters_of_events_reach_the_store(talk, house):
    target = "/v1/events?tenant=acme&type=a.b&since=2024-01-01T00:00:01Z&until=2024-01-01T01:00:00%2B01:00"
    assert (await talk("GET", target))[0] == 200
    assert house.history.asked == [EventFilter(tenant="acme", type="a.b", since_ms=EPOCH_MS + 1000, until_ms=EPOCH_MS)]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=1.0",
        "limit=%D9%A3",
        "limit=",
        "limit=1&limit=2",
        "cursor=x",
        "cursor=",
        "tenant=a%20b",
        "type=a%20b",
        "since=yesterday",
        "until=2024-01-01",
        "state=pending",
        "unknown=1",
    ],
)
async def test_a_query_of_events_that_is_wrong_is_422(talk, query):
    status, document = await talk("GET", f"/v1/events?{query}")
    assert (status, pointers(document)) == (422, ["/" + query.partition("=")[0]])


async def test_everything_that_is_wrong_with_a_query_is_said_at_once(talk):
    _, document = await talk("GET", "/v1/deliveries?limit=x&state=lost&endpoint=A&event=evt_1&foo=1")
    assert sorted(pointers(document)) == ["/endpoint", "/event", "/foo", "/limit", "/state"]


async def test_one_event_shows_payload_deliveries_and_who_is_left_out(talk, house):
    house.history.all_events.append(an_event())
    house.history.all_deliveries.append(a_delivery())
    house.directory.add("orders")
    house.directory.add("others")
    status, document = await talk("GET", f"/v1/events/{event_text(an_event().id)}")
    assert (status, document["payload"]) == (200, {"n": 1})
    assert [delivery["id"] for delivery in document["deliveries"]] == [delivery_text(a_delivery().id)]
    assert document["not_matched"] == [{"endpoint": "others", "reason": "type does not match"}]


async def test_at_most_a_hundred_reasons_are_given(talk, house):
    house.history.all_events.append(an_event())
    for number in range(150):
        house.directory.add(f"e{number}")
    _, document = await talk("GET", f"/v1/events/{event_text(an_event().id)}")
    assert len(document["not_matched"]) == 100


async def test_an_event_with_very_many_deliveries_is_counted_whole(talk, house):
    house.history.all_events.append(an_event())
    house.history.all_deliveries += [
        a_delivery(number, endpoint_id=EndpointId(f"e{number}")) for number in range(1, 1201)
    ]
    house.directory.add("e700")
    _, document = await talk("GET", f"/v1/events/{event_text(an_event().id)}")
    assert (len(document["deliveries"]), document["delivery_count"], document["not_matched"]) == (500, 1200, [])


@pytest.mark.parametrize("name", ["evt_00000000000", "evt_1", "dlv_00000000000", "zzz", "evt_zzzzzzzzzzz", "%ED%A0%80"])
async def test_an_event_that_is_not_there_is_404(talk, name):
    assert (await talk("GET", f"/v1/events/{name}"))[0] == 404
    assert (await talk("POST", f"/v1/events/{name}/resend"))[0] == 404


@pytest.mark.parametrize(("body", "endpoint"), [(b"", None), (b"{}", None), (b'{"endpoint":"orders"}', "orders")])
async def test_an_event_is_owed_again(talk, house, body, endpoint):
    house.history.all_events.append(an_event())
    house.history.all_deliveries.append(a_delivery())
    status, document = await talk("POST", f"/v1/events/{event_text(an_event().id)}/resend", body)
    assert (status, len(document["deliveries"])) == (202, 1)
    assert house.desk.resent == [(an_event().id, endpoint)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"endpoint":"A b"}', 422),
        (b'{"endpoint":1}', 422),
        (b'{"x":1}', 422),
        (b"[]", 422),
        (b"{", 400),
        (b"\xff", 400),
    ],
)
async def test_a_wrong_wish_to_resend_is_refused(talk, house, body, status):
    house.history.all_events.append(an_event())
    assert (await talk("POST", f"/v1/events/{event_text(an_event().id)}/resend", body))[0] == status
    assert house.desk.resent == []


# Deliveries.


async def test_filters_of_deliveries_reach_the_store(talk, house):
    event = event_text(an_event().id)
    target = f"/v1/deliveries?endpoint=orders&event={event}&state=dead&type=a&tenant=t&since=2024-01-01T00:00:00Z"
    assert (await talk("GET", target))[0] == 200
    assert house.history.asked == [
        DeliveryFilter(
            endpoint_id=EndpointId("orders"),
            event_id=an_event().id,
            state=DeliveryState.DEAD,
            type="a",
            tenant="t",
            since_ms=EPOCH_MS,
        )
    ]


async def test_one_delivery_shows_its_attempts_oldest_first(talk, house):
    delivery = a_delivery()
    house.history.all_deliveries.append(delivery)
    failed = Outcome(duration_ms=5.0, error=AttemptError(kind=ErrorClass.DNS, text="no such host"))
    outcomes = [failed, Outcome(duration_ms=7.0, status=200, excerpt=b"ok")]
    house.history.all_attempts += [
        Attempt(
            delivery_id=delivery.id, number=number, trigger=Trigger.SCHEDULED, started_at_ms=EPOCH_MS, outcome=outcome
        )
        for number, outcome in enumerate(outcomes, 1)
    ]
    status, document = await talk("GET", f"/v1/deliveries/{delivery_text(delivery.id)}")
    assert status == 200
    attempts = [(attempt["number"], attempt["status"], attempt["error"]) for attempt in document["attempts"]]
    assert attempts == [(1, None, {"class": "dns", "text": "no such host"}), (2, 200, None)]


async def test_a_delivery_is_resent_and_cancelled(talk, house):
    house.history.all_deliveries.append(a_delivery())
    target = f"/v1/deliveries/{delivery_text(a_delivery().id)}"
    status, document = await talk("POST", f"{target}/resend")
    assert (status, document["state"]) == (202, "pending")
    status, document = await talk("POST", f"{target}/cancel", b"{}")
    assert (status, document["state"], document["reason"]) == (200, "cancelled", "operator")


async def test_what_has_ended_cannot_be_cancelled(talk, house):
    house.history.all_deliveries.append(a_delivery(state=DeliveryState.DEAD))
    status, document = await talk("POST", f"/v1/deliveries/{delivery_text(a_delivery().id)}/cancel")
    assert (status, document["type"]) == (409, "urn:webhookd:problem:delivery_ended")


async def test_a_delivery_that_is_not_there_is_404(talk):
    for method, end in (("GET", ""), ("POST", "/resend"), ("POST", "/cancel")):
        assert (await talk(method, f"/v1/deliveries/dlv_00000000001{end}"))[0] == 404


# Endpoints.


async def test_an_endpoint_is_made_and_its_secret_shown_once(talk, house):
    body = b'{"url":"https://example.com/?k=v","id":"orders","types":["a*"],"timeout":"5s"}'
    status, document = await talk("POST", "/v1/endpoints", body)
    assert (status, document["id"], document["secret"]) == (201, "orders", "whsec_generated")
    assert document["url"] == "https://example.com/?k=********"
    assert house.directory.keys == [{"url": "https://example.com/?k=v", "types": ["a*"], "timeout": "5s"}]
    _, document = await talk("GET", "/v1/endpoints/orders")
    assert "secret" not in document


async def test_a_secret_that_was_given_is_not_shown(talk):
    status, document = await talk("POST", "/v1/endpoints", b'{"url":"https://example.com/","secret":"whsec_mine"}')
    assert (status, "secret" in document) == (201, False)


async def test_a_sample_is_handed_on_as_its_bytes(talk, house):
    await talk("POST", "/v1/endpoints", b'{"url":"https://e.com/","sample": {"n" : 1e999, "s":"\\ud800"} }')
    await talk("PATCH", "/v1/endpoints/ep_1", b'{"sample":null}', content_type="application/merge-patch+json")
    assert [keys["sample"] for keys in house.directory.keys] == [b'{"n" : 1e999, "s":"\\ud800"}', None]


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("POST", b'{"url":"https://e.com/","id":"A"}', 422),
        ("POST", b'{"url":"https://e.com/","id":7}', 422),
        ("POST", b'{"url":"https://e.com/","url":"https://f.com/"}', 400),
        ("POST", b'{"url":"https://e.com/","timeout":1e999}', 422),
        ("POST", b'{"url":"\\ud800"}', 400),
        ("POST", b"[]", 422),
        ("POST", b"{", 400),
        ("PATCH", b'{"id":"other"}', 422),
        ("PATCH", b'"x"', 422),
    ],
)
async def test_what_is_no_endpoint_is_refused(talk, house, method, body, status):
    house.directory.add("orders")
    target = "/v1/endpoints" if method == "POST" else "/v1/endpoints/orders"
    assert (await talk(method, target, body))[0] == status
    assert house.directory.keys == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_bodies_must_be_declared_as_json(talk, content_type):
    assert (await talk("POST", "/v1/endpoints", b'{"url":"https://e.com/"}', content_type=content_type))[0] == 415


async def test_an_id_that_is_taken_is_409(talk, house):
    house.directory.add("orders")
    status, document = await talk("POST", "/v1/endpoints", b'{"url":"https://e.com/","id":"orders"}')
    assert (status, document["type"]) == (409, "urn:webhookd:problem:endpoint_exists")


async def test_an_endpoint_is_disabled_enabled_and_deleted(talk, house):
    house.directory.add("orders")
    status, document = await talk("POST", "/v1/endpoints/orders/disable")
    assert (status, document["status"], document["disabled_reason"]) == (200, EndpointStatus.DISABLED, "operator")
    assert (await talk("POST", "/v1/endpoints/orders/enable"))[0] == 200
    assert await talk("DELETE", "/v1/endpoints/orders") == (204, None)
    assert (await talk("DELETE", "/v1/endpoints/orders"))[0] == 404


async def test_a_test_send_says_what_came_back(talk, house):
    house.directory.add("orders")
    status, document = await talk("POST", "/v1/endpoints/orders/test")
    assert (status, document["acknowledged"], document["status"], document["error"]) == (200, True, 200, None)
    assert document["duration_ms"] == 12.346
    error = AttemptError(kind=ErrorClass.BLOCKED, text="private address")
    house.directory.outcome = replace(house.directory.outcome, status=None, error=error)
    _, document = await talk("POST", "/v1/endpoints/orders/test")
    assert (document["acknowledged"], document["error"]) == (False, {"class": "blocked", "text": "private address"})


async def test_actions_take_no_keys_and_no_query(talk, house):
    house.directory.add("orders")
    for action in ("test", "enable", "disable"):
        status, document = await talk("POST", f"/v1/endpoints/orders/{action}", b'{"force":true}')
        assert (status, pointers(document)) == (422, ["/force"])
        assert (await talk("POST", f"/v1/endpoints/orders/{action}?force=1"))[0] == 422


@pytest.mark.parametrize("name", ["none", "A", "-a", "x" * 65, "a%00b", "%2e%2e"])
async def test_an_endpoint_that_is_not_there_is_404(talk, name):
    assert (await talk("GET", f"/v1/endpoints/{name}"))[0] == 404


async def test_endpoints_come_in_pages(talk, house):
    for number in range(5):
        house.directory.add(f"e{number}")
    _, first = await talk("GET", "/v1/endpoints?limit=3")
    _, second = await talk("GET", f"/v1/endpoints?limit=3&cursor={first['next']}")
    assert [view["id"] for view in first["data"] + second["data"]] == ["e0", "e1", "e2", "e3", "e4"]
    assert second["next"] is None


# The daemon itself.


async def test_status(talk):
    status, document = await talk("GET", "/v1/status")
    assert status == 200
    assert document["deliveries"] == {"pending": 5, "held": 1, "delivered": 7, "dead": 2, "cancelled": 1}
    assert document["in_flight"] == {"fast": 1, "slow": 2}
    assert document["database"] == {"used_bytes": 4096, "wal_bytes": 0, "free_bytes": 1 << 30}
    assert (document["version"], document["state"], document["oldest_due_at"]) == (
        "9.9.9",
        "ok",
        "2024-01-01T00:00:00.000Z",
    )


@pytest.mark.parametrize(
    ("changes", "slug", "reason"),
    [
        ({"draining": True}, "not_ready_draining", "the daemon is stopping"),
        ({"refusing": "the disk is full"}, "not_ready_refusing", "the disk is full"),
        ({"stuck": "the writer does not answer"}, "not_ready_stuck", "the writer does not answer"),
    ],
)
async def test_readiness_says_why_not(talk, house, changes, slug, reason):
    assert (await talk("GET", "/readyz"))[0] == 200
    house.monitor.now = replace(house.monitor.now, **changes)
    status, document = await talk("GET", "/readyz")
    assert (status, document["type"], document["detail"]) == (503, f"urn:webhookd:problem:{slug}", reason)
    assert (await talk("GET", "/healthz"))[0] == 200


async def test_metrics_are_plain_text(client):
    answer = await client.ask(request("GET", "/metrics"))
    assert (answer.status, answer.body) == (200, b"webhookd_build_info 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_answers_tell_no_versions_of_software(client):
    assert (await client.ask(request("GET", "/healthz"))).headers["server"] == "webhookd"


@pytest.mark.parametrize(("error", "status"), [(StoreUnavailableError(), 503), (ZeroDivisionError("secret"), 500)])
async def test_a_failure_behind_a_route_is_a_problem(talk, house, error, status):
    house.history.error = error
    found, document = await talk("GET", f"/v1/events/{event_text(an_event().id)}")
    assert (found, "secret" in str(document)) == (status, False)
    assert (await talk("GET", "/healthz"))[0] == 200
