"""Training on words: sequences of any length, decoding, models without a recurrence; data that every machine has."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tests.training.exactness import essence, interrupt

from goldfish.config import registry
from goldfish.config.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.models.parts.layers import Dropout
from goldfish.tasks.base import PAD, Batch
from goldfish.training.data import PackData, TrainingStream, _filled
from goldfish.training.state.checkpoint import Checkpointing
from goldfish.training.train import train_pack

NUMERALS = {"name": "translation", "dataset": "numerals"}
DOCS = {"name": "characters", "dataset": "python_docs", "length": 12}
ORDER = {"name": "temporal_order", "length": 10}
STEPWISE = [name for name in registry.names("model") if not registry.signature("model", name).constants.get("FITTED")]
CPU, F32 = torch.device("cpu"), torch.float32


def pack(small: Callable[..., Config], task: dict[str, Any], seeds: range = range(3), **others: Any) -> list[Config]:
    rate = {"name": "adam", "lr": 0.01}
    return [small("lstm", steps=6, seed=seed, task=task, optimizer=rate, **others) for seed in seeds]


def plain(model: str) -> dict[str, Any]:
    """A configuration for a model that has no cell."""
    return {"model": model, "trainer": {"max_steps": 6, "batch_size": 5, "validate_every": 3, "evaluation_size": 9}}


@pytest.mark.parametrize("task", [NUMERALS, DOCS], ids=lambda task: task["name"])
def test_a_run_is_the_same_in_any_pack_and_after_an_interruption(
    small: Callable[..., Config], tmp_path: Path, task: dict[str, Any]
) -> None:
    model = {"dropout": 0.3} | ({"teacher_forcing": 0.5} if task is NUMERALS else {})
    configs = pack(small, task, model=model)
    expected = train_pack(configs)
    alone = train_pack(configs[1:2])
    assert essence(alone[0]) == essence(expected[1])
    settings = Checkpointing(tmp_path, tuple(f"run {config['seed']}" for config in configs))
    interrupt(configs, settings, 4)
    found = train_pack(configs, checkpointing=settings)
    assert [essence(outcome) for outcome in found] == [essence(outcome) for outcome in expected]


@pytest.mark.parametrize("model", [name for name in STEPWISE if name != "recurrent"])
def test_models_without_cells_are_the_same_in_any_pack(model: str) -> None:
    values = plain(model) | {"model": {"name": model, "dropout": 0.3}, "task": ORDER}
    configs = [resolve(values | {"seed": seed}) for seed in range(3)]
    outcomes = train_pack(configs)
    assert essence(train_pack(configs[2:])[0]) == essence(outcomes[2])
    assert {outcome.engine for outcome in outcomes} == {"torch"}
    assert not any(name.startswith("gradient/") for name in outcomes[0].metrics)
    total = sum(weight.numel() for weight in outcomes[0].state_dict.values())
    assert outcomes[0].parameters == total


@pytest.mark.parametrize("model", ["bag_of_words", "tfidf"])
def test_counts_see_no_order(model: str) -> None:
    """AA and BB can be told by counts, AB and BA cannot: three of four classes are right, half of the pair."""
    trainer = {"max_steps": 100, "batch_size": 32, "evaluation_size": 4000}
    values = {"model": model, "task": ORDER | {"length": 20}, "trainer": trainer}
    (outcome,) = train_pack([resolve(values)])
    spread = 4 * math.sqrt(0.25 / 4000)
    assert abs(outcome.metrics["test/accuracy"] - 0.75) < spread
    assert abs(outcome.metrics["test/pair_accuracy"] - 0.5) < 4 * math.sqrt(0.25 / 2000)
    assert outcome.engine == "scikit-learn"
    assert outcome.parameters == outcome.state_dict["coef"].numel() + outcome.state_dict["intercept"].numel()
    assert outcome.verdict == "unsolved"


@pytest.mark.parametrize(
    ("model", "task", "told"),
    [
        ("tfidf", DOCS, "model=tfidf: task=characters asks for an answer at every step, which it does not give"),
        ("bag_of_words", {"name": "adding"}, "model=bag_of_words: task=adding asks for a value"),
        ("tcn", NUMERALS, "model=tcn: task=translation asks for a sequence"),
        (
            {"bidirectional": True},
            NUMERALS,
            "model.bidirectional=True: has no meaning for task=translation; leave it out",
        ),
        ({"reverse_source": True}, DOCS, "model.reverse_source=True: has no meaning for task=characters"),
        ({"teacher_forcing": 0.5}, ORDER, "model.teacher_forcing=0.5: has no meaning for task=temporal_order"),
    ],
)
def test_models_that_do_not_suit_a_task_are_refused(model: Any, task: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"model": model, "task": task})
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("name", registry.names("task"))
def test_what_a_task_asks_for_is_read_without_importing_it(name: str) -> None:
    signature, task = registry.signature("task", name), registry.load("task", name)
    for attribute, default in (("readout", "last"), ("kind", "classification")):
        assert signature.attributes.get(attribute, default) == getattr(task, attribute)


def test_a_model_without_cells_takes_neither_cell_nor_init() -> None:
    for key, value in (("cell", "lstm"), ("init", "orthogonal")):
        with pytest.raises(ConfigError, match=f"{key}={value}: model=tcn has no {key}"):
            resolve({"model": "tcn", key: value})


def test_batches_hold_sequences_of_like_length(small: Callable[..., Config]) -> None:
    """Every step takes one bucket in all replicas; in an epoch no pair comes twice to a run."""
    configs = pack(small, NUMERALS)
    task = registry.load("task", "translation")(dataset="numerals")
    lengths = [steps for steps, _ in task.buckets()]
    epoch = sum(len(rows) // 5 for _, rows in task.buckets())
    stream = iter(TrainingStream(task, configs, CPU, F32))
    seen: list[set[tuple[int, ...]]] = [set() for _ in configs]
    widths = []
    for _ in range(300):
        batch = next(stream)
        assert batch.inputs.shape[:2] == (3, 5)
        assert batch.inputs.shape[2] in lengths
        widths.append(batch.inputs.shape[2])
        for replica, rows in enumerate(batch.inputs.tolist()):
            assert len({tuple(row) for row in rows} | seen[replica]) == len(seen[replica]) + 5
            seen[replica] |= {tuple(row) for row in rows}
    assert epoch > 300
    assert len(set(widths)) == len(lengths)
    assert seen[0] != seen[1]
    late = iter(TrainingStream(task, configs, CPU, F32, start=epoch + 7))
    stream = iter(TrainingStream(task, configs, CPU, F32))
    for _ in range(epoch + 7):
        next(stream)
    assert torch.equal(next(late).inputs, next(stream).inputs)


def test_evaluation_takes_the_whole_split_in_parts_without_padding(small: Callable[..., Config]) -> None:
    configs = pack(small, NUMERALS, trainer={"evaluation_size": 150})
    task = registry.load("task", "translation")(dataset="numerals")
    parts = PackData(task, configs, CPU, F32).evaluation("validation", task.length)
    assert sum(len(part.inputs) for part in parts) == 150
    for part in parts:
        assert int(part.lengths().max()) == part.inputs.shape[1] == part.targets.shape[1]
    whole = task.evaluation("validation", task.length, 150)
    words = sorted(tuple(row[row != PAD].tolist()) for row in whole.inputs)
    assert words == sorted(tuple(row[row != PAD].tolist()) for part in parts for row in part.inputs)


def test_scores_are_those_of_the_sentences_written(small: Callable[..., Config]) -> None:
    (config,) = pack(small, NUMERALS, range(1), trainer={"evaluation_size": 20})
    (outcome,) = train_pack([config])
    assert {"test/bleu", "test/chrf", "test/exact", "val/bleu"} <= outcome.metrics.keys()
    task = registry.load("task", "translation")(dataset="numerals")
    batch = task.evaluation("test", task.length, 20)
    assert task.scores(batch.targets, batch) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100), "exact": 1.0}


def test_bits_per_character(small: Callable[..., Config]) -> None:
    (outcome,) = train_pack(pack(small, DOCS, range(1)))
    for split in ("val", "test"):
        loss = outcome.metrics[f"{split}/loss"]
        assert outcome.metrics[f"{split}/bits_per_character"] == pytest.approx(loss / math.log(2))


def test_lengths_and_trimming_by_hand() -> None:
    inputs = torch.tensor([[5, 6, PAD, PAD], [7, PAD, PAD, PAD]])
    mask = torch.tensor([[False, True, False, False], [True, False, False, False]])
    batch = Batch(inputs, torch.tensor([0, 1]), mask)
    assert batch.lengths().tolist() == [2, 1]
    assert batch.trimmed().inputs.tolist() == [[5, 6], [7, PAD]]
    assert batch.trimmed().mask.shape == (2, 2)
    assert batch.trimmed().targets.tolist() == [0, 1]


def test_dropout_draws_anew_at_every_step_for_every_run(
    small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    forward = Dropout.forward

    def spy(self: Dropout, x: torch.Tensor) -> torch.Tensor:
        if self.generators:
            seen.append(tuple(own.initial_seed() for own in self.generators))
        return forward(self, x)

    monkeypatch.setattr(Dropout, "forward", spy)
    train_pack(pack(small, ORDER, range(2), model={"dropout": 0.5}))
    assert len(seen) == 6, "once in each training step, never in an evaluation"
    drawn = [seed for step in seen for seed in step]
    assert len(set(drawn)) == 12


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 50))
def test_buckets_are_joined_until_each_has_a_batch(sizes: list[int], batch: int) -> None:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    buckets = [
        (5 * index, torch.arange(start, start + n)) for index, (start, n) in enumerate(zip(starts, sizes, strict=True))
    ]
    found = _filled(buckets, batch)
    assert torch.cat([rows for _, rows in found]).tolist() == list(range(sum(sizes)))
    assert all(len(rows) >= batch for _, rows in found) or len(found) == 1
    for steps, rows in found:
        longest = max(own for own, kept in buckets if set(kept.tolist()) & set(rows.tolist()))
        assert steps == longest


def test_series_of_any_length_are_trained(tmp_path: Path, small: Callable[..., Config]) -> None:
    """Few sequences, fewer in a bucket than in a batch."""
    series = [[[float(row % 7)] * 12 for _ in range(1 + row % 9)] for row in range(90)]
    columns = {"series": series, "label": [row % 9 for row in range(90)]}
    for split in ("train", "test"):
        parquet.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
    configs = [small("gru", task={"name": "series", "data": str(tmp_path)}, model={"bidirectional": True}, batch=20)]
    (outcome,) = train_pack(configs)
    assert outcome.verdict == "unsolved"
    assert {"val/accuracy", "train/loss"} <= {point.quantity for point in outcome.curves}
