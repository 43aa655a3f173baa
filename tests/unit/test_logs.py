"""Log lines reach their sink in the right shape, or are dropped and counted; the caller never waits."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import json
import logging
import os
import pty
import re
import resource
import time

import pytest

from webhookd import logs
from webhookd.logs.lines import json_line
from webhookd.logs.writer import MAX_QUEUED_LINES

LOG = logging.getLogger("webhookd.test")


@pytest.fixture(autouse=True)
def restored():
    root, ours = logging.getLogger(), logging.getLogger("webhookd")
    levels = root.level, ours.level
    yield
    for handler in list(root.handlers):
        if isinstance(handler, logs.LineWriter):
            handler.close()
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    stream.close()
    os.close(reading)


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def logged(style: str, *args: object, level: int = logging.INFO, **kwargs: object) -> str:
    stream = io.StringIO()
    writer = logs.configure(stream, style=style, level=logging.DEBUG)
    LOG.log(level, *args, **kwargs)
    assert writer.flush(5)
    return stream.getvalue()


def test_json_is_one_object_a_line_with_time_level_message_and_fields():
    entry = json.loads(logged("json", "attempt.failed", extra={"fields": {"endpoint": "orders", "status": 503}}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "info",
        "logger": "webhookd.test",
        "message": "attempt.failed",
        "endpoint": "orders",
        "status": 503,
    }


def test_a_field_cannot_pass_for_the_message():
    entry = json.loads(logged("json", "attempt.failed", extra={"fields": {"message": "all.fine", "level": "debug"}}))
    assert (entry["message"], entry["level"]) == ("attempt.failed", "info")
    assert (entry["field_message"], entry["field_level"]) == ("all.fine", "debug")


def test_text_is_aligned_and_quotes_what_needs_it():
    first = logged("text", "attempt.failed", extra={"fields": {"endpoint": "orders", "error": 'no "route"'}})
    second = logged("text", "endpoint.disabled", extra={"fields": {"endpoint": ""}}, level=logging.WARNING)
    assert first.endswith('endpoint=orders error="no \\"route\\""\n')
    assert " INFO     attempt.failed " in first
    assert second.endswith('endpoint=""\n')
    assert first.index("endpoint=orders") == second.index('endpoint=""')


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_journald_gets_the_priority_in_front(level, priority):
    line = logged("journal", "endpoint.disabled", level=level)
    assert line.startswith(f"<{priority}>{{")
    assert json.loads(line[3:])["message"] == "endpoint.disabled"


@pytest.mark.parametrize("style", ["text", "json", "journal"])
@pytest.mark.parametrize("character", ["\x1b", "\n", "\r", "\x00", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
def test_no_control_character_gets_through(style, character):
    evil = f"a{character}b"
    output = logged(style, evil, extra={"fields": {"text": evil, evil: 1, "nested": [evil]}})
    assert character not in output.removesuffix("\n")
    assert output.count("\n") == 1


def test_an_escaped_value_is_the_same_value_to_a_reader_of_json():
    evil = "\x1b[2J\x9b\u202e\n"
    assert json.loads(logged("json", "x", extra={"fields": {"text": evil}}))["text"] == evil


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("value", ["\ud800", 2**70, object(), {1: {2, 3}}, b"\xff", float("nan")])
def test_any_value_can_be_logged(style, value):
    assert "kept" in logged(style, "x.logged", extra={"fields": {"value": value, "other": "kept"}})


def test_arguments_that_do_not_fit_their_format_are_still_logged():
    record = logging.LogRecord("webhookd", logging.INFO, "", 0, "%d of them", ("many",), None)
    assert json.loads(json_line(record))["message"] == "%d of them ('many',)"


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_exception_comes_with_its_traceback(style):
    def fail() -> None:
        raise ValueError("bad\x1bnews")

    try:
        fail()
    except ValueError:
        output = logged(style, "attempt.failed", exc_info=True)
    assert "\x1b" not in output
    if style == "json":
        exception = json.loads(output)["exception"]
        assert exception.startswith("Traceback")
        assert "in fail" in exception
    else:
        first, *below = output.splitlines()
        assert first.endswith("attempt.failed")
        assert all(line.startswith("    ") for line in below)
        assert below[-1] == r"    ValueError: bad\x1bnews"


def test_a_line_has_a_bound():
    huge = {f"field{number}": "x" * 10_000 for number in range(1000)}
    entry = json.loads(logged("json", "x.logged", extra={"fields": huge}))
    assert entry["cut_bytes"] > 1_000_000
    assert len(logged("text", "x.logged", extra={"fields": huge})) < 70_000
    assert len(logged("json", "x.logged", extra={"fields": {"text": "y" * 1_000_000}})) < 3000


def test_style_is_text_on_a_terminal_and_json_elsewhere(tmp_path):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, (tmp_path / "log").open("w") as file:
        assert logs.detect_style(terminal) is logs.Style.TEXT
        assert logs.detect_style(file) is logs.Style.JSON
    os.close(ours)
    assert logs.detect_style(io.StringIO()) is logs.Style.JSON


def test_style_is_journal_only_when_the_stream_is_the_one_named(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as file, (tmp_path / "other").open("w") as other:
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert logs.detect_style(file) is logs.Style.JOURNAL
        assert logs.detect_style(other) is logs.Style.JSON


def test_levels_hold_for_our_loggers_and_others_speak_from_warnings_up():
    stream = io.StringIO()
    writer = logs.configure(stream, style="json", level="info")
    LOG.debug("too.quiet")
    LOG.info("own.heard")
    logging.getLogger("aiohttp.access").info("other.quiet")
    logging.getLogger("aiohttp.server").warning("other.heard")
    writer.flush(5)
    assert [json.loads(line)["message"] for line in lines_of(stream)] == ["own.heard", "other.heard"]


def test_configuring_again_replaces_the_sink():
    first, second = io.StringIO(), io.StringIO()
    logs.configure(first, style="json")
    writer = logs.configure(second, style="json")
    LOG.info("x.logged")
    writer.flush(5)
    assert (len(lines_of(first)), len(lines_of(second))) == (0, 1)


async def test_a_blocked_sink_never_delays_the_loop_and_drops_are_counted_and_told(pipe):
    reading, stream = pipe
    writer = logs.configure(stream, style="json")
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.001)

    heart = asyncio.create_task(beat())
    sent = 15_000
    for number in range(sent):
        LOG.info("line.logged", extra={"fields": {"number": number}})
        if number % 50 == 0:
            await asyncio.sleep(0)
    assert writer.dropped > 0
    assert not writer.flush(0.01)
    await asyncio.sleep(0.01)
    heart.cancel()
    assert max(later - earlier for earlier, later in itertools.pairwise(beats)) < 5

    received = bytearray()
    done = asyncio.create_task(asyncio.to_thread(writer.flush, 10))
    os.set_blocking(reading, False)
    while not done.done():
        try:
            received += os.read(reading, 1 << 20)
        except BlockingIOError:
            await asyncio.sleep(0.001)
    assert await done
    LOG.info("line.last")
    assert writer.flush(5)
    received += os.read(reading, 1 << 20)
    entries = [json.loads(line) for line in received.splitlines()]
    told = sum(entry["count"] for entry in entries if entry["message"] == "log_lines.dropped")
    kept = [entry["number"] for entry in entries if entry["message"] == "line.logged"]
    assert told == writer.dropped == sent - len(kept)
    assert len(kept) >= MAX_QUEUED_LINES
    assert kept == sorted(kept)
    assert entries[-1]["message"] == "line.last"


def test_the_queue_is_bounded_in_bytes_too(pipe):
    _, stream = pipe
    writer = logs.configure(stream, style="json")
    fields = {f"f{number}": "x" * 2000 for number in range(20)}
    for _ in range(1000):
        LOG.info("line.logged", extra={"fields": fields})
    assert 750 < writer.dropped < 1000


def test_a_broken_pipe_drops_and_raises_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        writer = logs.configure(stream, style="json")
        for _ in range(5):
            LOG.info("line.logged")
        assert writer.flush(5)
        assert writer.dropped == 5
        LOG.info("line.logged")
        assert writer.flush(5)
        assert writer.dropped == 6


def test_a_sink_that_recovers_is_told_what_is_missing():
    class Disk(io.StringIO):
        full = True

        def write(self, text: str, /) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    disk = Disk()
    writer = logs.configure(disk, style="json")
    LOG.info("line.lost")
    LOG.info("line.lost")
    writer.flush(5)
    disk.full = False
    LOG.info("line.kept")
    writer.flush(5)
    dropped, kept = (json.loads(line) for line in lines_of(disk))
    assert (dropped["message"], dropped["count"], dropped["level"]) == ("log_lines.dropped", 2, "warning")
    assert kept["message"] == "line.kept"
    assert writer.dropped == 2


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("w") as file:
        writer = logs.configure(file, style="json")
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
        try:
            LOG.info("line.first")
            LOG.info("line.torn")
            assert writer.flush(5)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        LOG.info("line.next")
        assert writer.flush(5)
    first, torn, dropped, following = (tmp_path / "log").read_text().splitlines()
    assert json.loads(first)["message"] == "line.first"
    assert torn.startswith('{"time"')
    assert json.loads(dropped)["count"] == writer.dropped == 1
    assert json.loads(following)["message"] == "line.next"


def test_a_closed_stream_is_a_broken_sink_not_an_error():
    stream = io.StringIO()
    writer = logs.configure(stream, style="json")
    stream.close()
    LOG.info("line.logged")
    assert writer.flush(5)
    assert writer.dropped == 1


def test_flushing_from_outside_reaches_the_sink_in_force(pipe):
    _, stream = pipe
    assert logs.flush(0)
    logs.configure(io.StringIO(), style="json")
    LOG.info("line.logged")
    assert logs.flush(5)
    logs.configure(stream, style="json")
    for _ in range(2000):
        LOG.info("line.logged")
    assert not logs.flush(0.01)


def test_closing_writes_what_is_queued():
    stream = io.StringIO()
    writer = logs.configure(stream, style="json")
    for _ in range(100):
        LOG.info("line.logged")
    writer.close()
    assert len(lines_of(stream)) == 100
    LOG.info("line.late")
    assert len(lines_of(stream)) == 100


def test_a_non_blocking_sink_is_waited_for(pipe):
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    writer = logs.configure(stream, style="json")
    for _ in range(2000):
        LOG.info("line.logged")
    received = bytearray()
    while received.count(b"\n") < 2000:
        received += os.read(reading, 1 << 16)
    assert writer.flush(5)
    assert writer.dropped == 0
    assert all(json.loads(line) for line in received.splitlines())


async def test_a_burst_of_the_same_trouble_is_one_line_and_the_next_one_counts_it():
    stream = io.StringIO()
    writer = logs.configure(stream, style="json")
    loop = asyncio.get_running_loop()
    now = [0.0]
    logs.install_loop_handler(loop, monotonic=lambda: now[0])
    trouble = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, "Too many open files"),
    }
    for _ in range(98):
        loop.call_exception_handler(trouble)
    now[0] = 6.0
    loop.call_exception_handler(trouble)
    writer.flush(5)
    entries = [json.loads(line) for line in lines_of(stream)]
    assert [entry["repeated"] for entry in entries] == [0, 97]
    assert {entry["message"] for entry in entries} == {"resources.exhausted"}
    assert "exception" not in entries[0]


async def test_what_the_loop_catches_is_logged_with_its_traceback():
    stream = io.StringIO()
    writer = logs.configure(stream, style="json")
    loop = asyncio.get_running_loop()
    logs.install_loop_handler(loop)
    loop.call_soon(lambda: 1 // 0)
    await asyncio.sleep(0.001)
    writer.flush(5)
    (entry,) = (json.loads(line) for line in lines_of(stream))
    assert (entry["message"], entry["level"]) == ("callback.failed", "error")
    assert "ZeroDivisionError" in entry["exception"]


async def test_different_troubles_do_not_hide_each_other():
    stream = io.StringIO()
    writer = logs.configure(stream, style="json")
    loop = asyncio.get_running_loop()
    logs.install_loop_handler(loop)
    for number in range(300):
        loop.call_exception_handler({"message": f"trouble {number}"})
    writer.flush(5)
    assert len(lines_of(stream)) == 300


async def test_running_out_of_memory_in_the_loop_itself_is_told():
    logs.configure(io.StringIO(), style="json")
    loop = asyncio.get_running_loop()
    failed = logs.install_loop_handler(loop)
    loop.call_exception_handler({"message": "one transport broke", "exception": OSError(errno.EPIPE, "Broken pipe")})
    assert not failed.done()
    loop.call_exception_handler({"message": "Fatal error on transport", "exception": MemoryError()})
    with pytest.raises(MemoryError):
        await failed
