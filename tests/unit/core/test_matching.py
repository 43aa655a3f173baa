"""An event is owed to the endpoints of its tenant that subscribe to its type, found without asking each of them."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from tests.kit import builders
from webhookd.core.filtering import EVERYTHING, AnyOf, Condition, Where
from webhookd.core.ids import EndpointId
from webhookd.core.matching import Matcher, looks_inside, mismatch, takes
from webhookd.core.payloads import Payload
from webhookd.core.settings import Body, DeliveryRules

A, B = EndpointId("a"), EndpointId("b")
JSON = Payload(b'{"status":"paid"}', "application/json")
CSV = Payload(b"a,b", "text/csv")
PAID = Where((Condition(pointer="/status", tests=(AnyOf(("paid",)),)),))
ENVELOPED = DeliveryRules(body=Body.ENVELOPE)


def matcher(*subscriptions: tuple[str, str, tuple[str, ...]]) -> Matcher:
    built = Matcher()
    for name, tenant, types in subscriptions:
        built.put(EndpointId(name), tenant, types)
    return built


def calls_made(matching: Matcher, tenant: str, event_type: str) -> int:
    """Count every function entered and every method of dict, Counter and re called for one question."""
    made = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # A collection calls back into whoever listens for them, and those calls are not ours.
    sys.setprofile(count)
    try:
        matching.match(tenant, event_type)
    finally:
        sys.setprofile(before)
        gc.enable()
    return made


@pytest.mark.parametrize(
    ("types", "event_type", "owed"),
    [
        ((), "order.completed", True),
        (("order.completed",), "order.completed", True),
        (("order.completed",), "order.completed.late", False),
        (("order.completed",), "Order.completed", False),
        (("order.*",), "order.completed", True),
        (("order.*",), "order.", True),
        (("order.*",), "order", False),
        (("order.*",), "reorder.completed", False),
        (("*.completed",), "order.completed", True),
        (("*",), "anything", True),
        (("order?completed",), "order_completed", True),
        (("order?completed",), "order_is_completed", False),
        (("v[12].*",), "v2.order", True),
        (("v[12].*",), "v3.order", False),
        (("v[!12].*",), "v3.order", True),
        (("user.*", "order.*"), "order.completed", True),
        (("user.*", "order.*"), "invoice.paid", False),
    ],
)
def test_types_are_globs_over_the_whole_type(types, event_type, owed):
    assert matcher(("a", "t", types)).match("t", event_type) == ((A,) if owed else ())


def test_a_dot_in_a_glob_is_only_a_dot():
    assert matcher(("a", "t", ("order.*",))).match("t", "order_completed") == ()


def test_an_endpoint_gets_only_its_own_tenants_events():
    assert matcher(("a", "blue", ()), ("b", "green", ())).match("blue", "x") == (A,)


def test_an_endpoint_of_every_tenant_gets_each_tenants_events():
    matching = matcher(("a", "*", ("order.*",)))
    assert matching.match("blue", "order.x") == matching.match("green", "order.x") == (A,)


def test_an_endpoint_of_every_tenant_never_gets_operational_events():
    assert matcher(("a", "*", ()), ("b", "webhookd", ())).match("webhookd", "webhookd.endpoint.disabled") == (B,)


def test_an_endpoint_that_subscribes_twice_gets_an_event_once():
    matching = matcher(("a", "t", ("order.completed", "order.*", "*", "order.*")))
    assert matching.match("t", "order.completed") == (A,)


def test_another_subscription_replaces_the_one_before():
    matching = matcher(("a", "t", ("order.*",)))
    assert matching.match("t", "order.x") == (A,)
    matching.put(A, "t", ("user.*",))
    assert matching.match("t", "order.x") == ()
    assert matching.match("t", "user.x") == (A,)


def test_another_tenant_replaces_the_one_before():
    matching = matcher(("a", "blue", ()))
    matching.put(A, "green", ())
    assert matching.match("blue", "x") == ()
    assert matching.match("green", "x") == (A,)


def test_a_discarded_endpoint_leaves_those_with_the_same_glob_alone():
    matching = matcher(("a", "t", ("order.*", "order.*")), ("b", "t", ("order.*",)))
    matching.discard(A)
    assert matching.match("t", "order.x") == (B,)


def test_an_answer_given_before_does_not_outlive_its_endpoint():
    matching = matcher(("a", "t", ()))
    assert matching.match("t", "x") == (A,)
    matching.discard(A)
    assert matching.match("t", "x") == ()


def test_an_answer_given_before_does_not_hide_a_new_endpoint():
    matching = matcher(("a", "t", ()))
    assert matching.match("t", "x") == (A,)
    matching.put(B, "t", ())
    assert matching.match("t", "x") == (A, B)


def test_discarding_what_is_not_there_changes_nothing():
    matching = matcher(("a", "t", ()))
    matching.discard(B)
    assert matching.match("t", "x") == (A,)


def test_endpoints_that_come_and_go_leave_nothing_behind():
    matching = Matcher()
    for number in range(100):
        matching.put(A, f"tenant-{number}", (f"type-{number}", f"glob-{number}-*"))
    matching.discard(A)
    assert (matching._tenants, matching._entries) == ({}, {})  # noqa: SLF001


def test_remembered_answers_stay_within_their_bound_and_right():
    matching = matcher(("a", "t", ("order.*",)))
    for number in range(20_000):
        assert matching.match("t", f"order.{number}") == (A,)
        assert matching.match("t", f"user.{number}") == ()
    assert len(matching._remembered) <= 8192  # noqa: SLF001


OTHERS = {
    "of other tenants": lambda number: (f"tenant-{number}", ()),
    "with other types": lambda number: ("t", (f"order.{number}",)),
    "with globs of as long other prefixes": lambda number: ("t", (f"user.{number:05}.*",)),
    "with the same type": lambda _: ("t", ("order.completed",)),
    "with the same glob": lambda _: ("t", ("order.*",)),
    "with every type": lambda _: ("t", ()),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_ten_thousand_endpoints_cost_no_more_look_ups_than_ten(other):
    few, many = (matcher(*((f"e{n}", *other(n)) for n in range(count))) for count in (10, 10_000))
    assert calls_made(many, "t", "order.completed") == calls_made(few, "t", "order.completed")


def test_the_count_of_look_ups_sees_globs_that_must_each_be_tried():
    few, many = (matcher(*((f"e{n}", "t", (f"*{n}",)) for n in range(count))) for count in (10, 20))
    assert calls_made(many, "t", "order.completed") > calls_made(few, "t", "order.completed")


def test_a_question_asked_before_costs_one_look_up():
    matching = matcher(*((f"e{n}", "t", (f"*{n}",)) for n in range(1000)))
    matching.match("t", "order.completed")
    assert calls_made(matching, "t", "order.completed") <= 4  # ours, match, dict.get, setprofile


def explained(event_tenant: str, event_type: str, payload: Payload = JSON, **endpoint: Any) -> str | None:
    return mismatch(event_tenant, event_type, payload, builders.endpoint(**endpoint))


def test_an_event_of_another_tenant_is_explained_by_its_tenant():
    assert explained("blue", "x", tenant="green") == "gets events of tenant 'green', this one is of 'blue'"


def test_an_operational_event_is_not_for_an_endpoint_of_every_tenant():
    assert explained("webhookd", "x", tenant="*") is not None


def test_a_type_that_is_not_subscribed_to_is_explained_by_the_subscriptions():
    reason = explained("t", "order.x", tenant="t", types=("user.*", "invoice"))
    assert reason == "subscribes to user.*, invoice; order.x is none of these"


def test_an_event_that_is_owed_needs_no_explanation():
    assert explained("t", "order.x", tenant="*", types=("order.*",), where=PAID) is None


def test_a_payload_that_does_not_pass_is_explained_by_the_filter():
    reason = explained("t", "x", Payload(b'{"status":"failed"}', "application/json"), tenant="t", where=PAID)
    assert reason == 'where /status is "failed", wanted paid'


def test_an_envelope_that_cannot_be_closed_around_a_payload_is_explained():
    reason = explained("t", "x", Payload(b"a,b", "text/csv"), tenant="t", rules=ENVELOPED)
    assert reason == "body = envelope takes JSON payloads only, this one is text/csv"


@pytest.mark.parametrize(
    ("where", "rules", "payload", "taken"),
    [
        (EVERYTHING, DeliveryRules(), CSV, True),
        (EVERYTHING, ENVELOPED, CSV, False),
        (EVERYTHING, ENVELOPED, JSON, True),
        (PAID, DeliveryRules(), CSV, False),
        (PAID, DeliveryRules(), JSON, True),
        (PAID, ENVELOPED, JSON, True),
        (PAID, ENVELOPED, Payload(b"{}", "application/json"), False),
    ],
)
def test_what_is_taken_is_what_needs_no_explanation(where, rules, payload, taken):
    endpoint = builders.endpoint(tenant="t", where=where, rules=rules)
    assert takes(endpoint, payload) is taken
    assert (mismatch("t", "x", payload, endpoint) is None) is taken
    assert looks_inside(endpoint) is (where is PAID or rules is ENVELOPED)
