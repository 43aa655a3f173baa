"""Whatever comes and goes, the index answers like a loop over all endpoints with fnmatch."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tests.kit import builders
from webhookd.core.ids import EndpointId
from webhookd.core.matching import Matcher, mismatch
from webhookd.core.payloads import Payload

EVENT_TENANTS = ["default", "blue", "webhookd"]
ENDPOINT_TENANTS = [*EVENT_TENANTS, "*"]
letters = st.sampled_from("ab.")
event_types = st.text(letters, min_size=1, max_size=6)
globs = st.lists(
    st.one_of(letters, st.sampled_from(["*", "?", "[ab]", "[!a]", "[", "]", "[b-a]"])), min_size=1, max_size=6
).map("".join)
subscriptions = st.lists(globs, max_size=4).map(tuple)
names = st.sampled_from([EndpointId(f"e{number}") for number in range(6)])

puts = st.tuples(st.just("put"), names, st.sampled_from(ENDPOINT_TENANTS), subscriptions)
discards = st.tuples(st.just("discard"), names)


def is_owed(event_tenant: str, event_type: str, tenant: str, types: tuple[str, ...]) -> bool:
    of_tenant = event_tenant == tenant or (tenant == "*" and event_tenant != "webhookd")
    return of_tenant and (not types or any(fnmatchcase(event_type, glob) for glob in types))


@given(st.lists(st.one_of(puts, puts, discards), max_size=20), st.lists(event_types, min_size=1, max_size=4))
def test_the_index_answers_like_a_loop_over_all_endpoints(steps, asked):
    matcher = Matcher()
    endpoints: dict[EndpointId, tuple[str, tuple[str, ...]]] = {}
    for step in steps:
        match step:
            case ("put", name, tenant, types):
                matcher.put(name, tenant, types)
                endpoints[name] = (tenant, types)
            case (_, name):
                matcher.discard(name)
                endpoints.pop(name, None)
        for tenant, event_type in product(EVENT_TENANTS, asked):
            found = matcher.match(tenant, event_type)
            assert len(set(found)) == len(found)
            assert set(found) == {name for name, rule in endpoints.items() if is_owed(tenant, event_type, *rule)}


@given(st.sampled_from(EVENT_TENANTS), event_types, st.sampled_from(ENDPOINT_TENANTS), subscriptions)
def test_a_reason_is_given_exactly_where_nothing_is_owed(event_tenant, event_type, tenant, types):
    endpoint = builders.endpoint(tenant=tenant, types=types)
    reason = mismatch(event_tenant, event_type, Payload(b"{}", "application/json"), endpoint)
    assert (reason is None) == is_owed(event_tenant, event_type, tenant, types)


@given(subscriptions, event_types)
def test_an_endpoint_of_every_tenant_never_gets_operational_events(types, event_type):
    matcher = Matcher()
    matcher.put(EndpointId("all"), "*", types)
    assert matcher.match("webhookd", event_type) == ()
