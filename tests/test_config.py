"""Resolved configurations: defaults, checks, and errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goldfish import registry
from goldfish.config import resolve
from goldfish.errors import ConfigError


def test_everything_has_a_default() -> None:
    config = resolve({})
    assert config["cell"] == {"name": "rnn", "hidden_size": 32, "num_layers": 1, "nonlinearity": "tanh"}
    groups = ["cell", "init", "task", "optimizer", "model", "trainer", "tracking"]
    assert list(config) == [*groups, "seed", "engine"]


def test_resolving_twice_changes_nothing() -> None:
    config = resolve({"cell": "lstm", "init": {"name": "chrono", "t_max": 30}, "seed": 3})
    assert resolve(config) == config


@pytest.mark.parametrize("group", registry.GROUPS)
def test_every_thing_can_be_chosen_by_name(group: str) -> None:
    for name in registry.names(group):
        values: dict[str, Any] = {group: name}
        suits = registry.signature(group, name).constants.get("CELLS") if group == "init" else None
        assert resolve(values | ({"cell": suits[0]} if suits else {}))[group]["name"] == name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "sed=1: unknown key; did you mean 'seed'?"),
        ({"cell": "lstn"}, "cell=lstn: did you mean 'lstm'?"),
        ({"cell": {"name": "rnn", "hiden_size": 3}}, "cell.hiden_size=3: unknown key; did you mean 'hidden_size'?"),
        (
            {"cell": {"name": "lstm", "nonlinearity": "relu"}},
            "cell.nonlinearity=relu: cell=lstm has no argument 'nonlinearity'; it belongs to cell=rnn",
        ),
        ({"cell": {"name": "rnn", "hidden_size": 0}}, "cell.hidden_size=0: expected int ≥ 1"),
        ({"task": {"name": "recall", "length": 0}}, "task.length=0: expected int ≥ 1"),
        ({"optimizer": {"name": "adam", "lr": -1}}, "optimizer.lr=-1.0: expected float > 0"),
        ({"optimizer": {"name": "adam", "lr": float("nan")}}, "optimizer.lr=nan: expected a finite float"),
        ({"cell": "rnn", "init": "chrono"}, "init=chrono: does not suit cell=rnn, only lstm, gru"),
        ({"cell": "gru", "init": "critical"}, "init=critical: does not suit cell=gru, only rnn"),
        ({"seed": -1}, "seed=-1: expected int ≥ 0"),
        ({"engine": "fast"}, "engine=fast: "),
        ({"task": {"name": "mnist", "data": "/nowhere"}}, "task.data=/nowhere: no such folder"),
        ({"task": {"name": "mnist", "length": 100}}, "task.length=100: task.order=sequential has 784 steps"),
        ({"trainer": {"precision": "16"}}, "trainer.precision=16: "),
    ],
)
def test_bad_values_are_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_data_folder_that_is_there_is_taken(tmp_path: Path) -> None:
    assert resolve({"task": {"name": "mnist", "data": str(tmp_path)}})["task"]["data"] == str(tmp_path)
