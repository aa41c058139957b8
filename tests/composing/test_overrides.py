"""Overrides as people type them: what they enumerate, and in which words they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from goldfish.composing import overrides
from goldfish.errors import ConfigError

GROUPS = {
    "cell": ["gru", "lstm", "rnn"],
    "trainer": ["cpu", "gpu"],
    "study": ["long"],
    "hydra/launcher": ["basic", "packed"],
}


def options(group: str) -> list[str]:
    return GROUPS.get(group, [])


def enumerated(line: str) -> list[overrides.Setting]:
    return [
        setting for override in overrides.split([line], options)[1] for setting in overrides.axis(override, options)
    ]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("seed=3", [3]),
        ("seed=0,1,2", [0, 1, 2]),
        ("seed=range(1,7,2)", [1, 3, 5]),
        ("seed=range(3)", [0, 1, 2]),
        ("seed=sort(3,1,2)", [1, 2, 3]),
        ("optimizer.lr=1e-3,0.01", [0.001, 0.01]),
        ("optimizer.lr=range(0,1,0.25)", [0.0, 0.25, 0.5, 0.75]),
        ("cell=choice(rnn,lstm)", ["rnn", "lstm"]),
        ("cell=glob(*)", ["gru", "lstm", "rnn"]),
        ("cell=glob(*,exclude=l*)", ["gru", "rnn"]),
        ("trainer.gradient_clip_val=null,1", [None, 1]),
        ("task.permuted=true,false", [True, False]),
        ("tracking.experiment_name='a,b'", ["a,b"]),
        ("tracking.experiment_name='1',\"x y\"", ["1", "x y"]),
        ("tracking.experiment_name=", [""]),
    ],
)
def test_an_axis_is_what_hydra_enumerates(line: str, values: list[Any]) -> None:
    settings = overrides.axis(overrides.parse(line), options)
    assert [setting.value for setting in settings] == values
    for setting in settings:  # each written so that Hydra reads the same value again
        assert overrides.single(overrides.parse(str(setting)), options) == setting


def test_a_shuffle_keeps_the_values() -> None:
    settings = overrides.axis(overrides.parse("seed=shuffle(range(20))"), options)
    assert sorted(setting.value for setting in settings) == list(range(20))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seed=interval(0,1)", "^seed=interval.*: an interval holds no list of values"),
        ("seed=range(1,10,0)", "^seed=range.*zero"),
        ("seed=range(5,1)", "no value is left"),
        ("cell=glob(z*)", "no value is left"),
        ("cell=[", "^cell=.*not an override that Hydra can read"),
        ("seed=${task.length", "not an override that Hydra can read"),
        ("seed=int(x)", "not an override.*invalid literal"),
        ("lstm", "^lstm: expected key=value"),
        ("=3", "^=3: expected key=value"),
        ("a b=3", "not an override"),
        ("x=1", "^x=1: unknown key; choices: cell"),
        ("+x=1", "^.x=1: unknown key; choices: cell"),
        ("sead=1", "did you mean 'seed'"),
        ("hidden_size=3", "did you mean 'cell.hidden_size'"),
        ("lr=3", "did you mean 'optimizer.lr'"),
        ("cel.hidden_size=3", "did you mean 'cell.hidden_size'"),
        ("cel.depth=3", "did you mean 'cell'"),
        ("~cell", "^~cell: a key cannot be deleted"),
        ("~seed=0", "^~seed=0: a key cannot be deleted"),
        ("+seed=0", r"a key is set without a \+; write seed=0"),
        ("+cell=lstm", r"a key is set without a \+; write cell=lstm"),
        ("cell@task=lstm", "write cell="),
        ("cell=lstn", "^cell=lstn: did you mean 'lstm'"),
        ("cell=rnn,lstn", "^cell=lstn: did you mean 'lstm'"),
        ("cell=null", "^cell=null: choices: gru, lstm, rnn"),
        ("cell=3", "^cell=3: choices: gru"),
        ("cell=[rnn]", "^cell=.rnn.: did you mean 'rnn'"),
        ("trainer=tpu", "did you mean 'gpu'"),
        ("+study=lang", "did you mean 'long'"),
        ("hydra/launcher=packt", "^hydra/launcher=packt: did you mean 'packed'"),
    ],
)
def test_what_no_run_can_mean_is_refused(line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        enumerated(line)


def test_hydras_overrides_are_set_apart() -> None:
    lines = ["cell=lstm", "hydra.verbose=true", "+study=long", "hydra/launcher=basic", "++seed=4"]
    hydra, own = overrides.split(lines, options)
    assert hydra == ["hydra.verbose=true", "hydra/launcher=basic"]
    assert [str(overrides.single(override, options)) for override in own] == ["cell=lstm", "+study=long", "seed=4"]


def test_a_group_is_chosen_once() -> None:
    with pytest.raises(ConfigError, match=r"^cell=rnn: 'cell' is chosen twice"):
        overrides.split(["cell=lstm", "cell=rnn"], options)
    overrides.split(["seed=1", "seed=2"], options)  # of a value, the last counts


def test_a_sweep_is_no_single_value() -> None:
    with pytest.raises(ConfigError, match=r"^seed=1,2: several values need -m"):
        overrides.single(overrides.parse("seed=1,2"), options)


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ([10, 20], [10, 20]),
        ("10,20", [10, 20]),
        ("range(0,3)", [0, 1, 2]),
        (["1e-3", 0.01], [0.001, 0.01]),  # YAML reads 1e-3 as text
        ([None, True, 1.0], [None, True, 1.0]),
        ("lstm", ["lstm"]),
        (["'a,b'", "c"], ["a,b", "c"]),
    ],
)
def test_values_written_in_yaml(written: Any, values: list[Any]) -> None:
    found = [setting.value for setting in overrides.written("task.length", written, options)]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_what_yaml_may_not_hold() -> None:
    with pytest.raises(ConfigError, match=r"^task.length=.*: expected a number, a text or a list"):
        overrides.written("task.length", [{"a": 1}], options)
    with pytest.raises(ConfigError, match=r"^lenght=3: unknown key"):
        overrides.written("lenght", 3, options)


@pytest.mark.parametrize(
    ("key", "written", "values"),
    [
        ("probe", ["recall"], [["recall"]]),
        ("probe", [["recall"], ["recall", "gradient_flow"]], [["recall"], ["recall", "gradient_flow"]]),
        ("probe", "[recall],[]", [["recall"], []]),
        ("trainer.probe_at", ["after", 7, {"every": 50}], [["after", 7, {"every": 50}]]),
        ("seed", [1, 2], [1, 2]),
    ],
)
def test_a_list_in_a_file_is_one_value_where_the_key_holds_a_list(key: str, written: Any, values: list[Any]) -> None:
    assert [setting.value for setting in overrides.written(key, written, options)] == values
