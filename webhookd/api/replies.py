"""Answers of the operating routes, as aiohttp sends them."""

from __future__ import annotations

import orjson
from aiohttp import web

from webhookd.api.problems import PROBLEM_CONTENT_TYPE, Problem
from webhookd.api.shapes import Json


def reply(document: Json, *, status: int = 200) -> web.Response:
    """Return a JSON answer that nobody keeps a copy of."""
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def problem_reply(problem: Problem) -> web.Response:
    """Return a problem."""
    response = web.Response(
        status=problem.status,
        body=problem.body(),
        content_type=PROBLEM_CONTENT_TYPE,
        headers={"Cache-Control": "no-store"},
    )
    for name, value in problem.headers:
        response.headers[name] = value
    return response
