"""`where`: what it takes, in the file and over the API alike, and what it says about what it does not take."""

import tomllib
from decimal import Decimal

import pytest

from tests.unit.config.conftest import SECRET
from webhookd.config import Schema, describe
from webhookd.config.filters import MOST_POINTERS, MOST_VALUES, WHERE
from webhookd.core.filtering import AnyOf, Between, Condition, Exists, NoneOf, Where
from webhookd.core.ids import EndpointId
from webhookd.errors import InvalidRequestError


def one(*tests, pointer="/a") -> Where:
    return Where((Condition(pointer=pointer, tests=tests),))


TAKEN = [
    ('{ "/a" = ["x", "y"] }', one(AnyOf(("x", "y")))),
    ('{ "/a" = "x" }', one(AnyOf(("x",)))),
    ('{ "/a" = 10 }', one(AnyOf((Decimal(10),)))),
    ('{ "/a" = [10.0, true, 0.1] }', one(AnyOf((Decimal(10), True, Decimal("0.1"))))),
    ('{ "/a" = 123456789012345678901 }', one(AnyOf((Decimal(123456789012345678901),)))),
    ('{ "/a" = { exists = true } }', one(Exists(True))),
    ('{ "/a" = { exists = false } }', one(Exists(False))),
    ('{ "/a" = { not = ["x", 1] } }', one(NoneOf(("x", Decimal(1))))),
    ('{ "/a" = { not = "x", exists = true } }', one(NoneOf(("x",)), Exists(True))),
    ('{ "/a" = { gt = 10, lte = 20.5 } }', one(Between(gt=Decimal(10), lte=Decimal("20.5")))),
    ('{ "/a" = { gte = 10, lte = 10 } }', one(Between(gte=Decimal(10), lte=Decimal(10)))),
    ('{ "" = 1 }', one(AnyOf((Decimal(1),)), pointer="")),
    ('{ "/~0~1/0" = 1 }', one(AnyOf((Decimal(1),)), pointer="/~0~1/0")),
    ("{}", Where()),
]


@pytest.mark.parametrize(("text", "where"), TAKEN)
def test_a_filter_is_read_from_the_file(config, text, where):
    assert config.endpoint(f"where = {text}").where == where


@pytest.mark.parametrize(("text", "where"), TAKEN)
def test_a_filter_is_read_over_the_api(config, text, where):
    given = {"url": "https://example.com", "where": tomllib.loads(f"where = {text}")["where"]}
    assert resolve(config, given).where == where


@pytest.mark.parametrize(("text", "where"), TAKEN)
def test_a_filter_is_shown_as_it_could_be_written(config, text, where):
    described = describe(config.load(f'[endpoints.a]\nurl = "https://e.com"\nsignatures = []\nwhere = {text}'))
    assert WHERE.parse(described["endpoints"]["a"]["where"]) == where
    assert WHERE.parse(tomllib.loads(str(described))["endpoints"]["a"]["where"]) == where


def test_null_is_a_value_that_only_json_has(config):
    given = {"url": "https://example.com", "where": {"/a": [None, "x"], "/b": {"not": None}}}
    assert resolve(config, given).where == Where(
        (
            Condition(pointer="/a", tests=(AnyOf((None, "x")),)),
            Condition(pointer="/b", tests=(NoneOf((None,)),)),
        )
    )


