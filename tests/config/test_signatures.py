"""Signatures are read from source alone, and say what a configuration may hold."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Interval
from hypothesis import given
from hypothesis import strategies as st

from goldfish.config import bounds, registry, signatures
from goldfish.errors import ConfigError

SOURCE = '''
"""A module."""
CELLS = ("lstm",)
computed = len(CELLS)

def my_thing(
    layer, generator, *, size: Annotated[int, Ge(1)] = 3, rate: float = 1.0,
    kind: Literal["a", "b"] = "a", top: Annotated[float, Gt(0)] | None = None, flag: bool = False,
    name: str = "x",
) -> None:
    """One line.

    More."""
'''


@pytest.fixture
def thing(tmp_path: Path) -> signatures.Signature:
    path = tmp_path / "my_thing.py"
    path.write_text(SOURCE, encoding="utf-8")
    return signatures.read(path, "my_thing")


def test_types_choices_bounds_and_constants(thing: signatures.Signature) -> None:
    size, kind, top = (thing.parameters[name] for name in ("size", "kind", "top"))
    assert (size.type, size.default, size.bound) == (int, 3, Ge(1))
    assert kind.choices == ("a", "b")
    assert (top.type, top.optional, top.bound, top.default) == (float, True, Gt(0), None)
    assert thing.constants == {"CELLS": ("lstm",)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", 0, "size=0: expected int ≥ 1"),
        ("size", 1.5, "size=1.5: expected int ≥ 1"),
        ("size", True, "size=True: expected int ≥ 1"),
        ("size", "x", "size=x: expected int ≥ 1"),
        ("rate", math.nan, "rate=nan: expected a finite float"),
        ("rate", None, "rate=None: expected float"),
        ("top", 0, "top=0.0: expected float > 0 or null"),
        ("kind", "c", "kind=c: choices: a, b"),
        ("flag", 1, "flag=1: expected bool"),
        ("name", " ", "name= : expected a text that is not empty"),
        ("size", 2**63, f"size={2**63}: expected int ≥ 1 of at most 64 bits"),
    ],
)
def test_what_is_refused(thing: signatures.Signature, name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        thing.parameters[name].check(name, value)
    assert str(caught.value) == message


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_an_int_is_a_float_where_a_float_is_asked_for(value: int) -> None:
    checked = signatures.Parameter("rate", float).check("rate", value)
    assert checked == value
    assert isinstance(checked, float)


@given(st.floats(allow_nan=True), st.floats(-10, 10), st.floats(-10, 10))
def test_bounds(value: float, low: float, high: float) -> None:
    assert bounds.holds(Ge(low), value) == (value >= low)
    assert bounds.holds(Gt(low), value) == (value > low)
    assert bounds.holds(Interval(ge=low, lt=high), value) == (low <= value < high)


def test_bounds_in_words() -> None:
    assert bounds.told(Interval(gt=0, le=1)) == "> 0 and ≤ 1"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def other() -> None: ...", "defines no public 'my_thing'"),
        ("def my_thing(*, a: dict = None) -> None: ...", "'dict' is no type"),
        ("def my_thing(*, a=1) -> None: ...", "has no type"),
        ("def my_thing(*, a: Annotated[int, odd()] = 1) -> None: ...", "is no type"),
    ],
)
def test_a_file_that_breaks_the_rule_is_named(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        signatures.read(path, "my_thing")


@pytest.mark.parametrize("group", registry.GROUPS)
def test_what_is_read_is_what_python_sees(group: str) -> None:
    """Names and defaults of every registered thing, against inspect."""
    for name in registry.names(group):
        seen = inspect.signature(registry.load(group, name)).parameters.values()
        keywords = {p.name: p.default for p in seen if p.kind is p.KEYWORD_ONLY}
        read = registry.signature(group, name)
        assert {key: parameter.default for key, parameter in read.parameters.items()} == keywords
        assert (registry.load(group, name).__doc__ or "").strip(), f"{group}={name} has no docstring"
        for key, parameter in read.parameters.items():
            assert parameter.check(key, parameter.default) == parameter.default


def test_reading_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; from goldfish.config import registry\n"
        "[registry.signature(g, n) for g in registry.GROUPS for n in registry.names(g)]\n"
        "print(sorted({'torch', 'numpy', 'mlflow', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
