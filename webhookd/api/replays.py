"""What a replay is asked for with: which of an endpoint's ended deliveries."""

from __future__ import annotations

from collections.abc import Mapping

from webhookd.api.params import TYPE_GLOB, plain_value, refuse_unknown
from webhookd.api.problems import invalid
from webhookd.core.delivery import DeliveryState
from webhookd.core.ids import EndpointId
from webhookd.core.queries import ReplayFilter
from webhookd.core.times import parse_time_ms
from webhookd.errors import Fault

MOST_TYPES = 100

_STATES = {state.value: state for state in DeliveryState if state is not DeliveryState.PENDING}


def read_replay(endpoint_id: EndpointId, members: Mapping[str, bytes]) -> tuple[ReplayFilter, bool]:
    """Return what to replay, and whether only to count it. Raises InvalidRequestError with a Fault for each key."""
    refuse_unknown(members, ("since", "until", "states", "types", "dry_run"))
    values = {key: plain_value(key, text) for key, text in members.items()}
    faults: list[Fault] = []
    times: dict[str, int | None] = {}
    for key in ("since", "until"):
        given = values.get(key)
        times[key] = parse_time_ms(given) if isinstance(given, str) else None
        if given is not None and times[key] is None:
            faults.append(Fault(f"/{key}", "must be an RFC 3339 time such as 2026-01-02T03:04:05Z"))
    states = _texts(values.get("states", ["dead"]))
    if not states or not set(states) <= set(_STATES):
        faults.append(Fault("/states", f"must be a list with some of {', '.join(_STATES)}"))
    types = _texts(values.get("types", []))
    if types is None or len(types) > MOST_TYPES or not all(map(TYPE_GLOB.match, types)):
        faults.append(Fault("/types", f"must be a list of up to {MOST_TYPES} event types or globs"))
    dry_run = values.get("dry_run", False)
    if not isinstance(dry_run, bool):
        faults.append(Fault("/dry_run", "must be true or false"))
    if faults:
        raise invalid("invalid_body", "the replay is asked for in a wrong way", *faults)
    which = ReplayFilter(
        endpoint_id=endpoint_id,
        states=tuple(_STATES[state] for state in states or ()),
        types=tuple(types or ()),
        since_ms=times["since"],
        until_ms=times["until"],
    )
    return which, dry_run is True


def _texts(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None
