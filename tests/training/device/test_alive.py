"""Runs that end where the host does not look at every step: a mask on the device, which it reads when it validates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.exactness import essence, interrupt

from goldfish.config import registry
from goldfish.config.config import Config, resolve
from goldfish.training.data import TrainingStream
from goldfish.training.device.alive import Alive, told
from goldfish.training.module import PackModule
from goldfish.training.state.checkpoint import Checkpointing
from goldfish.training.train import train_pack

CPU, NAN, INF = torch.device("cpu"), float("nan"), float("inf")


def test_the_first_number_that_is_not_finite_counts() -> None:
    """By hand: run 1's loss in step 2, run 2's gradient in step 3; both are finite again afterwards."""
    alive = Alive(3, CPU)
    losses = torch.ones(3, 4)
    for bad_loss, bad_norm in (((), ()), ((1,), (1,)), ((), (2,)), ((2,), (1,)), ((), ())):
        given, norms = losses.clone(), torch.ones(3)
        given[list(bad_loss), 2] = NAN
        norms[list(bad_norm)] = INF
        alive.add(given, norms)
    assert alive.ended.tolist() == [0, 2, -3]
    assert alive.moving.tolist() == [True, False, False]
    assert told(alive.ended.tolist(), ()) == {1: (2, "loss"), 2: (3, "gradient")}
    assert told(alive.ended.tolist(), {1: "known"}) == {2: (3, "gradient")}
    values, before = torch.full((3, 2), NAN), torch.arange(6.0).view(3, 2)
    values[0] = 7
    alive.keep(values, before)
    assert values.tolist() == [[7, 7], [2, 3], [4, 5]]


@pytest.fixture
def asynchronous(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Train from now on as on a GPU whose steps are not replayed."""
    return lambda: monkeypatch.setattr(PackModule, "asynchronous", True)


def diverging(small: Callable[..., Config]) -> list[Config]:
    """Five runs of ReLU networks; of three the loss is not finite in step 2 or 3, before and after a validation."""
    trainer = {"gradient_clip_val": None, "max_steps": 8, "validate_every": 2}
    cell = {"name": "rnn", "hidden_size": 8, "nonlinearity": "relu", "num_layers": 1}
    rates = [0.01, 1e30, 1e9, 1e4, 0.01]
    return [
        small(seed=seed, optimizer={"name": "sgd", "lr": rate}, trainer=trainer) | {"cell": cell}
        for seed, rate in enumerate(rates)
    ]


def test_diverging_runs(small: Callable[..., Config], asynchronous: Callable[[], None]) -> None:
    """The same step, reason, weights and curves, though the host hears of it at the next validation."""
    expected = train_pack(diverging(small))
    ends = [outcome.reason.rpartition(" ")[2] for outcome in expected]
    assert ends == ["", "2", "2", "3", ""]
    asynchronous()
    assert [essence(outcome) for outcome in train_pack(diverging(small))] == [essence(one) for one in expected]


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_diverging_runs_that_are_interrupted(
    small: Callable[..., Config], asynchronous: Callable[[], None], tmp_path: Path, step: int
) -> None:
    """Between two validations as well, a checkpoint says who has ended."""
    configs = diverging(small)
    expected = [essence(outcome) for outcome in train_pack(configs)]
    asynchronous()
    settings = Checkpointing(tmp_path, tuple(f"run {seed}" for seed in range(5)))
    interrupt(configs, settings, step)
    assert [essence(outcome) for outcome in train_pack(configs, checkpointing=settings)] == expected


def test_runs_that_stop_when_they_are_solved(asynchronous: Callable[[], None]) -> None:
    trainer = {"max_steps": 60, "validate_every": 5, "evaluation_size": 8, "stop_when_solved": True}
    values = {"task": {"name": "recall", "length": 3}, "trainer": trainer, "optimizer": {"name": "adam", "lr": 0.1}}
    configs = [resolve(values | {"cell": {"name": "rnn", "hidden_size": 8}, "seed": seed}) for seed in range(8)]
    expected = train_pack(configs)
    assert len({outcome.steps for outcome in expected}) > 2
    asynchronous()
    assert [essence(outcome) for outcome in train_pack(configs)] == [essence(outcome) for outcome in expected]


@pytest.mark.parametrize(
    "values", [{"model": {"dropout": 0.3}}, {"model": "feedforward"}, {"trainer": {"omega": 1.0}}], ids=str
)
def test_other_steps(asynchronous: Callable[[], None], values: dict[str, Any]) -> None:
    trainer = {"max_steps": 6, "validate_every": 3, "batch_size": 5, "evaluation_size": 8} | values.get("trainer", {})
    chosen = values | {"trainer": trainer, "task": {"name": "recall", "length": 5}}
    configs = [resolve(chosen | {"seed": seed}) for seed in range(3)]
    expected = [essence(outcome) for outcome in train_pack(configs)]
    asynchronous()
    assert [essence(outcome) for outcome in train_pack(configs)] == expected


def test_more_runs_than_a_grid_has_blocks_for(asynchronous: Callable[[], None]) -> None:
    """R = 1030 (a grid of CUDA has 65,535 blocks along an axis, 64 for each of 1023 runs), the last one as alone."""
    asynchronous()
    trainer = {"batch_size": 3, "max_steps": 3}
    values = {"task": {"name": "recall", "length": 2}, "cell": {"name": "gru", "hidden_size": 3}, "trainer": trainer}
    configs = [resolve(values | {"seed": seed}) for seed in range(1030)]
    task = registry.load("task", "recall")(length=2)

    def trained(chosen: list[Config]) -> PackModule:
        module = PackModule(chosen, task, torch.float32, CPU)
        stream = iter(TrainingStream(task, chosen, CPU, torch.float32))
        for _ in range(3):
            module.step(next(stream))
        module.look()
        return module

    together, alone = trained(configs), trained(configs[-1:])
    assert torch.equal(together.weights.values[-1:], alone.weights.values)
    assert not any(record.diverged for record in together.records)
