"""The receivers of docs/receivers.md, as they stand there, against requests of the real daemon."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.kit.contracts import command, hand_in, keep, payload
from tests.kit.daemon import Daemon, eventually, free_port, running_daemon
from tests.kit.receiver import Receiver, Request

PAGE = Path(__file__).parents[2] / "docs" / "receivers.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret, 24 bytes").decode()
PATIENCE_SECONDS = 240.0
"""A first build of Go's cryptography takes a while on a small machine."""

DRIVERS = {
    "python": (
        "main.py",
        """
import base64, json, sys
from verify import verify
for case in json.load(sys.stdin):
    print(json.dumps(verify(case["secret"], case["headers"], base64.b64decode(case["body"]))))
""",
    ),
    "node": (
        "main.mjs",
        """
import { readFileSync } from "node:fs";
import { verify } from "./verify.mjs";
for (const { secret, headers, body } of JSON.parse(readFileSync(0, "utf8")))
  console.log(verify(secret, headers, Buffer.from(body, "base64")));
""",
    ),
    "go": (
        "cmd/main.go",
        """
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"example/receiver"
)

func main() {
	var cases []struct {
		Secret  string
		Headers map[string]string
		Body    []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	for _, one := range cases {
		fmt.Println(receiver.Verify(one.Secret, func(name string) string { return one.Headers[name] }, one.Body))
	}
}
""",
    ),
}
NODE_SERVER = """
import { appendFileSync, readFileSync } from "node:fs";
import { receiver } from "./receiver.mjs";
const known = new Set();
const remember = async (id, body) => {
  if (!known.has(id)) appendFileSync("inbox.txt", `${id} ${body.toString("base64")}\\n`);
  known.add(id);
};
receiver(readFileSync("orders.secret", "utf8").trim(), remember).listen(Number(process.argv[2]), "127.0.0.1");
"""
GO_SERVER = """
package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"example/receiver"
)

func main() {
	var mu sync.Mutex
	known := map[string]bool{}
	remember := func(id string, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if known[id] {
			return nil
		}
		known[id] = true
		inbox, err := os.OpenFile("inbox.txt", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer inbox.Close()
		_, err = fmt.Fprintf(inbox, "%s %s\\n", id, base64.StdEncoding.EncodeToString(body))
		return err
	}
	secret, err := os.ReadFile("orders.secret")
	if err != nil {
		panic(err)
	}
	handler := receiver.Handler(strings.TrimSpace(string(secret)), remember)
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], handler))
}
"""
LANGUAGES = {"python": "Python", "node": "Node", "go": "Go"}
ENDINGS = {"python": "py", "node": "mjs", "go": "go"}

needs = {
    name: pytest.mark.skipif(name != "python" and shutil.which(name) is None, reason=f"no {name} on this machine")
    for name in LANGUAGES
}


