"""Whatever an attempt comes to can be recorded: one that could not would end the daemon each time it is made."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.intake import accepted
from webhookd.core.attempt import TEXT_CHARACTERS, AttemptError, ErrorClass, Outcome
from webhookd.core.ids import EndpointId, IdGenerator
from webhookd.core.settings import Storage
from webhookd.store.sqlite import open_store

anything = st.text(st.characters(), max_size=50) | st.text("\ud800\udfff\0\x1b\n\u2028x", max_size=2000)
outcomes = st.builds(
    Outcome,
    duration_ms=st.floats(0, 1e12),
    error=st.builds(AttemptError, kind=st.sampled_from(ErrorClass), text=anything),
    excerpt=st.binary(max_size=4096),
    retry_after_seconds=st.none() | st.floats(0, 1e300),
)


@given(anything)
def test_the_sentence_of_an_error_can_be_printed_and_has_an_end(text):
    kept = AttemptError(kind=ErrorClass.PROTOCOL, text=text).text
    assert kept.isprintable()
    assert len(kept) == min(len(text), TEXT_CHARACTERS)
    assert all(a == b for a, b in zip(text, kept, strict=False) if a.isprintable())


@settings(max_examples=25)
@given(st.lists(outcomes, min_size=1, max_size=20))
def test_it_is_stored_and_comes_back(many):
    async def store_all() -> list[Outcome]:
        ids = IdGenerator()
        with tempfile.TemporaryDirectory() as directory:
            store = await open_store(
                Storage(path=Path(directory) / "webhookd.db"),
                idempotency_window_seconds=60.0,
                clock=VirtualClock(),
                mint=lambda: ids.mint(START_MS),
            )
            try:
                await accepted(store, [builders.submission(to=("a",)) for _ in many])
                batch = await store.due(
                    EndpointId("a"), now_ms=START_MS, limit=100, max_bytes=1 << 20, ordered=False, exclude=()
                )
                told = [
                    builders.retried(work, due_at_ms=START_MS + 1, result=outcome)
                    for work, outcome in zip(batch.work, many, strict=True)
                ]
                await store.settle(told, {})
                return [(await store.attempts(one.attempt.delivery_id))[0].outcome for one in told]
            finally:
                await store.close()

    kept = asyncio.run(store_all())
    assert kept == many
