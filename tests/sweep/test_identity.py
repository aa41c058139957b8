"""Fingerprints: equal for the same run however it is written, different after any change of what is run."""

from __future__ import annotations

import copy
import hashlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.data import sources as data
from goldfish.errors import ConfigError
from goldfish.sweep import identity as module
from goldfish.sweep.identity import fingerprint, fingerprints

GOLDEN = {
    "cell": {"name": "lstm", "hidden_size": 32, "num_layers": 1},
    "init": {"name": "orthogonal", "gain": 1.0},
    "task": {"name": "recall", "length": 40, "symbols": 8, "distractors": 2},
    "optimizer": {"name": "adam", "lr": 0.01},
    "trainer": {"max_steps": 600, "batch_size": 32, "gradient_clip_val": None, "accelerator": "auto"},
    "tracking": {"experiment_name": "goldfish"},
    "seed": 3,
    "engine": "auto",
}
HUB = {"HUB_ID", "HUB_IDS"}
SYNTHETIC = [name for name in registry.names("task") if not HUB & registry.signature("task", name).constants.keys()]
UNCOUNTED = ("tracking.experiment_name", "trainer.accelerator", "trainer.loggers")


def printed(values: dict[str, Any]) -> str:
    """The fingerprint of a run of synthetic data that is given in dictionaries, whatever they hold."""
    return hashlib.sha256(module.canonical(module.identity(values, None)).encode()).hexdigest()


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A resolved configuration of any cell, initialisation that suits it, task and optimiser."""
    cell = draw(st.sampled_from(registry.names("cell")))
    inits = [n for n in registry.names("init") if cell in registry.signature("init", n).constants.get("CELLS", (cell,))]
    return resolve(
        {
            "cell": {"name": cell, "hidden_size": draw(st.integers(1, 512))},
            "init": draw(st.sampled_from(inits)),
            "task": draw(st.sampled_from(SYNTHETIC)),
            "optimizer": {"name": draw(st.sampled_from(registry.names("optimizer"))), "lr": draw(st.floats(1e-6, 1))},
            "trainer": {"max_steps": draw(st.integers(1, 10**6))},
            "seed": draw(st.integers(0, 2**31)),
        }
    ).plain()


def keys(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for group, values in config.items():
        yield from ((group, name) for name in values) if isinstance(values, dict) else [(group, "")]


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    return "other" if value is None else f"{value}x"


def with_change(config: dict[str, Any], group: str, name: str) -> dict[str, Any]:
    copied = copy.deepcopy(config)
    if not name:
        copied[group] = changed(copied[group])
    elif (group, name) == ("task", "name"):
        copied["task"]["name"] = "adding" if copied["task"]["name"] != "adding" else "parity"
    else:
        copied[group][name] = changed(copied[group][name])
    return copied


def test_golden() -> None:
    """Changes only with FORMAT: otherwise every recorded run would be trained again."""
    assert module.FORMAT == 1
    assert printed(GOLDEN) == "f0bd950d44bdf2293c39a92f6d214131a1b1ec75f23310cf4be96cfcc0f66ce1"
    text = (
        '{"cell":{"hidden_size":32,"name":"lstm","num_layers":1},"engine":"auto","format":1,'
        '"init":{"gain":1.0,"name":"orthogonal"},"optimizer":{"lr":0.01,"name":"adam"},"seed":3,'
        '"task":{"distractors":2,"length":40,"name":"recall","symbols":8},'
        '"trainer":{"batch_size":32,"gradient_clip_val":null,"max_steps":600}}'
    )
    assert hashlib.sha256(text.encode()).hexdigest() == printed(GOLDEN)


@given(configs(), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(config: dict[str, Any], random: Any) -> None:
    def shuffled(values: dict[str, Any]) -> dict[str, Any]:
        names = random.sample(list(values), len(values))
        return {name: shuffled(values[name]) if isinstance(values[name], dict) else values[name] for name in names}

    assert printed(shuffled(config)) == printed(config)


@given(configs(), st.data())
def test_any_change_counts_but_of_place_and_device(config: dict[str, Any], drawn: st.DataObject) -> None:
    group, name = drawn.draw(st.sampled_from(list(keys(config))))
    same = printed(with_change(config, group, name)) == printed(config)
    assert same == (f"{group}.{name}" in UNCOUNTED)


def test_every_single_key_of_a_run_counts() -> None:
    """The same, not left to chance, for one configuration of each task."""
    for task in SYNTHETIC:
        config = resolve({"task": task}).plain()
        for group, name in keys(config):
            same = printed(with_change(config, group, name)) == printed(config)
            assert same == (f"{group}.{name}" in UNCOUNTED), (task, group, name)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_two_learning_rates_are_one_only_when_equal(one: float, other: float) -> None:
    prints = [printed({**GOLDEN, "optimizer": {"name": "adam", "lr": lr}}) for lr in (one, other)]
    assert (prints[0] == prints[1]) == (repr(one) == repr(other))


def test_whole_numbers_written_as_floats_are_the_same_run() -> None:
    one, other = ({"optimizer": {"name": "adam", "lr": lr}} for lr in (1, 1.0))
    assert fingerprint(resolve(one)) == fingerprint(resolve(other))


def test_the_configuration_is_left_as_it_was() -> None:
    before = copy.deepcopy(GOLDEN)
    printed(GOLDEN)
    assert before == GOLDEN


def test_the_default_probes_and_moments_do_not_count() -> None:
    """Runs were recorded before there was anything to choose."""
    before = resolve({}).plain()
    del before["probe"], before["trainer"]["probe_at"]
    assert printed(before) == fingerprint(resolve({}))
    others: list[dict[str, Any]] = [
        {"probe": ["recall"]},
        {"probe": {"gradient_flow": {"samples": 8}}},
        {"trainer": {"probe_at": "after"}},
    ]
    assert len({fingerprint(resolve(other)) for other in [{}, *others]}) == 4


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        printed({**GOLDEN, "optimizer": {"name": "adam", "lr": math.nan}})


def test_real_data_count_by_content_not_by_place(data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(data_folder / "mnist", tmp_path / "copy")
    prints = {
        fingerprint(resolve({"task": {"name": "mnist", "data": str(folder)}}))
        for folder in (data_folder / "mnist", tmp_path / "copy")
    }
    assert len(prints) == 1


def test_other_content_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits lie inside scikit-learn; a release with other digits makes other runs."""
    config = resolve({"task": {"name": "digits", "length": 64}})
    seen = set()
    for digest in ("a", "b", None):
        monkeypatch.setattr(data, "content_hash", lambda task, digest=digest: digest)
        seen.add(fingerprint(config))
    assert len(seen) == 3


def test_content_is_looked_at_once_for_all_runs_and_anew_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(data, "content_hash", lambda task: asked.append(task))
    configs = [resolve({"task": {"name": "digits", "length": length}}) for length in (64, 65, 66)]
    for times in (1, 2):
        fingerprints(configs)
        assert len(asked) == times


def test_data_out_of_reach_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.data"):
        fingerprint(resolve({"task": {"name": "mnist", "data": str(tmp_path)}}))