def files() -> dict[str, str]:
    """Return the files of the page by name."""
    found = re.findall(r"^<!-- file: ([\w.]+) -->\n```\w+\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return dict(found)


def write(directory: Path, language: str, *names: str) -> None:
    """Write files of the page, and what makes a module of them."""
    for name in names:
        (directory / name).write_text(files()[name])
    if language == "go":
        (directory / "go.mod").write_text("module example/receiver\n\ngo 1.20\n")


def run_of(directory: Path, language: str, name: str, source: str) -> list[str]:
    """Write a program beside the files, and return the command that runs it; Go's is built first."""
    program = directory / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(source)
    match language:
        case "python":
            return [sys.executable, name]
        case "node":
            return ["node", name]
        case _:
            built = directory / "built"
            # Without leave to fetch anything: a receiver needs nothing but the standard library.
            environ = {**os.environ, "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
            done = subprocess.run(
                ["go", "build", "-o", str(built), f"./{program.parent.name}"],
                cwd=directory,
                env=environ,
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
            )
            assert done.returncode == 0, done.stderr
            return [str(built)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request to be judged, and how."""

    what: str
    good: bool
    headers: dict[str, str]
    body: bytes
    secret: str = SECRET

    def holds(self) -> bool:
        """Say whether the reference library takes the request."""
        try:
            Webhook(self.secret).verify(self.body, self.headers)
        except (WebhookVerificationError, ValueError):
            # What it cannot even read is refused with whatever its parts raise.
            return False
        return True


def lowered(request: Request) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in request.headers}


async def captured(directory: Path) -> list[Request]:
    """Return requests as the daemon makes them, the last one in the middle of a change of secrets."""
    async with Receiver() as receiver, running_daemon(directory) as daemon:
        made = {"url": receiver.url, "id": "made", "secret": OTHER}
        assert (await daemon.post("/v1/endpoints", made)).status == 201
        rotated = await daemon.post("/v1/endpoints/made/rotate-secret", {"overlap": "1h", "secret": SECRET})
        assert rotated.status == 200
        for name in ("chord-order", "flybuy-order"):
            await hand_in(daemon, "order.completed", payload(name))
        binary = {"Content-Type": "application/octet-stream"}
        assert (await daemon.post("/v1/events/blob", bytes(range(256)), headers=binary)).status == 202
        return await receiver.wait_for(3)


def cases(requests: list[Request]) -> list[Case]:
    """Return the requests, and what somebody might make of the first of them."""
    true = [
        Case(what=f"as sent, {number}", good=True, headers=lowered(request), body=request.body)
        for number, request in enumerate(requests)
    ]
    headers, body = true[0].headers, true[0].body
    signature, at = headers["webhook-signature"], headers["webhook-timestamp"]
    assert signature.count("v1,") == 2
    ours, _, previous = signature.partition(" ")

    def changed(what: str, *, good: bool = False, **names: str | None) -> Case:
        new = {**headers, **{f"webhook-{name}": value for name, value in names.items()}}
        kept = {name: value for name, value in new.items() if value is not None}
        return Case(what=what, good=good, headers=kept, body=body)

    def with_body(what: str, other: bytes) -> Case:
        return Case(what=what, good=False, headers=headers, body=other)

    return [
        *true,
        Case(what="the old secret", good=True, headers=headers, body=body, secret=OTHER),
        Case(what="no prefix", good=True, headers=headers, body=body, secret=SECRET.removeprefix("whsec_")),
        Case(what="another secret", good=False, headers=headers, body=body, secret="whsec_bm90IHRoaXMgb25l"),
        changed("ours alone", good=True, signature=ours),
        changed("ours behind others", good=True, signature=f"v1a,abc {previous} {ours}"),
        with_body("a byte more", body + b" "),
        with_body("a byte less", body[:-1]),
        with_body("another body", true[1].body),
        with_body("no body", b""),
        changed("another id", id="evt_0000"),
        changed("fresher than signed", timestamp=str(int(at) + 1)),
        changed("no time", timestamp="soon"),
        changed("an empty time", timestamp=""),
        changed("a superscript two", timestamp="\u00b2"),
        changed("endless digits", timestamp="9" * 5000),
        changed("an unknown version", signature=ours.replace("v1,", "v2,")),
        changed("no version", signature=ours.removeprefix("v1,")),
        changed("cut short", signature=ours[:-5]),
        changed("an empty signature", signature=""),
        changed("only a version", signature="v1,"),
        changed("not ASCII", signature="v1,\u00fc\u00fc"),
        changed("no signature", signature=None),
        changed("no timestamp", timestamp=None),
        changed("no id", id=None),
        *(at_another_time(what, seconds, good=good) for what, seconds, good in TIMES),
    ]


TIMES = (
    ("four minutes old", -240, True),
    ("too old", -360, False),
    ("a fast clock", 240, True),
    ("from the future", 360, False),
)


def at_another_time(what: str, seconds: int, *, good: bool) -> Case:
    """Return a request that was signed well, so many seconds from now."""
    body, moment = b'{"n": 1}', datetime.now(UTC) + timedelta(seconds=seconds)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("evt_1", moment, body.decode()),
    }
    return Case(what=what, good=good, headers=headers, body=body)


def test_the_page_has_a_check_and_a_receiver_for_each_language():
    assert list(files()) == [f"{name}.{ending}" for ending in ENDINGS.values() for name in ("verify", "receiver")]
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert headings == list(LANGUAGES.values())


async def test_the_reference_library_judges_the_cases_as_they_are_meant(tmp_path: Path) -> None:
    judged = [case for case in cases(await captured(tmp_path)) if case.body[:1] == b"{"]
    assert {case.what: case.holds() for case in judged} == {case.what: case.good for case in judged}
    assert len({case.what for case in judged}) == len(judged) > 25


@pytest.mark.parametrize("language", [pytest.param(name, marks=needs[name]) for name in LANGUAGES])
async def test_a_check_takes_what_is_signed_and_fresh_and_nothing_else(tmp_path: Path, language: str) -> None:
    write(tmp_path, language, f"verify.{ENDINGS[language]}")
    run = run_of(tmp_path, language, *DRIVERS[language])
    judged = cases(await captured(tmp_path))
    asked = [
        {"secret": case.secret, "headers": case.headers, "body": base64.b64encode(case.body).decode()}
        for case in judged
    ]
    done = subprocess.run(
        run, cwd=tmp_path, input=json.dumps(asked), check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = zip([case.what for case in judged], map(json.loads, done.stdout.split()), strict=True)
    assert dict(said) == {case.what: case.good for case in judged}


async def is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


@contextlib.asynccontextmanager
async def serving(directory: Path, run: list[str]) -> AsyncIterator[str]:
    port = free_port()
    with (directory / "receiver.log").open("wb") as log:
        process = subprocess.Popen([*run, str(port)], cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        await eventually(lambda: is_up(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def inbox(directory: Path, language: str) -> list[tuple[str, bytes]]:
    if language == "python":
        with contextlib.closing(sqlite3.connect(directory / "inbox.db")) as database:
            return list(database.execute("SELECT id, body FROM inbox ORDER BY id"))
    lines = (directory / "inbox.txt").read_text().splitlines()
    return sorted((event_id, base64.b64decode(body)) for event_id, body in map(str.split, lines))


SERVERS: dict[str, tuple[str, str | None]] = {
    "python": ("receiver.py", None),
    "node": ("main.mjs", NODE_SERVER),
    "go": ("cmd/main.go", GO_SERVER),
}


@pytest.mark.parametrize(
    "language",
    [
        pytest.param("python"),
        pytest.param("node", marks=needs["node"]),
        # A first build of Go's HTTP server takes more than a minute on a small machine.
        pytest.param("go", marks=[needs["go"], pytest.mark.long]),
    ],
)
async def test_a_receiver_takes_each_event_once_and_nothing_forged(tmp_path: Path, language: str) -> None:
    write(tmp_path, language, f"verify.{ENDINGS[language]}", f"receiver.{ENDINGS[language]}")
    keep(tmp_path, "orders.secret", SECRET + "\n")
    name, source = SERVERS[language]
    run = run_of(tmp_path, language, name, files()[name] if source is None else source)
    orders = {"profiles": {}, "endpoints": {"orders": {"url": "http://127.0.0.1:9/", "secret_file": "orders.secret"}}}
    async with serving(tmp_path, run) as url:
        orders["endpoints"]["orders"]["url"] = f"{url}/hook"
        async with running_daemon(tmp_path, orders) as daemon:
            bodies = {await hand_in(daemon, "order.completed", payload(one)): payload(one) for one in ("chord-order",)}
            bodies[await hand_in(daemon, "order.completed", b'{"n": 1}')] = b'{"n": 1}'
            delivered = await daemon.settled()
            assert {one["state"] for one in delivered} == {"delivered"}, (tmp_path / "receiver.log").read_text()

            again = await command(daemon, "deliveries", "resend", delivered[0]["id"])
            assert again.code == 0
            assert await attempts(daemon, delivered[0]["id"]) == [204, 204]
            forged = {"webhook-id": "evt_1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,x"}
            async with aiohttp.ClientSession(trust_env=False) as session:
                for headers in (forged, {}):
                    async with session.post(f"{url}/hook", data=b"{}", headers=headers) as answer:
                        assert answer.status == 401
        assert inbox(tmp_path, language) == sorted(bodies.items())


async def attempts(daemon: Daemon, delivery_id: str) -> list[int]:
    """Return the statuses of the attempts of a delivery once there are two."""

    async def both() -> list[dict[str, Any]]:
        shown = (await daemon.get(f"/v1/deliveries/{delivery_id}")).json()
        return shown["attempts"] if len(shown["attempts"]) == 2 else []

    return [attempt["status"] for attempt in await eventually(both)]
