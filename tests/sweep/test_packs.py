"""Packs: who shares one, how large they are, and in which order they are trained."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldfish.config import registry
from goldfish.config.config import Config, resolve
from goldfish.sweep import machine, packs
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


def model(cell: str, hidden: int, length: int, steps: int = 1, **trainer: Any) -> Config:
    return run(0, length, {"name": cell, "hidden_size": hidden}, trainer={"max_steps": steps, **trainer})


def test_cost_by_hand() -> None:
    """LSTM, H = 64, T = 50, B = 32: 409,600 gates at 2.1 ns, 157,286,400 operations at 9.2 ps, and 0.08 ms."""
    by_hand = 0.08e-3 + 0.86016e-3 + 1.44703488e-3
    assert packs.cost(model("lstm", 64, 50)) == pytest.approx(by_hand)
    assert packs.cost(model("lstm", 64, 50, 700)) == pytest.approx(700 * by_hand)
    assert packs.cost(model("lstm", 64, 50, precision="64-true")) == pytest.approx(2 * by_hand - 0.08e-3)
    two_layers = run(0, 50, {"name": "lstm", "hidden_size": 64, "num_layers": 2}, trainer={"max_steps": 1})
    assert packs.cost(two_layers) == pytest.approx(2 * by_hand - 0.08e-3)


@pytest.mark.parametrize(
    ("cell", "hidden", "length", "milliseconds"),  # measured on one core, for each run and step of a pack of 64
    [
        ("rnn", 16, 50, 0.173),
        ("rnn", 32, 200, 0.910),
        ("rnn", 128, 50, 1.977),
        ("gru", 16, 200, 0.930),
        ("gru", 64, 50, 1.900),
        ("gru", 128, 200, 21.66),
        ("lstm", 32, 50, 0.828),
        ("lstm", 64, 200, 8.656),
        ("lstm", 128, 200, 28.81),
    ],
)
def test_cost_is_what_was_measured(cell: str, hidden: int, length: int, milliseconds: float) -> None:
    assert packs.cost(model(cell, hidden, length)) == pytest.approx(milliseconds * 1e-3, rel=0.15)


@pytest.mark.parametrize(
    ("cell", "hidden", "length", "runs"),
    [("rnn", 16, 50, 64), ("rnn", 64, 200, 26), ("gru", 32, 200, 25), ("lstm", 64, 200, 7), ("lstm", 128, 200, 4)],
)
def test_a_pack_makes_its_step_last_60_milliseconds(cell: str, hidden: int, length: int, runs: int) -> None:
    config = model(cell, hidden, length)
    assert packs.replicas(config, memory=2**36) == runs
    if 4 < runs < 64:
        assert (runs - 1) * packs.cost(config) < 60e-3 <= runs * packs.cost(config)
    configs = [config | {"seed": seed} for seed in range(3 * runs)]
    assert sizes(packs.group(configs, "auto")) == [runs] * 3


def test_a_pack_has_room_in_memory() -> None:
    """H = 128, T = 200, B = 32: 24 numbers for each of 819,200 states and 2,097,152 drawn ahead, 87,031,808 bytes."""
    config = model("lstm", 128, 200)
    assert packs.replicas(config, 2, memory=4 * 3 * 87_031_808) == 3
    assert packs.replicas(config, 2, memory=4 * 3 * 87_031_808 - 1) == 2
    assert packs.replicas(model("lstm", 128, 200, precision="64-true"), 2, memory=4 * 4 * 87_031_808) == 2
    assert packs.replicas(config, 64, memory=2**20) == 1
    assert packs.replicas(config) >= 1  # of this machine


def test_a_pack_has_room_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run with three blocks of drawn numbers, 103,809,024 bytes, in half of what is free."""
    config, each = model("lstm", 128, 200), 103_809_024
    assert packs.replicas(config, gpu=True, memory=2 * 10 * each) == 10
    assert packs.replicas(config, 2, gpu=True, memory=2 * 10 * each) == 5  # two workers on one GPU
    assert packs.replicas(config, gpu=True, memory=2 * 100 * each) == 64
    monkeypatch.setattr(machine, "gpu_memory", lambda: (2 * 30 * each, 2 * 20 * each + 1, 2 * 90 * each))
    assert packs.replicas(config, 3, gpu=True) == 20  # one on each
    assert packs.replicas(config, 4, gpu=True) == 10
    assert packs.replicas(model("lstm", 1024, 10_000), gpu=True) == 1
    monkeypatch.setattr(machine, "gpu_memory", lambda: ())
    assert packs.replicas(config, gpu=True) == 2**33 // 2 // each


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


@pytest.mark.parametrize(("runs", "workers", "expected"), [(48, 2, [12] * 4), (17, 2, [9, 8]), (32, 2, [16, 16])])
def test_the_last_packs_are_split_where_the_sweep_then_ends_earlier(
    runs: int, workers: int, expected: list[int]
) -> None:
    costly = [run(seed, 200, {"name": "lstm", "hidden_size": 64}) for seed in range(runs)]
    assert sorted(sizes(packs.group(costly, 16, workers)), reverse=True) == expected


def ends(configs: list[Config], found: list[list[int]], workers: int) -> float:
    """When the last pack ends, by the documented model: 0.1 s, 1 ms a step, and what its runs cost."""
    free = [0.0] * workers
    for pack in found:
        seconds = 0.1 + sum(packs.cost(configs[index]) for index in pack) + 1e-3 * _steps(configs[pack[0]])
        first = free.index(min(free))
        free[first] += seconds
    return max(free)


def _steps(config: Config) -> int:
    return int(config["trainer"]["max_steps"])


@given(
    st.lists(st.tuples(st.sampled_from([10, 40, 300]), st.sampled_from(["rnn", "lstm"])), min_size=1, max_size=70),
    st.integers(1, 9),
)
def test_splitting_never_lengthens_a_sweep_and_uses_every_core(kinds: list[tuple[int, str]], workers: int) -> None:
    configs = [run(seed, length, cell) for seed, (length, cell) in enumerate(kinds)]
    found = packs.group(configs, 16, workers)
    assert sorted(index for pack in found for index in pack) == list(range(len(configs)))
    whole = ends(configs, packs.group(configs, 16), workers)
    assert ends(configs, found, workers) <= whole * (1 + 1e-9)
    if workers == 1:
        assert found == packs.group(configs, 16)
