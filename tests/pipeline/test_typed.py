from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ArtifactError, PipelineError, RecipeError
from pipeline.typed import build, did_you_mean

repeatable = settings(deadline=None, derandomize=True, max_examples=300)


@dataclass(frozen=True)
class Inner:
    bits: Literal[4, 8]
    note: str | None = None


@dataclass(frozen=True)
class Sample:
    text: str
    count: int = 0
    share: float = 0.0
    flag: bool = False
    either: int | str = 0
    names: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=lambda: Inner(4))
    table: Mapping[str, Inner] = field(default_factory=dict)
    free: Any = None


def refusal(table: object, error: type[PipelineError] = RecipeError) -> PipelineError:
    with pytest.raises(error) as caught:
        build(Sample, table, where="r.toml", error=error)
    return caught.value


def test_build_converts_every_declared_type() -> None:
    table = {
        "text": "a",
        "count": 3,
        "share": 2,
        "flag": True,
        "either": "b",
        "names": ["x", "y"],
        "rates": {"k": 1},
        "inner": {"bits": 8, "note": None},
        "table": {"t": {"bits": 4, "note": "n"}},
        "free": [{"anything": 1}],
    }
    built = build(Sample, table, where="r.toml")
    assert built == Sample(
        "a", 3, 2.0, True, "b", ("x", "y"), {"k": 1.0}, Inner(8), {"t": Inner(4, "n")}, [{"anything": 1}]
    )
    assert type(built.share) is float
    assert type(built.rates["k"]) is float


def test_build_uses_defaults() -> None:
    assert build(Sample, {"text": "a"}, where="r.toml") == Sample("a")


@pytest.mark.parametrize(
    ("table", "what", "where", "hint"),
    [
        (
            [],
            "expected a table, found list",
            "r.toml",
            "write a table: [name] on a line of its own, or { key = value }",
        ),
        ({}, "missing key 'text'", "r.toml", "add text = ..."),
        ({"txt": "a"}, "unknown key 'txt'", "r.toml", "; did you mean 'text'?"),
        ({"text": "a", 7: "b"}, "unknown key 7", "r.toml", "known: count, either, "),
        ({"text": 1}, "expected str, found int 1", "r.toml: text", "write a value of type str"),
        ({"text": None}, "expected str, found NoneType None", "r.toml: text", "write a value of type str"),
        ({"text": "a", "count": 1.0}, "expected int, found float 1.0", "r.toml: count", "write a value of type int"),
        ({"text": "a", "count": True}, "expected int, found bool True", "r.toml: count", "write a value of type int"),
        ({"text": "a", "share": True}, "expected float, found bool True", "r.toml: share", "of type float"),
        ({"text": "a", "share": "1"}, "expected float, found str '1'", "r.toml: share", "of type float"),
        ({"text": "a", "share": float("nan")}, "nan is not a finite number", "r.toml: share", "write a finite number"),
        ({"text": "a", "share": -float("inf")}, "-inf is not a finite number", "r.toml: share", "a finite number"),
        ({"text": "a", "share": 10**400}, "10000", "r.toml: share", "write a finite number"),
        ({"text": "a", "share": 1 << 20000}, "(too long to show) is not a finite", "r.toml: share", "finite number"),
        ({"text": 1 << 20000}, "expected str, found int (too long to show)", "r.toml: text", "of type str"),
        ({"text": ["x" * 200]}, "expected str, found list ['xxxx", "r.toml: text", "of type str"),
        ({"text": "a", "flag": 1}, "expected bool, found int 1", "r.toml: flag", "write a value of type bool"),
        ({"text": "a", "either": 1.5}, "expected str, found float 1.5", "r.toml: either", "of type str"),
        ({"text": "a", "names": "abc"}, "expected tuple, found str 'abc'", "r.toml: names", "of type tuple"),
        ({"text": "a", "names": ["a", 2]}, "expected str, found int 2", "r.toml: names[1]", "of type str"),
        ({"text": "a", "rates": [1]}, "expected Mapping, found list [1]", "r.toml: rates", "of type Mapping"),
        ({"text": "a", "rates": {"k": "v"}}, "expected float, found str 'v'", "r.toml: rates.k", "of type float"),
        ({"text": "a", "inner": 3}, "expected a table, found int", "r.toml: inner", "write a table"),
        ({"text": "a", "inner": {}}, "missing key 'bits'", "r.toml: inner", "add bits = ..."),
        ({"text": "a", "inner": {"bits": 3}}, "3 is not one of them", "r.toml: inner: bits", "known: 4, 8"),
        ({"text": "a", "inner": {"bits": 4.0}}, "4.0 is not one of them", "r.toml: inner: bits", "known: 4, 8"),
        ({"text": "a", "table": {"t": {"bit": 4}}}, "unknown key 'bit'", "r.toml: table.t", "did you mean 'bits'?"),
    ],
)
def test_build_refuses(table: object, what: str, where: str, hint: str) -> None:
    error = refusal(table)
    assert error.what.startswith(what)
    assert error.where == where
    assert hint in error.hint
    assert len(error.what) < 200


def test_build_raises_the_error_it_is_given() -> None:
    assert type(refusal({"text": 1}, ArtifactError)) is ArtifactError


def test_did_you_mean_lists_the_known_names_and_the_closest() -> None:
    assert did_you_mean("rtm", ["rtn", "nf4"]) == "known: nf4, rtn; did you mean 'rtn'?"
    assert did_you_mean("zzz", ["rtn", "nf4"]) == "known: nf4, rtn"


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2, 3, 1400, 20000]).map(lambda bits: 1 << bits)
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.just(dt.time(1))
)
keys = st.sampled_from([*Sample.__dataclass_fields__, *Inner.__dataclass_fields__]) | st.text(max_size=3)
nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner), max_leaves=10)
tables = st.fixed_dictionaries(
    {"text": st.text() | leaves}, optional={name: nested for name in Sample.__dataclass_fields__ if name != "text"}
)


@repeatable
@given(nested | tables)
def test_build_raises_only_the_given_error(table: object) -> None:
    try:
        built = build(Sample, table, where="r.toml", error=ArtifactError)
    except ArtifactError as error:
        assert re.match(r"r\.toml", error.where)
        assert error.hint
        return
    assert type(built.text) is str
    assert type(built.count) is int
    assert type(built.share) is float
    assert type(built.flag) is bool
    assert type(built.either) in (int, str)
    assert all(type(name) is str for name in built.names)
    assert all(type(rate) is float for rate in built.rates.values())
    assert built.inner.bits in (4, 8)
    assert all(type(inner) is Inner for inner in built.table.values())
