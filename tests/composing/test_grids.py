"""The points of a sweep against brute force, and how the command line narrows grids."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from goldfish.composing import grids
from goldfish.errors import ConfigError

RNN = {"cell": "rnn", "init": "pytorch,orthogonal"}
GATED = {"cell": "lstm,gru", "init": "pytorch,chrono"}


def options(group: str) -> list[str]:
    return []


def points(
    params: dict[str, Any] | None = None,
    union: dict[str, dict[str, Any]] | None = None,
    given: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    axes = {name: grids.axes(grid, options) for name, grid in (union or {}).items()}
    found = grids.points(grids.axes(params or {}, options), axes, grids.axes(given or {}, options))
    return [{setting.key: setting.value for setting in point} for point in found]


def brute(**axes: list[Any]) -> list[dict[str, Any]]:
    keys = [key.replace("__", ".") for key in axes]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*axes.values())]


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    def ordered(items: list[dict[str, Any]]) -> list[list[tuple[str, str]]]:
        return sorted(sorted((key, repr(value)) for key, value in item.items()) for item in items)

    return ordered(found) == ordered(expected)


def test_no_grid_is_one_product() -> None:
    found = points({"seed": "0,1"}, None, {"cell": "rnn,lstm", "task.length": [10, 20]})
    assert same(found, brute(seed=[0, 1], cell=["rnn", "lstm"], task__length=[10, 20]))
    assert points() == [{}]


def test_grids_are_united_and_crossed_with_the_rest() -> None:
    found = points({"seed": "0,1"}, {"rnn": RNN, "gated": GATED}, {"task.length": 10})
    expected = brute(seed=[0, 1], cell=["rnn"], init=["pytorch", "orthogonal"], task__length=[10])
    expected += brute(seed=[0, 1], cell=["lstm", "gru"], init=["pytorch", "chrono"], task__length=[10])
    assert same(found, expected)


def test_a_grids_axis_replaces_the_common_one() -> None:
    found = points({"seed": "0,1", "task.length": 5}, {"short": {"task.length": "1,2"}, "any": {}})
    assert same(found, [*brute(seed=[0, 1], task__length=[1, 2]), *brute(seed=[0, 1], task__length=[5])])


def test_the_command_line_replaces_a_common_axis() -> None:
    assert same(points({"seed": "0,1"}, None, {"seed": "7"}), [{"seed": 7}])


def test_the_command_line_filters_grids() -> None:
    union = {"rnn": RNN, "gated": GATED}
    assert same(points({}, union, {"init": "chrono"}), brute(cell=["lstm", "gru"], init=["chrono"]))
    assert same(points({}, union, {"cell": "rnn,gru", "init": "pytorch"}), brute(cell=["rnn", "gru"], init=["pytorch"]))
    # a value that no grid has goes with one that some have: it filters, it adds nothing
    assert same(points({}, union, {"init": "chrono,sparse"}), brute(cell=["lstm", "gru"], init=["chrono"]))


def test_a_grid_without_the_key_takes_it_as_an_axis() -> None:
    found = points({}, {"a": {"cell": "rnn", "seed": "0,1"}, "b": {"cell": "gru"}}, {"seed": "1,2"})
    assert same(found, [{"cell": "rnn", "seed": 1}, *brute(cell=["gru"], seed=[1, 2])])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"init": "sparse"}, "^init=sparse: the sweep's grids hold none of it, only init=pytorch,orthogonal,chrono$"),
        ({"cell": "rnn", "init": "chrono"}, "^init=chrono: .* only init=pytorch,orthogonal$"),
    ],
)
def test_a_filter_that_leaves_nothing_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        points({}, {"rnn": RNN, "gated": GATED}, given)


def test_true_is_not_one() -> None:
    assert same(points({}, {"a": {"task.flag": [True, 1]}}, {"task.flag": "1"}), [{"task.flag": 1}])
    assert points({}, {"a": {"task.flag": [True, 1]}}, {"task.flag": "true"})[0]["task.flag"] is True


def test_a_range_mistyped_is_refused_before_it_fills_the_memory() -> None:
    axes = {f"task.k{index}": "range(100)" for index in range(4)}
    with pytest.raises(ConfigError, match="100000000 runs"):
        grids.points(grids.axes(axes, options), {}, {})


def test_nested_mappings_are_dotted_keys() -> None:
    assert same(points({"task": {"length": "10,20"}}), brute(task__length=[10, 20]))
