"""The real daemon under requests made up from its own description, right ones and wrong ones: it answers as it says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from tests.kit.daemon import Daemon, free_port, running_daemon
from tests.kit.described import Judge, roles_of_routes
from webhookd.api.openapi import openapi_document

NOT_FUZZED = {
    "GET /v1/attempts/stream": "an answer to it does not end",
    "POST /v1/backup": "a path that was made up is a place on this machine",
}
SEED = int(os.environ.get("WEBHOOKD_TEST_SEED", "20260102"))
DOCUMENT = schemathesis.openapi.from_dict(openapi_document(roles_of_routes(), version="0"))


@dataclass(slots=True)
class Target:
    """The daemon that is asked, and the names of what there is in it."""

    daemon: Daemon
    session: requests.Session
    known: dict[str, list[str]]
    judge: Judge

    def ask(self, case: Case) -> None:
        """Make the request and judge what comes back."""
        try:
            response = case.call(base_url=self.daemon.url, session=self.session, timeout=10)
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
            # What no client can send, this one cannot either.
            return
        request = response.request
        assert request.method is not None
        assert request.path_url
        wrong = self.judge.judge(
            request.method,
            request.path_url,
            response.status_code,
            response.headers.get("content-type", [""])[0],
            response.content,
        )
        assert wrong == []
        assert response.status_code < 500, response.content


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    # Whatever URL is made up, nothing but this address is dialled, and nobody is there.
    network = {"proxy": f"http://127.0.0.1:{free_port()}", "drain_timeout": "1s"}
    async with running_daemon(tmp_path, {"network": network}) as daemon:
        for name in ("orders", "users"):
            keys = {"id": name, "url": "https://receiver.example/hook", "types": ["order.*"], "retry": ["1d"]}
            assert (await daemon.post("/v1/endpoints", keys)).status == 201
        events = [(await daemon.send("order.paid", {"n": n}))["id"] for n in range(3)]
        deliveries = [delivery["id"] for delivery in await daemon.deliveries()]
        known = {"events": events, "endpoints": ["orders", "users"], "deliveries": deliveries}
        with requests.Session() as session:
            session.trust_env = False
            yield Target(daemon, session, known, Judge())
        assert daemon.log_entries("request.failed") == []
        assert (await daemon.get("/readyz")).status == 200
        assert await daemon.terminate() == 0


OPERATIONS = [
    operation
    for result in DOCUMENT.get_all_operations()
    if f"{(operation := result.ok()).method.upper()} {operation.path}" not in NOT_FUZZED
]


def fuzz(target: Target, operation: schemathesis.APIOperation, *, examples: int) -> None:
    kind = operation.path.split("/")[2] if operation.path.startswith("/v1/") else ""
    for mode in GenerationMode:
        # An id may be any text, so with nothing beside it there is nothing to be got wrong.
        if mode.is_negative and not (operation.query or operation.body or "{type}" in operation.path):
            continue

        @seed(SEED)
        @settings(
            max_examples=examples,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            deadline=None,
        )
        @given(
            case=operation.as_strategy(generation_mode=mode),
            name=st.sampled_from([None, *target.known.get(kind, [])]),
        )
        def ask(case: Case, name: str | None) -> None:
            if name is not None and "{id}" in case.path:
                case.path_parameters["id"] = name
            target.ask(case)

        ask()


def test_what_is_made_up_from_the_description_is_answered_as_described(target: Target) -> None:
    for operation in OPERATIONS:
        fuzz(target, operation, examples=8)
    assert len({route for route, _ in target.judge.seen}) == len(OPERATIONS)


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_the_same_at_length(target: Target, operation: schemathesis.APIOperation) -> None:
    fuzz(target, operation, examples=200)
