"""Whatever comes back in whatever order, sending pauses only with witnesses enough and always finds out again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.attempt import AttemptError, ErrorClass, Outcome
from webhookd.core.outage import (
    FEWEST_HOSTS,
    PROBE_MOST_SECONDS,
    QUIET_SECONDS,
    WITHIN_SECONDS,
    Outage,
    Sign,
    sign_of,
)

OUTCOMES = (
    Outcome(duration_ms=1.0, status=200),
    *(
        Outcome(duration_ms=1.0, error=AttemptError(kind=kind, text="x"))
        for kind in (ErrorClass.LOCAL, ErrorClass.LOCAL, ErrorClass.LOCAL, ErrorClass.TIMEOUT, ErrorClass.BLOCKED)
    ),
)
steps = st.lists(
    st.tuples(st.floats(0, 4), st.integers(0, 40), st.sampled_from(OUTCOMES[1:] * 12 + OUTCOMES[:1])), max_size=300
)


@given(steps)
def test_it_is_down_exactly_when_there_are_witnesses_enough_and_a_probe_always_comes(taken):
    outage, now, seen, life = Outage(), 0.0, {}, -10.0
    for wait, number, outcome in taken:
        now += wait / 4
        was_down = outage.began_at is not None
        if not outage.allows(now):
            assert outage.probe_at <= now + PROBE_MOST_SECONDS
            now = outage.probe_at
        assert outage.allows(now)
        probe = outage.started(now)
        assert probe is was_down
        outage.landed(f"https://{number}.example/", outcome, now=now, started=now, probe=probe)
        sign = sign_of(outcome)
        if sign is Sign.LIFE:
            seen, life = {}, now
            assert outage.began_at is None
            continue
        if was_down:
            assert outage.began_at is not None
            continue
        if outcome.error.kind is not ErrorClass.BLOCKED:
            seen[number] = (now, sign)
        seen = {number: last for number, last in seen.items() if last[0] >= now - WITHIN_SECONDS}
        without = sum(sign is Sign.NO_WAY for _, sign in seen.values())
        enough = (
            now >= life + QUIET_SECONDS
            and sign is Sign.NO_WAY
            and len(seen) >= FEWEST_HOSTS
            and 2 * without >= len(seen)
        )
        assert (outage.began_at is not None) is enough
