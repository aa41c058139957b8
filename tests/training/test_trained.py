"""A recorded run's network, rebuilt, answers as the run did when it was tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import goldfish
from goldfish.errors import ConfigError
from goldfish.tracking.run import write_artifacts
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


def test_other_data_than_it_was_trained_on_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / "cache"))
    for split in ("train", "validation", "test"):
        table = pa.table({"text": ["a fine film", "a bad film"] * 4, "label": [1, 0] * 4})
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    task = {"name": "sentiment", "data": str(tmp_path), "min_count": 1, "length": 4}
    trainer = TRAINER | {"max_steps": 2, "batch_size": 4}
    (outcome,) = goldfish.train(
        [goldfish.resolve({"trainer": trainer, "task": task, "cell": {"name": "gru", "hidden_size": 4}})]
    )
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    write_artifacts(outcome, artifacts)
    assert goldfish.trained(artifacts).task.content == outcome.content
    parquet.write_table(table.set_column(1, "label", [[0, 1] * 4]), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=r"task.data: the data have changed since this run .* \(content \w{12}, then"):
        goldfish.trained(artifacts)
    (tmp_path / "test.parquet").unlink()
    with pytest.raises(ConfigError, match=r"no parquet file of the split 'test'"):
        goldfish.trained(artifacts)


def test_run_without_a_network_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"weights.pt: no such file"):
        goldfish.trained(tmp_path)
