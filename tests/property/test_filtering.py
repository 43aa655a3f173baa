"""Whatever is in a payload, a filter answers like one that takes the whole of it apart with the standard library."""

from __future__ import annotations

import json
import operator
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webhookd.core.filtering import AnyOf, Between, Condition, Exists, NoneOf, Test, Where
from webhookd.core.payloads import Payload

MISSING = object()

names = st.sampled_from(["a", "b", "", "0", "1", "~", "/", "~1", "é", '"', "\\"])
texts = st.one_of(st.sampled_from(["", "1", "true", "x", "é😀", "\ud800", 'q"\\']), st.text(max_size=3))
NUMBERS = ["0", "-0", "0.0", "1", "1.0", "1e0", "10e-1", "2", "1.5", "123456789012345678901", "1e400", "-1E+400", "0.1"]
decimals = st.sampled_from(NUMBERS).map(Decimal)
scalars = st.one_of(st.none(), st.booleans(), texts.filter(str.isprintable), decimals)


def written(value: Any, draw: Any) -> str:
    """Write a document in one of the ways in which it may stand in a request."""
    space = draw(st.sampled_from(["", " ", "\r\n\t"]))
    match value:
        case dict():
            members = [f"{quoted(name, draw)}{space}:{space}{written(inner, draw)}" for name, inner in value.items()]
            return f"{{{space}{f'{space},'.join(members)}{space}}}"
        case list():
            return f"[{space}{f',{space}'.join(written(inner, draw) for inner in value)}{space}]"
        case Decimal():
            return str(value)
        case str():
            return quoted(value, draw)
        case _:
            return json.dumps(value)


def quoted(text: str, draw: Any) -> str:
    # Half of a surrogate pair can only stand there as its escape.
    plain = "\ud800" not in text and draw(st.booleans())
    return json.dumps(text, ensure_ascii=not plain)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), texts, decimals),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)


@st.composite
def payloads(draw: Any) -> bytes:
    spaces = st.sampled_from(["", " ", "\n"])
    return f"{draw(spaces)}{written(draw(values), draw)}{draw(spaces)}".encode()


bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), decimals, min_size=1, max_size=2)
tests = st.one_of(
    st.lists(scalars, min_size=1, max_size=3).map(lambda values: AnyOf(tuple(values))),
    st.lists(scalars, min_size=1, max_size=3).map(lambda values: NoneOf(tuple(values))),
    st.booleans().map(Exists),
    bounds.map(lambda given: Between(**given)),
)
pointers = st.lists(names, max_size=3).map(
    lambda steps: "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
)
conditions = st.builds(
    lambda pointer, tests: Condition(pointer=pointer, tests=tuple(tests)),
    pointers,
    st.lists(tests, min_size=1, max_size=2),
)
filters = st.lists(conditions, max_size=3).map(lambda found: Where(tuple(found)))


class Numeral(str):
    """A number as it was written."""

    __slots__ = ()


def oracle(where: Where, payload: bytes) -> bool:
    document = json.loads(payload, parse_int=Numeral, parse_float=Numeral)
    return all(
        holds(test, place(document, condition.pointer)) for condition in where.conditions for test in condition.tests
    )


def place(document: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name in {"0", "1"} and int(name) < len(document):
            document = document[int(name)]
        else:
            return MISSING
    return document


def holds(test: Test, found: Any) -> bool:
    numeral = Decimal(found) if isinstance(found, Numeral) else None
    match test:
        case AnyOf(wanted):
            return any(same(found, numeral, value) for value in wanted)
        case NoneOf(wanted):
            return not any(same(found, numeral, value) for value in wanted)
        case Exists(wanted):
            return (found is not MISSING) == wanted
        case Between(gt=gt, gte=gte, lt=lt, lte=lte):
            if numeral is None:
                return False
            above = (gt is None or numeral > gt) and (gte is None or numeral >= gte)
            return above and (lt is None or numeral < lt) and (lte is None or numeral <= lte)


def same(found: Any, numeral: Decimal | None, value: Any) -> bool:
    if isinstance(value, Decimal):
        return numeral is not None and numeral == value
    if isinstance(value, str):
        return isinstance(found, str) and numeral is None and found.replace("\ud800", "\ufffd") == value
    return found is value


def leaves(document: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """Return every place in a document and what stands there, above all the values that can be compared with."""
    if isinstance(document, dict):
        inner = [(name.replace("~", "~0").replace("/", "~1"), value) for name, value in document.items()]
    elif isinstance(document, list):
        inner = [(str(index), value) for index, value in enumerate(document[:2])]
    else:
        return [(pointer, document)] * 3
    return [(pointer, document), *(leaf for name, value in inner for leaf in leaves(value, f"{pointer}/{name}"))]


@st.composite
def aimed(draw: Any) -> tuple[Where, bytes]:
    """Draw a payload and a filter that asks for what stands in it, or for its neighbours."""
    document = draw(values)
    found: list[Condition] = []
    for pointer, value in draw(st.lists(st.sampled_from(leaves(document)), min_size=1, max_size=2)):
        near = [value] if value is None or isinstance(value, bool | Decimal) else []
        if isinstance(value, Decimal):
            near += [value + 1, value * 1, str(value), bool(value)]
            bound = draw(st.sampled_from([value, value + 1, value - 1]))
            test = st.sampled_from(["gt", "gte", "lt", "lte"]).map(lambda name, bound=bound: Between(**{name: bound}))
        else:
            test = st.booleans().map(Exists)
        if isinstance(value, str):
            near += [value.replace("\ud800", "\ufffd"), value + "x"]
        wanted = st.lists(st.sampled_from([*near, None, True, Decimal(1)]), min_size=1, max_size=2).map(tuple)
        chosen = draw(st.one_of(test, wanted.map(AnyOf), wanted.map(NoneOf)))
        found.append(Condition(pointer=pointer, tests=(chosen,)))
    return Where(tuple(found)), written(document, draw).encode()


@given(filters, payloads())
@example(Where((Condition(pointer="", tests=(AnyOf((True,)),)),)), b"1")
def test_a_filter_answers_like_one_that_parses_everything(where, payload):
    assert where.accepts(Payload(payload, "application/json")) is oracle(where, payload)


@given(aimed())
def test_a_filter_for_what_is_there_answers_like_one_that_parses_everything(case):
    where, payload = case
    assert where.accepts(Payload(payload, "application/json")) is oracle(where, payload)


@pytest.mark.parametrize("name", ["gt", "gte", "lt", "lte"])
def test_every_two_numbers_compare_as_they_are_written(name):
    compare = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}[name]
    for text, bound in product(NUMBERS, NUMBERS):
        where = Where((Condition(pointer="", tests=(Between(**{name: Decimal(bound)}),)),))
        payload = Payload(text.encode(), "application/json")
        assert where.accepts(payload) is compare(Decimal(text), Decimal(bound)), (text, bound)


@given(st.lists(filters, min_size=2, max_size=4), payloads())
def test_it_makes_no_difference_who_else_has_looked(wheres, payload):
    shared = Payload(payload, "application/json")
    together = [where.accepts(shared) for where in wheres]
    assert together == [where.accepts(Payload(payload, "application/json")) for where in wheres]


@given(filters, st.one_of(payloads(), st.binary(max_size=20)), st.sampled_from(["application/json", "text/plain"]))
def test_whatever_the_payload_there_is_a_reason_exactly_where_it_does_not_pass(where, payload, content_type):
    asked = Payload(payload, content_type)
    reason = where.refusal(asked)
    assert (reason is None) is where.accepts(asked)
    if reason is not None:
        assert len(reason.encode()) < 3000
