"""What README.md lets a reader copy and paste: every block as it stands there, against the real daemon."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.contracts import profile
from tests.kit.desk import Desk, blocks, opened_desk

README = Path(__file__).parents[2] / "README.md"
FIRST, FLYBUY = "first delivery", "flybuy"
ORDER = {
    FIRST: ["prepare", "serve", "listen", "unix", "tcp", "look"],
    FLYBUY: ["prepare", "serve", "listen", "press", "send", "look"],
}

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt-get install curl")


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with opened_desk(README, request.param, "8470", "8471") as opened:
        yield opened


@pytest.mark.parametrize("story", ORDER)
def test_the_readme_has_every_step_in_order(story):
    assert list(blocks(README, story)) == ORDER[story]


@needs_curl
@pytest.mark.parametrize("desk", [FIRST], indirect=True)
def test_the_first_delivery_works_as_it_is_written(desk):
    assert desk.run("prepare").strip() == "good"
    assert (desk.directory / "orders.secret").stat().st_mode & 0o077 == 0
    desk.start("serve")
    desk.start("listen")
    desk.wait_until_ready()
    desk.wait_for("listen", "listening on")

    answers = [json.loads(desk.run("unix")), json.loads(desk.run("tcp"))]
    assert [(answer["duplicate"], answer["deliveries"]) for answer in answers] == [(False, 1), (False, 1)]
    desk.wait_for("listen", "signature holds", times=2)
    for payload in ('{"order": 17, "total": "40.00"}', '{"order": 18, "total": "12.50"}'):
        assert payload in desk.output("listen")
    for answer in answers:
        assert f"webhook-id: {answer['id']}" in desk.output("listen")

    repeated = json.loads(desk.run("tcp"))
    assert repeated == {**answers[1], "duplicate": True}

    # The receiver prints a request before its answer is on record here.
    looked = desk.run_until("look", "2 delivered")
    assert len(re.findall(r"^dlv_\w+ +delivered +order\.completed +orders +1 ", looked, re.MULTILINE)) == 2
    assert f"{answers[1]['id']} (order.completed)" in looked, "what is shown is the latest delivery"

    assert desk.stop("serve") == 0, desk.output("serve")


def test_the_flybuy_profile_of_the_readme_is_that_of_the_example():
    (written,) = re.findall(r"<<'END'\n(.*?)^END$", blocks(README, FLYBUY)["prepare"], re.DOTALL | re.MULTILINE)
    assert tomllib.loads(written)["profiles"] == {"flybuy": profile("flybuy")}


@pytest.mark.parametrize("desk", [FLYBUY], indirect=True)
def test_the_flybuy_profile_is_set_up_as_it_is_written(desk):
    assert "+1d 18h 35m" in desk.run("prepare")
    desk.start("serve")
    desk.start("listen")
    desk.wait_until_ready()
    desk.wait_for("listen", "listening on")

    assert "acknowledged" in desk.run("press")
    desk.wait_for("listen", '"customer_state": "sample"')
    assert "1 delivery" in desk.run("send")
    desk.wait_for("listen", '"customer_state": "arrived"')
    desk.wait_for("listen", 'Authorization: Token token="FB-7Q2XK9"', times=2)
    names = set(re.findall(r"^  ([\w-]+): ", desk.output("listen"), re.MULTILINE))
    assert names == {"Host", "Content-Length", "Content-Type", "Accept", "Authorization"}

    looked = desk.run_until("look", "delivered")
    assert len(re.findall(r"^dlv_\w+ ", looked, re.MULTILINE)) == 1, "pressing the button makes no delivery"
    assert desk.stop("serve") == 0, desk.output("serve")