def test_several_places_stand_in_the_order_in_which_they_were_given(config):
    where = config.endpoint('where = { "/b" = 1, "/a" = { exists = true } }').where
    assert [condition.pointer for condition in where.conditions] == ["/b", "/a"]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('"x"', "", "must be a table"),
        ('["/a"]', "", "must be a table"),
        ('{ "data.status" = "x" }', '."data.status"', 'did you mean "/data/status"?'),
        ('{ "/a~" = "x" }', '."/a~"', "is not a JSON pointer"),
        ('{ "/a" = [] }', '."/a"', "at least one value"),
        ('{ "/a" = [["x"]] }', '."/a"[0]', "not a list"),
        ('{ "/a" = [1, { b = 1 }] }', '."/a"[1]', "not a table"),
        ('{ "/a" = 2026-01-01 }', '."/a"', "not a date or time"),
        ('{ "/a" = nan }', '."/a"', "a number that JSON has"),
        ('{ "/a" = {} }', '."/a"', "must not be empty"),
        ('{ "/a" = { exist = true } }', '."/a".exist', "unknown operator; did you mean exists?"),
        ('{ "/a" = { gtt = 1 } }', '."/a".gtt', "did you mean gt"),
        ('{ "/a" = { in = [1] } }', '."/a".in', "there are exists, not, gt, gte, lt, lte"),
        ('{ "/a" = { exists = "yes" } }', '."/a".exists', "must be true or false"),
        ('{ "/a" = { not = [] } }', '."/a".not', "at least one value"),
        ('{ "/a" = { not = [1, []] } }', '."/a".not[1]', "not a list"),
        ('{ "/a" = { gt = "1" } }', '."/a".gt', "must be a number, not text"),
        ('{ "/a" = { lt = true } }', '."/a".lt', "must be a number"),
        ('{ "/a" = { exists = false, not = "x" } }', '."/a"', "what is missing has no value"),
        ('{ "/a" = { gt = 1, gte = 1 } }', '."/a"', "two bounds on one side"),
        ('{ "/a" = { lt = 1, lte = 1 } }', '."/a"', "two bounds on one side"),
        ('{ "/a" = { gt = 2, lt = 1 } }', '."/a"', "lets no number through"),
        ('{ "/a" = { gt = 1, lte = 1 } }', '."/a"', "lets no number through"),
        (f'{{ "/a" = 1{"0" * 100} }}', '."/a"', "at most 100 digits"),
        (f'{{ "/a" = "{"x" * 1025}" }}', '."/a"', "at most 1024 characters"),
        (f'{{ "/{"a/" * 32}" = 1 }}', f'."/{"a/" * 32}"', "deeper than 32 steps"),
        (f'{{ "/a" = [{"1," * (MOST_VALUES + 1)}] }}', '."/a"', f"at most {MOST_VALUES} entries"),
    ],
)
def test_a_bad_filter_is_refused_by_its_place(config, text, key, words):
    found, sentence = config.complaint(f'[endpoints.a]\nurl = "https://e.com"\nsignatures = []\nwhere = {text}')
    assert found == f"endpoints.a.where{key}"
    assert words in sentence


def test_a_pointer_of_any_length_is_refused_without_being_repeated_whole(config):
    text = f'[endpoints.a]\nurl = "https://e.com"\nsignatures = []\nwhere = {{ "/{"x" * 2000}" = 1 }}'
    key, sentence = config.complaint(text)
    assert len(key) < 200
    assert "longer than 1024 characters" in sentence


def test_there_are_so_many_places_to_look_at(config):
    where = ", ".join(f'"/{number}" = 1' for number in range(MOST_POINTERS + 1))
    _, sentence = config.complaint(f'[endpoints.a]\nurl = "https://e.com"\nsignatures = []\nwhere = {{ {where} }}')
    assert f"at most {MOST_POINTERS} entries" in sentence


def test_all_complaints_come_at_once_with_pointers_over_the_api(config):
    given = {"url": "https://e.com", "where": {"a": 1, "/b/c~0": {"exist": True, "gt": "x"}, "/d": [[]], "/e": None}}
    with pytest.raises(InvalidRequestError) as refused:
        resolve(config, given)
    assert [fault.pointer for fault in refused.value.faults] == [
        "/where/a",
        "/where/~1b~1c~00/exist",
        "/where/~1b~1c~00/gt",
        "/where/~1d/0",
        "/where/~1e",
    ]
    assert "[null]" in refused.value.faults[-1].detail


def test_a_filter_belongs_to_an_endpoint_and_not_to_the_rules(config):
    assert config.complaint('[delivery]\nwhere = { "/a" = 1 }')[0] == "delivery.where"
    assert config.complaint('[profiles.p]\nwhere = { "/a" = 1 }')[0] == "profiles.p.where"


def test_a_sample_that_is_not_json_cannot_stand_in_an_envelope(config, tmp_path):
    (tmp_path / "sample").write_bytes(b"a,b\n")
    keys = 'url = "https://e.com"\nsignatures = []\nsample_file = "sample"'
    assert config.load(f"[endpoints.a]\n{keys}").endpoints
    key, sentence = config.complaint(f'[delivery]\nbody = "envelope"\n[endpoints.a]\n{keys}')
    assert (key, "must be JSON" in sentence) == ("endpoints.a.sample_file", True)
    (tmp_path / "sample").write_bytes(b'{"a":"\\ud800","n":' + b"9" * 5000 + b"}")
    assert config.load(f'[delivery]\nbody = "envelope"\n[endpoints.a]\n{keys}').endpoints


def resolve(config, given):
    return Schema(config.load("#")).resolve(EndpointId("orders"), given, secret=SECRET, sample=None)
