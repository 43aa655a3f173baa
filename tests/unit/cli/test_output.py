"""What is printed stays on its line, in its column, and cannot steer a terminal."""

import pytest

from webhookd.cli.output import pairs, table
from webhookd.cli.text import counted, escaped_bytes, milliseconds, printable, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Zürich → 4", "Zürich → 4"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("lone \ud800", "lone \\ud800"),
        (None, ""),
        (7, "7"),
        (["a", 1], '["a", 1]'),
        (True, "true"),
    ],
)
def test_a_value_is_one_line_without_control_characters(value, text):
    assert printable(value) == text


def test_a_body_keeps_its_lines_and_nothing_else_that_moves():
    assert escaped_bytes(b"a\r\n\tb\x1b[2J\rc\xff\x00") == "a\n\tb\\x1b[2J\\rc\\xff\\x00"


def test_columns_are_as_wide_as_their_widest_cell(capsys):
    table(("ID", "STATE", "END"), [("a", "pending", None), ("long-id", "dead", "x y")])
    assert capsys.readouterr().out.splitlines() == [
        "ID       STATE    END",
        "a        pending",
        "long-id  dead     x y",
    ]


def test_facts_without_a_value_are_left_out(capsys):
    pairs({"id": "x", "missing": None, "status": "enabled", "empty": ""})
    assert capsys.readouterr().out.splitlines() == ["id      x", "status  enabled"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**4, "5.0 TiB"), (None, "")]
)
def test_sizes_are_said_in_their_unit(value, text):
    assert size(value) == text


@pytest.mark.parametrize(("value", "text"), [(3.6, "4 ms"), (1500, "1.5 s"), (None, ""), (True, "")])
def test_durations_are_said_in_their_unit(value, text):
    assert milliseconds(value) == text


def test_one_is_singular():
    assert counted(1, "delivery", "deliveries") == "1 delivery"
    assert counted(0, "delivery", "deliveries") == "0 deliveries"
