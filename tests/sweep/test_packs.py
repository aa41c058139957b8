"""Packs: who shares one, how large they are, and in which order they are trained."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldfish import registry
from goldfish.config import Config, resolve
from goldfish.sweep import packs
from goldfish.training.pack import pack_key


def run(seed: int = 0, length: int = 10, cell: Any = "rnn", **values: Any) -> Config:
    return resolve({"seed": seed, "task": {"name": "recall", "length": length}, "cell": cell, **values})


def sizes(found: list[list[int]]) -> list[int]:
    return [len(pack) for pack in found]


def test_seed_initialisation_and_learning_rate_share_a_pack() -> None:
    inits = [{"name": "pytorch"}, {"name": "orthogonal", "gain": 0.9}, {"name": "orthogonal"}]
    rates = [{"name": "adam", "lr": lr} for lr in (0.1, 0.001)]
    configs = [run(s, init=i, optimizer=o) for s, i, o in itertools.product(range(2), inits, rates)]
    assert packs.group(configs, 16) == [list(range(12))]


@pytest.mark.parametrize(
    "other",
    [
        {"length": 11},
        {"cell": "lstm"},
        {"cell": {"name": "rnn", "hidden_size": 31}},
        {"optimizer": {"name": "sgd", "lr": 0.001}},
        {"trainer": {"batch_size": 31}},
        {"engine": "eager"},
    ],
)
def test_nothing_else_does(other: dict[str, Any]) -> None:
    found = packs.group([run(0), run(1, **other), run(2)], 16)
    assert sorted(map(sorted, found)) == [[0, 2], [1]]


@given(
    st.lists(st.tuples(st.sampled_from([5, 10, 40]), st.sampled_from(["rnn", "lstm"])), max_size=40), st.integers(1, 9)
)
def test_every_run_is_in_one_pack_of_its_kind_and_sizes_are_balanced(kinds: list[tuple[int, str]], size: int) -> None:
    configs = [run(seed, length, cell) for seed, (length, cell) in enumerate(kinds)]
    found = packs.group(configs, size)
    assert sorted(index for pack in found for index in pack) == list(range(len(configs)))
    by_key: dict[str, list[int]] = {}
    for pack in found:
        (key,) = {pack_key(configs[index]) for index in pack}
        by_key.setdefault(key, []).append(len(pack))
    for counts in by_key.values():
        assert max(counts) <= size
        assert max(counts) - min(counts) <= 1
        assert len(counts) == -(-sum(counts) // size)  # no more packs than needed
    assert found == packs.group(configs, size)


def test_the_costliest_pack_comes_first() -> None:
    configs = [run(0, 10), run(0, 80), run(1, 80), run(0, 20), run(0, 20, "lstm"), run(0, 20, "gru")]
    assert packs.group(configs, 16) == [[1, 2], [4], [5], [3], [0]]


def test_cost_is_proportional_to_steps_length_gates_and_hidden_squared() -> None:
    def of(length: int = 10, steps: int = 1000, **cell: Any) -> float:
        return packs.cost(run(0, length, {"name": "rnn", "hidden_size": 64} | cell, trainer={"max_steps": steps}))

    assert of(length=30) == pytest.approx(3 * of())
    assert of(steps=5000) == pytest.approx(5 * of())
    assert of(hidden_size=128) == pytest.approx(4 * of())
    assert of(name="lstm") == pytest.approx(4 * of())
    assert of(name="gru", num_layers=2) == pytest.approx(6 * of())


@pytest.mark.parametrize("task", registry.names("task"))
def test_every_task_has_a_cost(task: str) -> None:
    values: Config = resolve({}) | {"task": {"name": task} | {key: p.default for key, p in _parameters(task).items()}}
    assert packs.cost(values) > 0


def _parameters(task: str) -> dict[str, Any]:
    return registry.signature("task", task).parameters


def test_too_few_packs_are_split_so_that_every_worker_has_one() -> None:
    same = [run(seed) for seed in range(16)]
    assert sizes(packs.group(same, 16)) == [16]
    assert sizes(packs.group(same, 16, workers=2)) == [8, 8]
    assert sorted(sizes(packs.group(same, 16, workers=3))) == [5, 5, 6]
    assert sizes(packs.group(same[:2], 16, workers=8)) == [1, 1]
    assert packs.group([], 16, workers=8) == []
    uneven = [*(run(seed, 80) for seed in range(4)), *(run(seed, 10) for seed in range(4))]
    assert packs.group(uneven, 16, workers=3) == [[0, 1], [2, 3], [4, 5, 6, 7]]
