"""Name servers that hang, fail and overdo it: who asked is told so in time, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kit import netns
from tests.kit.canaries import Canaries
from tests.kit.daemon import Daemon, eventually, running_daemon
from tests.kit.nameserver import NXDOMAIN, REFUSED, SERVFAIL, Addresses, Code, Garbage, NameServer, Silence
from tests.kit.receiver import Receiver

HANGING = 200
HEALTHY = 10
LOOKUP_SECONDS = 5.0
"""How long an attempt waits for a lookup."""
SLACK_SECONDS = 5.0
"""What a machine under full load may need beyond any deadline."""
OPENING_SECONDS = 11.0
RESOLVER_THREADS = 256
OTHER_THREADS = 16
"""The loop, SQLite's, the log's and those for files, with room to spare."""

MANY = tuple(f"127.0.{number >> 8}.{number & 255}" for number in range(1, 500))
ANSWERS = {
    "servfail.example": Code(SERVFAIL),
    "refused.example": Code(REFUSED),
    "nxdomain.example": Code(NXDOMAIN),
    "empty.example": Addresses(()),
    "huge.example": Addresses(MANY),
    "huge-but-one.example": Addresses((*MANY, "10.0.0.1")),
    "alias.example": Addresses(("127.0.0.1",), alias="really.example"),
    "truncated.example": Silence(truncated=True),
    "garbage.example": Garbage(),
    "silence.example": Silence(),
}
SAID = {
    "servfail.example": ("dns", "looking up servfail.example: temporary failure in name resolution"),
    "refused.example": ("dns", "looking up refused.example: temporary failure in name resolution"),
    "nxdomain.example": ("dns", "looking up nxdomain.example: name or service not known"),
    "empty.example": ("dns", "looking up empty.example: no address associated with hostname"),
    "huge.example": (200, ""),
    "huge-but-one.example": (
        "blocked",
        "huge-but-one.example is 10.0.0.1, which is private (10.0.0.0/8) and not in network.allow",
    ),
    "alias.example": (200, ""),
    "truncated.example": ("timeout", "no answer within 1 s (looking up truncated.example)"),
    "garbage.example": ("timeout", "no answer within 1 s (looking up garbage.example)"),
    "silence.example": ("timeout", "no answer within 1 s (looking up silence.example)"),
}


@netns.needs_namespace()
def test_each_bad_answer_is_told_by_its_name_within_the_deadline(tmp_path):
    found = netns.run(_ask_all, str(tmp_path))
    assert {name: tuple(end["said"]) for name, end in found["ends"].items()} == SAID
    assert max(end["dns_ms"] for end in found["ends"].values()) < (LOOKUP_SECONDS + SLACK_SECONDS) * 1000
    assert found["asked over tcp"]["huge.example"] > 0


@pytest.mark.long
@netns.needs_namespace()
def test_two_hundred_names_that_hang_hold_nobody_else(tmp_path):
    found = netns.run(_hang_all, str(tmp_path))
    hung = found["hung"]
    assert len(hung) == HANGING
    assert {end["said"][0] for end in hung.values()} == {"timeout"}
    assert all(end["said"][1].endswith(f"(looking up {name})") for name, end in hung.items())
    assert max(end["dns_ms"] for end in hung.values()) < (LOOKUP_SECONDS + SLACK_SECONDS) * 1000
    # For either kind of address, however many deliveries go to the name.
    assert set(found["asked within 4 s"]) == {2}
    # The system's library asks again after 5 s, and so does the second lookup that a name may have.
    assert max(found["asked"]) <= 8
    assert found["took the network for down"] == []
    assert found["threads"] <= RESOLVER_THREADS + OTHER_THREADS
    assert found["failed"] == []
    assert found["delivered"] == found["sent"]
    assert found["nine of ten deliveries within"] < 3.0
    assert found["slowest delivery"] < LOOKUP_SECONDS + SLACK_SECONDS
    assert found["slowest ingest"] < SLACK_SECONDS


async def _ask_all(directory: str) -> dict[str, object]:
    common = {"signatures": [], "retry": []}
    endpoints = {
        name.partition(".")[0]: {
            "url": f"http://{name}:8080/",
            "connect_timeout": "1s" if said[0] == "timeout" else "5s",
            **common,
        }
        for name, said in SAID.items()
    }
    config = {"network": {"allow": ["127.0.0.0/8"]}, "endpoints": endpoints}
    async with (
        Canaries((8080,)),
        NameServer(dict(ANSWERS)) as nameserver,
        running_daemon(Path(directory), config) as daemon,
    ):
        await daemon.send("order.completed", {})
        ends = await _ends(daemon, 30.0)
        return {"ends": ends, "asked over tcp": nameserver.asked_over_tcp}


async def _ends(daemon: Daemon, timeout_seconds: float) -> dict[str, dict[str, Any]]:
    """Return how the first attempt of each delivery ended, by the name it went to."""
    ends = {}
    for delivery in await daemon.settled(timeout_seconds):
        attempts = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()["attempts"]
        ends[f"{delivery['endpoint']}.example"] = _end(attempts[0])
    return ends


async def _first_ends(daemon: Daemon, endpoints: list[str]) -> dict[str, dict[str, Any]]:
    """Return how the last attempt at each endpoint ended, by the name it went to; nothing until each had one."""
    ends = {}
    for endpoint in endpoints:
        last = (await daemon.get(f"/v1/endpoints/{endpoint}")).json()["last_attempt"]
        if last is None:
            return {}
        ends[f"{endpoint}.example"] = _end(last)
    return ends


def _end(attempt: dict[str, Any]) -> dict[str, Any]:
    error = attempt["error"]
    said = (attempt["status"], "") if error is None else (error["class"], error["text"])
    return {"said": said, "dns_ms": attempt["phases"]["dns_ms"]}


async def _hang_all(directory: str) -> dict[str, object]:
    """Let most names hang, all at once, and see how the others fare meanwhile."""
    hanging = [f"hang{number}" for number in range(HANGING)]
    healthy = [f"good{number}" for number in range(HEALTHY)]
    async with Receiver() as receiver:
        endpoints = {
            **{
                name: {"url": f"http://{name}.example/", "types": ["bad"], "signatures": [], "retry": []}
                for name in hanging
            },
            **{
                name: {
                    "url": f"http://{name}.example:{receiver.port}/{name}",
                    "types": ["good"],
                    "signatures": [],
                    "retry": [],
                }
                for name in healthy
            },
        }
        names = {
            **{f"{name}.example": Silence() for name in hanging},
            **{f"{name}.example": Addresses(("127.0.0.1",)) for name in healthy},
        }
        config = {"network": {"allow": ["127.0.0.0/8"], "plain_http": True}, "endpoints": endpoints}
        async with NameServer(names) as nameserver, running_daemon(Path(directory), config) as daemon:
            watch = _Watch(daemon, receiver)
            # Known from before, as endpoints are when a name server fails; and the daemon is past opening its lanes.
            opened_at = time.monotonic() + OPENING_SECONDS
            while time.monotonic() < opened_at:
                await watch.send("good")
                await asyncio.sleep(1.0)
            for _ in range(5):
                await watch.send("bad")
            begun = time.monotonic()
            asked_early: list[int] = []
            while time.monotonic() < begun + 10:
                await watch.send("good")
                await asyncio.sleep(0.1)
                if time.monotonic() < begun + 4:
                    asked_early = [nameserver.asked[f"{name}.example"] for name in hanging]
            asked = [nameserver.asked[f"{name}.example"] for name in hanging]
            hung = await eventually(lambda: _first_ends(daemon, hanging), timeout_seconds=30, every_seconds=0.2)
            dead = [delivery["endpoint"] for delivery in await daemon.deliveries(state="dead")]
            delays = watch.delays()
            return {
                "hung": hung,
                "failed": [endpoint for endpoint in dead if endpoint in healthy],
                "asked": asked,
                "asked within 4 s": asked_early,
                "took the network for down": daemon.log_entries("network.down"),
                "sent": HEALTHY * watch.count_healthy,
                "delivered": receiver.count,
                "threads": watch.threads,
                "nine of ten deliveries within": delays[len(delays) * 9 // 10],
                "slowest delivery": delays[-1],
                "slowest ingest": watch.slowest_ingest,
            }


class _Watch:
    """Sends events, and remembers how long each took to be accepted and to arrive."""

    def __init__(self, daemon: Daemon, receiver: Receiver) -> None:
        self._daemon = daemon
        self._receiver = receiver
        self._accepted: dict[str, float] = {}
        self.slowest_ingest = 0.0
        self.count_healthy = 0
        self.threads = 0

    async def send(self, kind: str) -> None:
        begun = time.monotonic()
        event = await self._daemon.send(kind, {})
        self.count_healthy += kind != "bad"
        self._accepted[event["id"]] = time.monotonic()
        self.slowest_ingest = max(self.slowest_ingest, time.monotonic() - begun)
        self.threads = max(self.threads, len(list(Path(f"/proc/{self._daemon.pid}/task").iterdir())))

    def delays(self) -> list[float]:
        """Return the seconds it took each delivery to arrive, in ascending order."""
        return sorted(request.at - self._accepted[request.event_id] for request in self._receiver.requests)
