"""Where: what passes a filter, and how it is said why something does not."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest

from webhookd.core.filtering import AnyOf, Between, Condition, Exists, NoneOf, Test, Where, parse_pointer
from webhookd.core.payloads import Payload


def where(pointer: str, *tests: Test) -> Where:
    return Where((Condition(pointer=pointer, tests=tests),))


def json(text: str | bytes, content_type: str = "application/json") -> Payload:
    return Payload(text if isinstance(text, bytes) else text.encode(), content_type)


def number(text: str) -> Decimal:
    return Decimal(text)


def at(value: str, test: Test) -> bool:
    """Say whether `test` holds for the JSON text `value` in a member."""
    return where("/x", test).accepts(json(f'{{"x":{value}}}'))


# Pointers (RFC 6901).

DOCUMENT = rb"""
{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8,
 "deep": {"er": [{"er": true}]}, "01": 9, "0": 10}
"""


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo/0", "bar"),
        ("/foo/1", "baz"),
        ("/", number("0")),
        ("/a~1b", number("1")),
        ("/c%d", number("2")),
        ("/e^f", number("3")),
        ("/g|h", number("4")),
        ("/i\\j", number("5")),
        ('/k"l', number("6")),
        ("/ ", number("7")),
        ("/m~0n", number("8")),
        ("/deep/er/0/er", True),
        ("/01", number("9")),
        ("/0", number("10")),
    ],
)
def test_a_pointer_leads_to_its_place(pointer, value):
    assert where(pointer, AnyOf((value,))).accepts(json(DOCUMENT))


@pytest.mark.parametrize("pointer", ["/foo/2", "/foo/-", "/foo/00", "/foo/-1", "/foo/+1", "/foo/1.0", "/foo/0/x",
                                     "/nothing", "/deep/er/er", "//", "/foo/\u0660", "/foo/" + "9" * 500])  # fmt: skip
def test_a_pointer_to_no_place_finds_nothing(pointer):
    assert where(pointer, Exists(False)).accepts(json(DOCUMENT))


def test_the_empty_pointer_is_the_whole_payload():
    assert where("", AnyOf((number("3"),))).accepts(json(" 3\n"))
    assert where("", Exists(True)).accepts(json(DOCUMENT))


@pytest.mark.parametrize(("pointer", "steps"), [("", ()), ("/", ("",)), ("/a~1b/m~0n/~01/", ("a/b", "m~n", "~1", ""))])
def test_a_pointer_is_taken_apart(pointer, steps):
    assert parse_pointer(pointer) == steps


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        ("data.status", 'did you mean "/data/status"?'),
        ("$.data.status", 'did you mean "/data/status"?'),
        ("data/status", 'did you mean "/data/status"?'),
        ("/a~2", '"~" is written "~0"'),
        ("/a~", '"~" is written "~0"'),
    ],
)
def test_what_is_no_pointer_is_refused(pointer, words):
    with pytest.raises(ValueError, match="is not a JSON pointer") as refused:
        Condition(pointer=pointer, tests=())
    assert words in str(refused.value)


# Values and their types.


@pytest.mark.parametrize(
    ("value", "wanted", "equal"),
    [
        ("1", number("1"), True),
        ("1.0", number("1"), True),
        ("1e0", number("1.00"), True),
        ("-0", number("0"), True),
        ("10.0", number("10"), True),
        ('"1"', number("1"), False),
        ("1", "1", False),
        ("true", number("1"), False),
        ("1", True, False),
        ("false", number("0"), False),
        ("true", "true", False),
        ("true", True, True),
        ("null", None, True),
        ("null", False, False),
        ("null", "", False),
        ("0", None, False),
        ("123456789012345678901", number("123456789012345678901"), True),
        ("123456789012345678900", number("123456789012345678901"), False),
        ("0.1", number("0.1"), True),
        ("0.10000000000000000001", number("0.1"), False),
        ("1e400", number("1e400"), True),
        ("1e400", number("1e401"), False),
        ('"Zo\\u00eb"', "Zoë", True),
        ('"\\ud83d\\ude00"', "😀", True),
        ('"a\\u0000b"', "a\0b", True),
        ("[1]", number("1"), False),
        ("{}", None, False),
    ],
)
def test_values_are_equal_as_json_sees_it(value, wanted, equal):
    assert at(value, AnyOf((wanted,))) is equal
    assert at(value, AnyOf(("other", wanted))) is equal
    assert at(value, NoneOf((wanted,))) is not equal


def test_a_missing_member_is_none_of_any_values():
    assert not where("/x", AnyOf((None, "", False, number("0")))).accepts(json("{}"))
    assert where("/x", NoneOf((None, "", False, number("0")))).accepts(json("{}"))


def test_null_is_there():
    assert at("null", Exists(True))
    assert not at("null", Exists(False))


@pytest.mark.parametrize(
    ("value", "between", "holds"),
    [
        ("10", Between(gt=number("10")), False),
        ("10.000000000000000000001", Between(gt=number("10")), True),
        ("10", Between(gte=number("10")), True),
        ("9", Between(gte=number("10")), False),
        ("10.0", Between(lt=number("10")), False),
        ("10.0", Between(lte=number("10")), True),
        ("11", Between(lte=number("10")), False),
        ("5", Between(gte=number("1"), lt=number("5")), False),
        ("4", Between(gte=number("1"), lt=number("5")), True),
        ("1e999999999", Between(gt=number("10")), True),
        ('"11"', Between(gt=number("10")), False),
        ("true", Between(gt=number("0")), False),
        ("null", Between(lt=number("1")), False),
        ("[11]", Between(gt=number("10")), False),
    ],
)
def test_numbers_are_compared_exactly_and_nothing_else_is(value, between, holds):
    assert at(value, between) is holds


def test_a_number_beyond_all_bounds_equals_nothing_and_is_there():
    beyond = "1e99999999999999999999"
    assert not at(beyond, Between(gt=number("1")))
    assert not at(beyond, AnyOf((number("1"),)))
    assert at(beyond, Exists(True))


def test_all_conditions_and_all_their_tests_must_hold():
    both = Where(
        (
            Condition(pointer="/a", tests=(Exists(True), NoneOf((number("1"),)))),
            Condition(pointer="/b", tests=(Between(gt=number("0")),)),
        )
    )
    assert both.accepts(json('{"a":2,"b":1}'))
    for text in ('{"a":1,"b":1}', '{"b":1}', '{"a":2,"b":0}', '{"a":2}'):
        assert not both.accepts(json(text))


def test_of_a_repeated_member_the_last_one_counts():
    assert where("/a", AnyOf((number("2"),))).accepts(json('{"a":1,"a":2}'))
    assert where("/a/b", Exists(True)).accepts(json('{"a":{},"a":{"b":1}}'))


# Payloads that cannot be looked into.

NEGATIVE = [NoneOf(("x",)), Exists(False)]


@pytest.mark.parametrize("test", NEGATIVE)
@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "application/jsonx", ""])
def test_a_payload_that_is_not_json_passes_no_filter(test, content_type):
    assert not where("/x", test).accepts(json("{}", content_type))


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON ; charset=utf-8", "text/json", "a/b+json"]
)
def test_json_goes_by_many_names(content_type):
    assert where("/x", Exists(False)).accepts(json("{}", content_type))


@pytest.mark.parametrize("test", NEGATIVE)
@pytest.mark.parametrize("content", [b"", b"{", b"nonsense", b'{"a":1', b"\xff", b"[1,]"])
def test_a_payload_that_is_not_json_after_all_passes_no_filter(test, content):
    for pointer in ("", "/0", "/x"):
        assert not where(pointer, test).accepts(json(content)), pointer
    assert where("/x", test).refusal(json(content)) == "where cannot be applied: the payload is not valid JSON"


@pytest.mark.parametrize("test", NEGATIVE)
def test_a_payload_nested_too_deeply_passes_no_filter(test):
    deep = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert not where("/y", test).accepts(json(deep))
    assert where("/y", test).refusal(json(deep)) == "where cannot be applied: the payload is nested too deeply"


def test_an_endpoint_without_conditions_takes_everything():
    assert Where().accepts(json(b"\x00", "image/png"))
    assert Where().refusal(json(b"\x00", "image/png")) is None


def test_half_of_a_surrogate_pair_reads_as_the_replacement_character():
    r"""JSON.stringify writes such halves; the parser would refuse the whole document for one."""
    payload = json(rb'{"a":"x\ud800", "b":"\uDC00\ud83d\ude00", "\\ud800": "plain", "\udfff": 1}')
    assert where("/a", AnyOf(("x\ufffd",))).accepts(payload)
    assert where("/b", AnyOf(("\ufffd😀",))).accepts(payload)
    assert where("/\\ud800", AnyOf(("plain",))).accepts(payload)
    assert where("/\ufffd", Exists(True)).accepts(payload)


# Cost.


def test_each_level_is_opened_once_however_many_endpoints_ask():
    payload = json('{"a":{"b":1,"c":2}}')
    conditions = [where(pointer, Exists(True)) for pointer in ("/a/b", "/a/c", "/a", "/a/b/d")]
    for condition in conditions:
        condition.accepts(payload)
    opened = payload._levels  # noqa: SLF001
    assert sorted(opened) == [(), ("a",), ("a", "b")]
    before = {steps: id(level) for steps, level in opened.items()}
    for condition in conditions:
        condition.accepts(payload)
    assert {steps: id(level) for steps, level in opened.items()} == before


def test_nothing_is_built_of_what_is_passed_over():
    """Two hundred thousand numbers beside the one that is asked for would take seventy thousand objects and more."""
    payload = json('{"wanted":1,"rest":[' + ",".join(["[1]"] * 100_000) + "]}")
    before = sys.getallocatedblocks()
    assert where("/wanted", AnyOf((number("1"),))).accepts(payload)
    assert sys.getallocatedblocks() - before < 1000


# Words.


@pytest.mark.parametrize(
    ("document", "test", "words"),
    [
        ('{"s":"failed"}', AnyOf(("succeeded", "canceled")), 'where /s is "failed", wanted succeeded or canceled'),
        ("{}", AnyOf(("a",)), "where /s is missing, wanted a"),
        ('{"s":[1]}', AnyOf(("a", "b", "c")), "where /s is a list, wanted a, b or c"),
        ('{"s":{}}', AnyOf((None,)), "where /s is an object, wanted null"),
        ('{"s":1.0}', AnyOf(("1", "true", "a b", "", True)), 'where /s is 1.0, wanted "1", "true", "a b", "" or true'),
        ('{"s":"a"}', NoneOf(("a", "b")), 'where /s is "a", wanted anything but a or b'),
        ("{}", Exists(True), "where /s is missing, wanted it to be there"),
        ('{"s":null}', Exists(False), "where /s is null, wanted it to be missing"),
        ('{"s":5}', Between(gt=number("10"), lte=number("20")), "where /s is 5, wanted a number > 10 and <= 20"),
        ('{"s":"5"}', Between(gte=number("1.5"), lt=number("2")), 'where /s is "5", wanted a number >= 1.5 and < 2'),
        ('{"s":1e99999999999999999999}', Between(gte=number("1")),
         "where /s is a number out of all bounds, wanted a number >= 1"),
    ],
)  # fmt: skip
def test_a_refusal_names_place_value_and_wish(document, test, words):
    assert where("/s", test).refusal(json(document)) == words


def test_the_first_condition_that_does_not_hold_is_the_one_named():
    filters = Where(tuple(Condition(pointer=pointer, tests=(Exists(True),)) for pointer in ("/a", "/b", "/c")))
    assert filters.refusal(json('{"a":1,"c":1}')) == "where /b is missing, wanted it to be there"
    assert filters.refusal(json('{"a":1,"b":1,"c":1}')) is None


def test_no_more_than_a_piece_of_a_value_is_repeated():
    secret = "s" * 64 + "ECRET"
    for value in (f'"{secret}"', "7" * 64 + "89"):
        words = where("/s", AnyOf((secret,))).refusal(
            json(f'{{"s":{value[:-3]}x"}}' if value[0] == '"' else f'{{"s":{value}}}')
        )
        assert words is not None
        assert "ECRET" not in words
        assert "789" not in words
        assert len(words) < 200


def test_long_lists_of_wishes_are_cut():
    words = where("/s", AnyOf(tuple(f"v{n}" for n in range(100)))).refusal(json("{}"))
    assert words == "where /s is missing, wanted v0, v1, v2, v3, v4, v5, v6, v7 or 92 more"


def test_the_content_type_is_named_where_it_is_the_reason():
    reason = where("/s", Exists(True)).refusal(json("{}", "text/csv"))
    assert reason == "where takes JSON payloads only, this one is text/csv"
