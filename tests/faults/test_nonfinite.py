"""NaN and inf in one replica at a step of choice: that one diverged there, the others never notice, nothing is best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.training.exactness import essence, interrupt

from goldfish.config.config import Config, resolve
from goldfish.papers import selection
from goldfish.tasks.base import Batch
from goldfish.training.module import PackModule
from goldfish.training.state.checkpoint import Checkpointing
from goldfish.training.train import train_pack

STEPS = 8
BAD = 1  # the seed, and the row, of the run that is spoilt
NAMES = ("a", "b", "c")


def config(seed: int, cell: str = "gru", steps: int = STEPS) -> Config:
    trainer = {"max_steps": steps, "batch_size": 5, "validate_every": 3, "evaluation_size": 9}
    shared = {"cell": {"name": cell, "hidden_size": 8}, "task": {"name": "recall", "length": 6}, "trainer": trainer}
    return resolve(shared | {"seed": seed, "optimizer": {"name": "adam", "lr": 0.01}})


def pack(cell: str = "gru", steps: int = STEPS) -> list[Config]:
    return [config(seed, cell, steps) for seed in range(3)]


def spoil(monkeypatch: pytest.MonkeyPatch, where: str, step: int, value: float) -> None:
    """At a step (from 1) one component of the bad run's gradient is not finite; of its losses one, where they are."""
    clean = PackModule._backpropagate

    def spoilt(module: PackModule, batch: Batch) -> torch.Tensor:
        losses = clean(module, batch)
        seeds = [one["seed"] for one in module.configs]
        if module.steps_done + 1 == step and BAD in seeds:
            module.weights.gradient[seeds.index(BAD), 5] = value
            if where == "loss":
                losses[seeds.index(BAD), 2] = value
        return losses

    monkeypatch.setattr(PackModule, "_backpropagate", spoilt)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 3, 4, 8])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_diverged_at_that_step_and_the_others_unharmed(
    monkeypatch: pytest.MonkeyPatch, where: str, step: int, value: float
) -> None:
    """At the first and the last step, at a validation and halfway."""
    expected = [essence(outcome) for outcome in train_pack(pack())]
    spoil(monkeypatch, where, step, value)
    outcomes = train_pack(pack())
    assert [outcome.verdict for outcome in outcomes] == ["unsolved", "diverged", "unsolved"]
    assert [essence(outcomes[good]) for good in (0, 2)] == [expected[0], expected[2]]
    bad = outcomes[BAD]
    assert bad.reason == f"{where} became non-finite at step {step}"
    # what it has are the weights before that step, and the learning curves until then
    assert all(point.x < step for point in bad.curves if point.phase == "training")
    if step > 1:
        monkeypatch.undo()
        (before,) = train_pack([config(BAD, steps=step - 1)])
        assert essence(bad)["weights"] == essence(before)["weights"]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("steps", [(3,), (4,), (5,), (3, 4, 5, 6)])
def test_across_a_resume(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cell: str, value: float, steps: tuple[int, ...]
) -> None:
    """Broken off before, at and after the step: the same outcomes; so is the bad run's, resumed alone."""
    spoil(monkeypatch, "loss", 4, value)
    expected = [essence(outcome) for outcome in train_pack(pack(cell))]
    assert expected[BAD]["reason"].endswith("became non-finite at step 4")
    for step in steps:
        interrupt(pack(cell), Checkpointing(tmp_path, NAMES), step)
    alone = train_pack([config(BAD, cell)], checkpointing=Checkpointing(tmp_path, (NAMES[BAD],)))
    assert [essence(outcome) for outcome in alone] == [expected[BAD]]
    outcomes = train_pack(pack(cell), checkpointing=Checkpointing(tmp_path, NAMES))
    assert [essence(outcome) for outcome in outcomes] == expected


@pytest.mark.parametrize(("metric", "best"), [("val/loss", -1.0), ("val/accuracy", 2.0)])
def test_never_best(monkeypatch: pytest.MonkeyPatch, metric: str, best: float) -> None:
    """Even where the last value before it diverged beats every other."""
    spoil(monkeypatch, "loss", 7, math.nan)
    rows: list[dict[str, Any]] = []
    for outcome in train_pack(pack()):
        score = best if outcome.verdict == "diverged" else outcome.metrics[metric]
        rows.append({"group": "g", "candidate": str(outcome.config["seed"]), "outcome": outcome.verdict, metric: score})
    trials = pd.DataFrame(rows).assign(task="recall", **{"recall/chance": 0.125})
    scores = selection.score(trials, ["group"], [str(BAD), "0", "2"], metric)
    assert scores["diverged"].tolist() == [1, 0, 0]
    assert selection.chosen(scores)["g",] != str(BAD)
