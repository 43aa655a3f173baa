"""Rotating secrets in the engine: both sign for as long as was asked, over restarts too, and then only the new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit import builders
from tests.kit.clock import START_MS, VirtualClock
from tests.kit.engine import EngineUnderTest, running_engine
from webhookd.config import Schema, load_settings
from webhookd.core.ids import EndpointId
from webhookd.errors import ConflictError, InvalidRequestError, NotFoundError

HOUR_MS = 3_600_000
FIRST = "whsec_" + "A" * 32
SECOND = "whsec_" + "B" * 32
HOOK = EndpointId("hook")


@pytest.fixture
async def engine(clock: VirtualClock, tmp_path: Path):
    async with running_engine(clock, tmp_path / "db") as running:
        running.directory.schema = Schema(load_settings(None, environ={"HOME": str(tmp_path)}))
        yield running


async def make(engine: EngineUnderTest, secret: str | None = FIRST, **keys: object) -> str | None:
    given = {"url": "https://receiver.example/", **({} if secret is None else {"secret": secret}), **keys}
    return (await engine.directory.create(HOOK, given))[1]


def secrets_of(engine: EngineUnderTest) -> tuple[str | None, str | None, int | None]:
    definition = engine.live(HOOK).definition
    assert definition is not None
    return definition.secret, definition.previous_secret, definition.previous_secret_until_ms


async def test_the_old_secret_signs_on_for_the_overlap(engine):
    await make(engine)
    view, secret = await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=None)
    assert secret.startswith("whsec_")
    assert secrets_of(engine) == (secret, FIRST, START_MS + HOUR_MS)
    assert view.record.previous_secret_until_ms == START_MS + HOUR_MS
    (stored,) = await engine.store.endpoints()
    assert (stored.secret, stored.previous_secret, stored.previous_secret_until_ms) == (
        secret,
        FIRST,
        START_MS + HOUR_MS,
    )


async def test_without_an_overlap_only_the_new_one_signs(engine):
    await make(engine)
    await engine.directory.rotate(HOOK, overlap_seconds=0, secret=SECOND)
    assert secrets_of(engine) == (SECOND, None, None)


async def test_a_second_rotation_ends_the_first_overlap(engine):
    await make(engine)
    await engine.directory.rotate(HOOK, overlap_seconds=7200, secret=SECOND)
    _, third = await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=None)
    assert secrets_of(engine) == (third, SECOND, START_MS + HOUR_MS)


async def test_rotating_to_the_same_secret_again_changes_nothing(engine):
    """A repeated request, after an answer that was lost, must not push out the secret that receivers still have."""
    await make(engine)
    await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=SECOND)
    await engine.directory.rotate(HOOK, overlap_seconds=0, secret=SECOND)
    assert secrets_of(engine) == (SECOND, FIRST, START_MS + HOUR_MS)


async def test_other_changes_leave_an_overlap_alone_until_it_is_over(engine, clock):
    await make(engine)
    await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=SECOND)
    await engine.directory.update(HOOK, {"description": "x"})
    assert secrets_of(engine) == (SECOND, FIRST, START_MS + HOUR_MS)
    await clock.run_until(START_MS + HOUR_MS)
    await engine.directory.update(HOOK, {"description": "y"})
    assert secrets_of(engine) == (SECOND, None, None)


async def test_a_secret_that_is_set_is_the_only_one_from_then_on(engine):
    await make(engine)
    await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=SECOND)
    await engine.directory.update(HOOK, {"secret": "whsec_" + "C" * 32})
    assert secrets_of(engine) == ("whsec_" + "C" * 32, None, None)


async def test_a_generated_secret_fits_the_scheme(engine):
    made = await make(engine, None, signatures=[{"scheme": "ed25519"}])
    assert made is not None
    assert made.startswith("whsk_")
    _, following = await engine.directory.rotate(HOOK, overlap_seconds=1, secret=None)
    assert following.startswith("whsk_")
    assert following != made


async def test_a_token_that_only_stands_in_a_header_can_be_rotated(engine):
    await make(engine, "token", signatures=[], headers={"Authorization": "Bearer {secret}"})
    _, following = await engine.directory.rotate(HOOK, overlap_seconds=0, secret=None)
    assert secrets_of(engine)[0] == following


async def test_what_does_not_fit_is_refused_and_nothing_changes(engine):
    await make(engine)
    with pytest.raises(InvalidRequestError) as caught:
        await engine.directory.rotate(HOOK, overlap_seconds=3600, secret="not base64!")
    assert [fault.pointer for fault in caught.value.faults] == ["/secret"]
    assert secrets_of(engine) == (FIRST, None, None)


async def test_without_a_secret_there_is_nothing_to_rotate(engine):
    await make(engine, None, signatures=[])
    with pytest.raises(ConflictError) as caught:
        await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=None)
    assert caught.value.slug == "no_secret"
    with pytest.raises(NotFoundError):
        await engine.directory.rotate(EndpointId("none"), overlap_seconds=3600, secret=None)


async def test_a_declared_endpoint_is_changed_in_its_file(clock: VirtualClock, tmp_path: Path) -> None:
    async with running_engine(clock, tmp_path, builders.endpoint(declared=True)) as engine:
        with pytest.raises(ConflictError) as caught:
            await engine.directory.rotate(builders.ORDERS, overlap_seconds=3600, secret=None)
        assert caught.value.slug == "endpoint_declared"


@pytest.mark.parametrize(("passed_ms", "previous"), [(HOUR_MS - 1, FIRST), (HOUR_MS, None)])
async def test_an_overlap_outlives_the_process_and_an_old_secret_does_not(
    clock: VirtualClock, tmp_path: Path, passed_ms: int, previous: str | None
) -> None:
    async with running_engine(clock, tmp_path) as engine:
        await make(engine)
        await engine.directory.rotate(HOOK, overlap_seconds=3600, secret=SECOND)
    await clock.run_until(START_MS + passed_ms)
    async with running_engine(clock, tmp_path) as engine:
        assert secrets_of(engine)[:2] == (SECOND, previous)
        (stored,) = await engine.store.endpoints()
        assert stored.previous_secret == previous
        assert replace(stored, previous_secret=None, previous_secret_until_ms=None).secret == SECOND
