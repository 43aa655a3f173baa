"""The disk is lost under load, and the backup of before is put in its place as the manual says."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

from tests.kit.daemon import eventually, running_daemon
from tests.kit.producers import Producers, require_sound
from tests.kit.receiver import Answer, Receiver, Reply

MANUAL = Path(__file__).parents[2] / "docs" / "operations.md"


def restore_as_the_manual_says(backup: Path, database: Path) -> None:
    """Run what stands under "Restore", between stopping and starting the units, with our own names and user."""
    (script,) = re.findall(r"^### Restore\n.*?```sh\n(.*?)```", MANUAL.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for line in script.splitlines() if not line.startswith("systemctl ")]
    assert len(lines) == len(script.splitlines()) - 2
    text = (
        "\n".join(lines).replace("/var/backups/webhookd/monday.db", str(backup)).replace("-o webhookd -g webhookd ", "")
    )
    subprocess.run(
        ["sh", "-euc", text.replace("/var/lib/webhookd", str(database.parent)).replace("webhookd.db", database.name)],
        check=True,
    )


async def test_what_was_accepted_before_the_backup_is_delivered_after_its_restore(tmp_path: Path) -> None:
    copy = tmp_path / "monday.db"
    async with (
        Receiver() as receiver,
        running_daemon(
            tmp_path,
            {"endpoints": {"orders": {"url": receiver.url, "signatures": [], "retry": ["500ms"] * 60, "jitter": 0}}},
        ) as daemon,
    ):
        answers: list[Answer] = [200, 500, Reply(delay_seconds=0.02)]
        receiver.script(*answers * 4, 500)
        producers = Producers(daemon)
        async with producers.working(6, pause_seconds=0.005):
            await eventually(lambda: _reached(producers, 60), timeout_seconds=30)
            asked_at = time.monotonic()
            answer = await daemon.post("/v1/backup", {"path": str(copy)}, timeout_seconds=30)
            assert answer.status in {200, 201}, answer.body
            answered_at = time.monotonic()
            await eventually(lambda: _reached(producers, 180), timeout_seconds=30)
            await daemon.kill9()
        held = [one for one in producers.answered(202) if one.ended < asked_at]
        late = [one for one in producers.answered(202) if one.began > answered_at]
        assert len(held) >= 60
        assert len(late) >= 10
        require_sound(copy)
        restore_as_the_manual_says(copy, daemon.database)
        receiver.script(200)
        before = receiver.by_event()
        await daemon.start()
        deliveries = await daemon.settled(30)
        states = {delivery["event"]: delivery["state"] for delivery in deliveries}
        assert {states.get(one.event_id) for one in held} == {"delivered"}
        # It is a copy of one moment: what came later is gone, and what the answer counted is what is there.
        assert not {one.event_id for one in late} & states.keys()
        assert len(states) == json.loads(answer.body)["events"]
        after = receiver.by_event()
        assert all(after[one.event_id] >= 1 for one in held)
        again = {event for event in states if after[event] > before.get(event, 0)}
        assert again, "nothing was pending in the backup, so the restore has not been tried"
        # Ids of what was lost are not given to anything new.
        new = await daemon.send("order.completed", {"after": "the restore"})
        assert new["id"] > max(one.event_id for one in producers.answered(202))
        await daemon.settled()
        assert await daemon.terminate() == 0
        require_sound(daemon.database)


async def _reached(producers: Producers, number: int) -> bool:
    return len(producers.answered(202)) >= number
