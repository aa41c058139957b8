"""A run that stops when it is solved: as if it had been asked for so many steps, in whatever pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.exactness import essence, interrupt

import goldfish
from goldfish.config.config import Config
from goldfish.sweep.identity import fingerprint, identity
from goldfish.tasks.base import Batch
from goldfish.training.module import PackModule
from goldfish.training.outcome import Outcome
from goldfish.training.state.checkpoint import Checkpointing
from goldfish.training.train import train_pack

TRAINER: dict[str, Any] = {"accelerator": "cpu", "max_steps": 400, "validate_every": 20, "evaluation_size": 64}


def config(seed: int, lr: float = 0.02, **trainer: Any) -> Config:
    task = {"name": "recall", "length": 3}
    cell = {"name": "gru", "hidden_size": 16}
    chosen = {"seed": seed, "task": task, "cell": cell, "optimizer": {"name": "adam", "lr": lr}}
    return goldfish.resolve(chosen | {"trainer": TRAINER | trainer})


@pytest.fixture(scope="module")
def pack() -> list[Outcome]:
    """Three that are solved at some step, and one whose learning rate is too small for that."""
    runs = [config(seed, stop_when_solved=True) for seed in range(3)]
    return train_pack([*runs, config(0, lr=1e-6, stop_when_solved=True)])


def test_the_pack_is_what_it_should_be(pack: list[Outcome]) -> None:
    assert [outcome.verdict for outcome in pack] == ["solved", "solved", "solved", "unsolved"]
    assert pack[3].steps == 400
    assert all(outcome.steps < 400 and outcome.steps == outcome.metrics["time_to_solve"] for outcome in pack[:3])


@pytest.mark.parametrize("replica", range(4))
def test_alone_it_is_the_same(pack: list[Outcome], replica: int) -> None:
    (alone,) = train_pack([pack[replica].config])
    assert essence(alone) == essence(pack[replica])


def test_the_weights_are_those_of_a_training_of_so_many_steps(pack: list[Outcome]) -> None:
    for seed, outcome in enumerate(pack[:3]):
        (short,) = train_pack([config(seed, max_steps=outcome.steps)])
        for name, weight in outcome.state_dict.items():
            assert torch.equal(weight, short.state_dict[name])
        learning = [point for point in outcome.curves if point.phase == "training"]
        assert learning == [point for point in short.curves if point.phase == "training"]
        assert short.metrics["test/loss"] == outcome.metrics["test/loss"]


@pytest.mark.parametrize("step", [30, 250])
def test_interrupted_it_goes_on(pack: list[Outcome], step: int, tmp_path: Path) -> None:
    configs = [outcome.config for outcome in pack]
    settings = Checkpointing(tmp_path, tuple(map(fingerprint, configs)))
    interrupt(configs, settings, step)
    resumed = train_pack(configs, checkpointing=settings)
    assert [essence(outcome) for outcome in resumed] == [essence(outcome) for outcome in pack]


def test_nothing_is_computed_for_what_has_stopped(pack: list[Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = PackModule.training_step

    def training_step(module: PackModule, batch: Batch, batch_idx: int) -> None:
        sizes.append(len(module.configs))
        original(module, batch, batch_idx)

    monkeypatch.setattr(PackModule, "training_step", training_step)
    train_pack([outcome.config for outcome in pack])
    assert sizes == [sum(step < outcome.steps for outcome in pack) for step in range(400)]  # each is a quarter at least


def test_what_does_not_stop_is_the_run_it_was() -> None:
    plain = config(0)
    older = {key: value for key, value in plain.trainer.items() if key != "stop_when_solved"}
    assert identity(plain.plain(), None) == identity(plain.plain() | {"trainer": older}, None)
    assert fingerprint(config(0, stop_when_solved=True)) != fingerprint(plain)
