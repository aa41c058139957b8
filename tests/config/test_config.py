"""Resolved configurations: defaults, checks, and errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goldfish.config import registry
from goldfish.config.config import CHOICES, Config, resolve
from goldfish.errors import ConfigError
from goldfish.sweep.identity import fingerprint


def test_everything_has_a_default() -> None:
    config = resolve({})
    assert config["cell"] == {"name": "rnn", "hidden_size": 32, "num_layers": 1, "nonlinearity": "tanh"}
    groups = ["cell", "init", "task", "optimizer", "model", "trainer", "tracking"]
    assert list(config) == [*groups, "probe", "seed", "engine"]


def test_resolving_twice_changes_nothing() -> None:
    config = resolve({"cell": "lstm", "init": {"name": "chrono", "t_max": 30}, "seed": 3})
    assert resolve(config) == config


@pytest.mark.parametrize("group", CHOICES)
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
        ({"probe": ["recal"]}, "probe=recal: did you mean 'recall'?"),
        ({"probe": {"recall": {"bins": 3}}}, "probe.recall.bins=3: unknown key; it takes none"),
        ({"probe": {"gradient_flow": {"samples": 0}}}, "probe.gradient_flow.samples=0: expected int ≥ 1"),
        ({"trainer": {"probe_at": ["halfway"]}}, "trainer.probe_at=halfway: did you mean 'half'?"),
        ({"trainer": {"probe_at": {"every": 3}}}, "trainer.probe_at={'every': 3}: expected a list of "),
        ({"trainer": {"probe_at": [{"each": 3}]}}, "trainer.probe_at={'each': 3}: expected {every: int}"),
        ({"trainer": {"probe_at": [0]}}, "trainer.probe_at=0: expected int ≥ 1"),
        ({"trainer": {"probe_at": [1001]}}, "trainer.probe_at=1001: expected at most trainer.max_steps=1000"),
    ],
)
def test_bad_values_are_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["recall", ["recall"], {"recall": None}, {"recall": {}}], ids=repr)
def test_probes_are_named_alone_in_a_list_or_with_arguments(given: Any) -> None:
    assert resolve({"probe": given})["probe"] == {"recall": {}}


def test_the_order_of_probes_and_moments_does_not_count() -> None:
    one = {"probe": ["recall", "gradient_flow"], "trainer": {"probe_at": ["after", 30, {"every": 9}, 7, "before", 7]}}
    config = resolve(one)
    assert config["trainer"]["probe_at"] == ["before", "after", 7, 30, {"every": 9}]
    assert list(config["probe"]) == ["gradient_flow", "recall"]


def test_a_data_folder_that_is_there_is_taken(tmp_path: Path) -> None:
    assert resolve({"task": {"name": "mnist", "data": str(tmp_path)}})["task"]["data"] == str(tmp_path)


@pytest.mark.parametrize(
    ("key", "given", "plain"),
    [
        ("seed", np.int64(3), 3),
        ("seed", np.array(3), 3),
        ("optimizer.lr", np.float32(0.5), 0.5),
        ("optimizer.lr", np.float64(0.1), 0.1),
        ("optimizer.lr", np.int32(1), 1.0),
        ("optimizer.weight_decay", -0.0, 0.0),
        ("optimizer.weight_decay", np.float64(-0.0), 0.0),
        ("trainer.stop_when_solved", np.bool_(True), True),
        ("engine", np.str_("eager"), "eager"),
    ],
    ids=str,
)
def test_a_number_is_the_same_run_whoever_holds_it(key: str, given: Any, plain: Any) -> None:
    group, _, name = key.rpartition(".")

    def resolved(value: Any) -> Config:
        return resolve({group: {name: value}} if group else {name: value})

    found = resolved(given)
    value = found[group][name] if group else found[name]
    assert (repr(value), type(value)) == (repr(plain), type(plain))
    assert fingerprint(found) == fingerprint(resolved(plain))


@pytest.mark.parametrize("given", [np.bool_(True), np.float64(3), np.array([3])], ids=repr)
def test_what_is_no_whole_number_is_no_seed(given: Any) -> None:
    with pytest.raises(ConfigError, match="expected int"):
        resolve({"seed": given})


def test_a_number_in_a_tensor() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert resolve({"seed": torch.tensor(3)}) == resolve({"seed": 3})
    with pytest.raises(ConfigError, match="expected int"):
        resolve({"seed": torch.tensor(3.0)})


@pytest.mark.parametrize("digits", [400, 4000, 5000])
def test_numbers_without_end_are_refused_in_one_line(digits: int) -> None:
    for values in ({"optimizer": {"lr": 10**digits}}, {"seed": 10**digits}, {"optimizer": {"lr": -(10**digits)}}):
        with pytest.raises(ConfigError) as caught:
            resolve(values)
        assert str(caught.value).isprintable()


def test_a_path_is_its_text(tmp_path: Path) -> None:
    task = {"name": "mnist", "length": 784, "data": tmp_path}
    assert resolve({"task": task})["task"]["data"] == str(tmp_path)
