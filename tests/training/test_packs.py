"""A run's numbers do not depend on the pack it was in."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.training.outcome import Outcome
from goldfish.training.pack import pack_key
from goldfish.training.train import train, train_pack

TIMES = {"train/seconds", "train/steps_per_second"}


def same(a: Outcome, b: Outcome) -> bool:
    """Equal to the last bit: weights, metrics, curves."""
    weights = all(torch.equal(a.state_dict[name], b.state_dict[name]) for name in a.state_dict)
    metrics = {k: v for k, v in a.metrics.items() if k not in TIMES} == {
        k: v for k, v in b.metrics.items() if k not in TIMES
    }
    curves = len(a.curves) == len(b.curves) and all(
        p[:3] == q[:3] and (p.value == q.value or (math.isnan(p.value) and math.isnan(q.value)))
        for p, q in zip(a.curves, b.curves, strict=True)
    )
    return weights and metrics and curves and a.verdict == b.verdict


@pytest.mark.parametrize("hidden", [24, 33])
@pytest.mark.parametrize("optimizer", registry.names("optimizer"))
@pytest.mark.parametrize("engine", ["eager", "stepwise", "cpu"])
@pytest.mark.parametrize("cell", registry.names("cell"))
def test_a_run_alone_in_a_pair_in_sixteen_and_in_another_order(
    small: Callable[..., Config], cell: str, engine: str, optimizer: str, hidden: int
) -> None:
    inits = ["pytorch", "orthogonal"]
    configs = [
        small(
            cell,
            hidden=hidden,
            steps=4,
            batch=7,
            engine=engine,
            seed=seed,
            init=inits[seed % 2],
            optimizer={"name": optimizer, "lr": 0.003 * (1 + seed % 3)},
        )
        for seed in range(16)
    ]
    sixteen = train_pack(configs)
    backwards = train_pack(configs[::-1])[::-1]
    pair = train_pack([configs[3], configs[10]])
    alone = train_pack([configs[10]])
    for index in range(16):
        assert same(sixteen[index], backwards[index])
    assert same(sixteen[3], pair[0])
    assert same(sixteen[10], pair[1])
    assert same(sixteen[10], alone[0])


@pytest.mark.parametrize("task", [{"name": "adding", "length": 7}, {"name": "copying", "length": 4}])
@pytest.mark.parametrize("cell", registry.names("cell"))
def test_one_output_and_every_step_read_out(small: Callable[..., Config], cell: str, task: dict[str, object]) -> None:
    configs = [small(cell, hidden=13, steps=4, batch=7, seed=seed, task=task) for seed in range(5)]
    together = train_pack(configs)
    assert same(together[3], train_pack([configs[3]])[0])


def test_replicas_of_a_pack_differ(small: Callable[..., Config]) -> None:
    first, second = train_pack([small(seed=0), small(seed=1)])
    assert not same(first, second)


def test_train_keeps_the_order_of_its_configs_across_packs(small: Callable[..., Config]) -> None:
    configs = [small("gru", seed=0), small("rnn", seed=0), small("gru", seed=1)]
    outcomes = train(configs)
    assert [outcome.config for outcome in outcomes] == configs
    assert [outcome.packed for outcome in outcomes] == [2, 1, 2]


def test_packs_share_nothing_but_seed_init_and_learning_rate(small: Callable[..., Config]) -> None:
    base = small()
    assert pack_key(base) == pack_key(small(seed=5, init="identity", optimizer={"name": "adam", "lr": 0.5}))
    for other in (small("gru"), small(hidden=9), small(trainer={"gradient_clip_val": 2.0}), small(engine="eager")):
        assert pack_key(base) != pack_key(other)
        with pytest.raises(ValueError, match="may differ only in"):
            train_pack([base, other])
