"""How a filter over payloads is written: `where` as places in the payload and what has to be true of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches

from webhookd.config.forms import FLAG, BadValueError, Form, Where, faults_of, kind_of, parse_list
from webhookd.core import filtering
from webhookd.core.filtering import AnyOf, Between, Condition, Exists, NoneOf, Scalar, Test

MOST_POINTERS = 32
MOST_STEPS = 32
MOST_POINTER_CHARACTERS = 1024
MOST_VALUES = 1000
MOST_VALUE_CHARACTERS = 1024
MOST_DIGITS = 100

_BOUNDS = ("gt", "gte", "lt", "lte")
OPERATORS = ("exists", "not", *_BOUNDS)


def _parse_scalar(value: object) -> Scalar:
    match value:
        case None | bool():
            return value
        case str():
            if len(value) > MOST_VALUE_CHARACTERS:
                raise ValueError(f"must be at most {MOST_VALUE_CHARACTERS} characters long")
            return value
        case int() | float():
            return _parse_number(value)
        case _:
            raise ValueError(f"must be text, a number, true, false or null, not {kind_of(value)}")


def _parse_number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {kind_of(value)}")  # noqa: TRY004
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must be a number that JSON has")
        # What was written, and not the sum of powers of two that stands for it.
        return Decimal(repr(value))
    if abs(value) >= 10**MOST_DIGITS:
        raise ValueError(f"must have at most {MOST_DIGITS} digits")
    return Decimal(value)


def _parse_values(value: object) -> tuple[Scalar, ...]:
    if not isinstance(value, list | tuple):
        return (_parse_scalar(value),)
    values = parse_list(value, _parse_scalar, most=MOST_VALUES)
    if not values:
        raise ValueError("must name at least one value")
    return values


def _parse_tests(value: object) -> tuple[Test, ...]:
    if value is None:
        raise ValueError("must be a value, a list or a table; null as a value stands in a list: [null]")
    if not isinstance(value, Mapping):
        return (AnyOf(_parse_values(value)),)
    if not value:
        raise ValueError(f"must not be empty: give values, or one of {', '.join(OPERATORS)}")
    faults: list[tuple[Where, str]] = []
    tests: list[Test] = []
    bounds: dict[str, Decimal] = {}
    for name, operand in value.items():
        try:
            if name in _BOUNDS:
                bounds[name] = _parse_number(operand)
            else:
                tests.append(_parse_operator(name, operand))
        except ValueError as error:
            faults += [((name, *where), text) for where, text in faults_of(error)]
    if faults:
        raise BadValueError(*faults)
    if Exists(False) in tests and len(value) > 1:
        raise ValueError("exists = false says all there is to say: what is missing has no value")
    if bounds:
        _refuse_contradiction(bounds)
        tests.append(Between(**bounds))
    return tuple(tests)


def _parse_operator(name: str, operand: object) -> Test:
    match name:
        case "exists":
            return Exists(FLAG.parse(operand))
        case "not":
            return NoneOf(_parse_values(operand))
        case _:
            near = get_close_matches(name, OPERATORS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(OPERATORS)}"
            raise ValueError(f"unknown operator; {meant}")


def _refuse_contradiction(bounds: Mapping[str, Decimal]) -> None:
    if {"gt", "gte"} <= bounds.keys() or {"lt", "lte"} <= bounds.keys():
        raise ValueError("has two bounds on one side")
    low = bounds.get("gt", bounds.get("gte"))
    high = bounds.get("lt", bounds.get("lte"))
    if low is None or high is None or low < high or (low == high and {"gte", "lte"} <= bounds.keys()):
        return
    raise ValueError("lets no number through")


def _parse_condition(pointer: str, value: object) -> Condition:
    if len(pointer) > MOST_POINTER_CHARACTERS:
        raise ValueError(f"is longer than {MOST_POINTER_CHARACTERS} characters")
    condition = Condition(pointer=pointer, tests=_parse_tests(value))
    if len(condition.steps) > MOST_STEPS:
        raise ValueError(f"leads deeper than {MOST_STEPS} steps")
    return condition


def _parse_where(value: object) -> filtering.Where:
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004
            f'must be a table such as {{ "/data/status" = ["succeeded"] }}, not {kind_of(value)}'
        )
    if len(value) > MOST_POINTERS:
        raise ValueError(f"must have at most {MOST_POINTERS} entries")
    conditions: list[Condition] = []
    faults: list[tuple[Where, str]] = []
    for pointer, wanted in value.items():
        try:
            conditions.append(_parse_condition(pointer, wanted))
        except ValueError as error:
            faults += [((pointer, *where), text) for where, text in faults_of(error)]
    if faults:
        raise BadValueError(*faults)
    return filtering.Where(tuple(conditions))


def _show_scalar(value: Scalar) -> object:
    if not isinstance(value, Decimal):
        return value
    return int(value) if value.as_tuple().exponent == 0 else float(value)


def _show_tests(tests: tuple[Test, ...]) -> object:
    shown: dict[str, object] = {}
    for test in tests:
        match test:
            case AnyOf(values):
                return [_show_scalar(value) for value in values]
            case NoneOf(values):
                shown["not"] = [_show_scalar(value) for value in values]
            case Exists(wanted):
                shown["exists"] = wanted
            case Between():
                bounds = {name: getattr(test, name) for name in _BOUNDS}
                shown |= {name: _show_scalar(bound) for name, bound in bounds.items() if bound is not None}
    return shown


def _show_where(where: filtering.Where) -> object:
    return {condition.pointer: _show_tests(condition.tests) for condition in where.conditions}


WHERE = Form(_parse_where, _show_where)
"""Places in the payload as JSON pointers (RFC 6901), each with a value, a list of values, or a table of operators."""
