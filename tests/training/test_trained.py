"""A recorded run's network, rebuilt, answers as the run did when it was tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import goldfish
from goldfish.errors import ConfigError
from goldfish.tracking.recording import write_artifacts
from goldfish.training.data import PackData

TRAINER = {"accelerator": "cpu", "max_steps": 30, "evaluation_size": 64}
RECALL = {"name": "recall", "length": 4}
CHOICES: dict[str, dict[str, Any]] = {
    "recall": {"cell": "lstm", "task": RECALL},
    "numerals": {"cell": "gru", "task": {"name": "translation", "dataset": "numerals", "length": 14}},
    "transformer": {"model": "transformer", "task": RECALL},
    "double": {"cell": "rnn", "task": RECALL, "trainer": TRAINER | {"precision": "64-true"}},
}


@pytest.mark.parametrize("chosen", CHOICES)
def test_rebuilt_network_has_the_recorded_test_accuracy(chosen: str, tmp_path: Path) -> None:
    (outcome,) = goldfish.train([goldfish.resolve({"trainer": TRAINER, "seed": 3} | CHOICES[chosen])])
    write_artifacts(outcome, tmp_path)
    module = goldfish.trained(tmp_path)
    for name, value in module.model.named_parameters():
        assert torch.equal(value[0], outcome.state_dict[name])
    task, data = (
        module.task,
        PackData(module.task, module.configs, torch.device("cpu"), next(module.parameters()).dtype),
    )
    right, asked = 0.0, 0.0
    for part in data.evaluation("test", task.length):
        spread = module.spread(part)
        with torch.no_grad():
            correct, questions = task.correct(module(spread), spread)
        right, asked = right + float(correct.sum()), asked + float(questions.sum())
    assert right / asked == pytest.approx(outcome.metrics["test/accuracy"], abs=1e-12)


def test_run_without_a_network_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"weights.pt: no such file"):
        goldfish.trained(tmp_path)
