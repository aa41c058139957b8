"""What every registered task promises, for every choice that its arguments offer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from goldfish.config import config, registry
from goldfish.tasks.base import END, Batch, StoredTask, Task

ONE_HOT = {"recall", "copying", "temporal_order", "parity"}
ENOUGH = 20_000  # sequences from which shares and entropies are estimated


def variants() -> list[Any]:
    """Every task with its defaults, and with every choice of every argument."""
    found = []
    for name in registry.names("task"):
        found.append(pytest.param(name, {}, id=name))
        for argument in registry.signature("task", name).parameters.values():
            for choice in argument.choices or ():
                if choice != argument.default:
                    values = {argument.name: choice, **_only_length(name, argument.name, choice)}
                    found.append(pytest.param(name, values, id=f"{name}-{choice}"))
    return found


def _only_length(name: str, argument: str, choice: str) -> dict[str, int]:
    lengths = registry.signature("task", name).constants.get("LENGTHS", {})
    return {"length": lengths[argument][choice]} if argument in lengths else {}


every_variant = pytest.mark.parametrize(("name", "arguments"), variants())


def draw(task: Task, n: int, seed: int = 7, length: int | None = None, split: str = "train") -> Batch:
    return task.sample(n, length or task.length, torch.Generator().manual_seed(seed), split)


def many(task: Task) -> Batch:
    """Enough test sequences to estimate shares from; all there are, of stored ones."""
    if isinstance(task, StoredTask):
        return task.evaluation("test", task.length, ENOUGH)
    return draw(task, ENOUGH, split="test")


def tensors(batch: Batch) -> list[torch.Tensor]:
    found = (batch.inputs, batch.targets, batch.mask, batch.lag, batch.recall)
    return [value for value in found if value is not None]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def perfect(task: Task, batch: Batch) -> torch.Tensor:
    """Outputs of a predictor that knows the answers."""
    if task.kind == "regression":
        return batch.targets.unsqueeze(-1)
    return 100 * torch.nn.functional.one_hot(batch.targets, task.output_size).float()


@every_variant
def test_defaults_are_a_valid_configuration(name, arguments):
    resolved = config.resolve({"task": {"name": name, **arguments}})["task"]
    assert resolved["length"] >= 1
    assert resolved.items() >= {"name": name, **arguments}.items()


@every_variant
def test_shapes_types_and_masks_at_every_length(make, name, arguments):
    task = make(name, **arguments)
    for length in task.lengths():
        batch, steps = draw(task, 5, length=length), task.steps(length)
        if task.tokens:
            assert batch.inputs.shape == (5, steps)
            assert batch.inputs.dtype == torch.int64
            assert batch.inputs.min() >= 0
            assert batch.inputs.max() < task.input_size
        else:
            assert batch.inputs.shape == (5, steps, task.input_size)
            assert batch.inputs.dtype == torch.float32
            assert batch.inputs.isfinite().all()
        assert batch.mask.shape == (5, steps)
        assert batch.mask.dtype == torch.bool
        assert batch.targets.shape == ((5,) if task.readout == "last" else (5, steps))
        assert batch.targets.dtype == (torch.float32 if task.kind == "regression" else torch.int64)
        if task.kind == "classification":
            assert batch.targets.min() >= 0
            assert batch.targets.max() < task.output_size
        if task.readout == "last":
            assert (batch.mask.sum(1) == 1).all()
            assert task.variable_length or batch.mask[:, -1].all()
        ends = batch.lengths()
        assert ends.min() >= 1
        after = torch.arange(steps) >= ends.unsqueeze(1)
        assert not batch.mask[after].any()
        assert not batch.inputs[after].any()
        if task.readout == "every":
            assert batch.mask[~after].all()
        if task.readout == "decoded":
            assert (batch.targets.gather(1, batch.mask.sum(1, keepdim=True) - 1) == END).all()
            assert not batch.targets[~batch.mask].any()


@every_variant
def test_buckets_hold_every_training_sequence_once_and_whole(make, name, arguments):
    task = make(name, **arguments)
    buckets = task.buckets()
    assert bool(buckets) == task.variable_length
    if isinstance(task, StoredTask) and task.variable_length:
        assert torch.cat([rows for _, rows in buckets]).sort().values.equal(torch.arange(task.size("train")))
        assert [steps for steps, _ in buckets] == sorted({steps for steps, _ in buckets})
        for steps, rows in buckets:
            whole, cut = (task.examples("train", rows[:50], length) for length in (task.length, steps))
            assert steps <= task.length
            assert whole.lengths().equal(cut.lengths())
            assert whole.trimmed().inputs.equal(cut.trimmed().inputs)


@every_variant
def test_lag_lies_within_the_sequence_or_there_is_none(make, name, arguments):
    task = make(name, **arguments)
    for length in task.lengths():
        batch = draw(task, 20, length=length)
        assert (batch.lag is not None) == task.has_lag
        if batch.lag is not None:
            assert batch.lag.shape == (20,)
            assert batch.lag.dtype == torch.int64
            assert batch.lag.min() >= 0
            assert batch.lag.max() < task.steps(length)


@every_variant
def test_same_seed_same_bits_and_no_other_randomness(make, name, arguments):
    task = make(name, **arguments)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = draw(task, 50)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert same(one, draw(make(name, **arguments), 50))
    assert not torch.equal(one.inputs, draw(task, 50, seed=8).inputs)


@every_variant
def test_evaluation_sets_are_fixed_and_differ_by_split(make, name, arguments):
    task = make(name, **arguments)
    sets = {split: task.evaluation(split, task.length, 40) for split in ("validation", "test", "probe")}
    for split, batch in sets.items():
        assert len(batch.inputs) == 40
        assert same(batch, make(name, **arguments).evaluation(split, task.length, 40))
    assert not torch.equal(sets["validation"].inputs, sets["test"].inputs)


@every_variant
def test_lengths_reach_from_the_shortest_to_twice_the_trained_one(make, name, arguments):
    task = make(name, **arguments)
    lengths = task.lengths()
    assert task.length in lengths
    assert lengths == sorted(set(lengths))
    assert len(lengths) <= 13
    assert lengths[0] == task.shortest or lengths == [task.length]
    assert lengths[-1] in (task.length, 2 * task.length)
    assert task.variable_length or not task.valid(task.shortest - 1)


@every_variant
def test_floor_is_the_loss_of_a_predictor_that_knows_only_the_position(make, name, arguments):
    task = make(name, **arguments)
    batch = many(task)
    if task.readout == "last":
        targets = batch.targets.unsqueeze(1)
    else:  # of real text the floor knows no positions, only how often a class comes
        targets = batch.targets[batch.mask].unsqueeze(1) if task.tokens else batch.targets
    spreads = [target.var().item() if task.kind == "regression" else _entropy(target) for target in targets.T]
    assert task.floor(task.length) == pytest.approx(sum(spreads) / len(spreads), rel=0.03)


def _entropy(labels: torch.Tensor) -> float:
    shares = [count / len(labels) for count in labels.bincount().tolist() if count]
    return -sum(share * math.log(share) for share in shares)


@every_variant
def test_chance_is_the_best_constant_answer(make, name, arguments):
    task = make(name, **arguments)
    batch = many(task)
    if task.kind == "regression":
        constants = torch.linspace(-0.5, 2.5, 301)
        shares = ((batch.targets - constants.unsqueeze(1)).abs() < 0.04).double().mean(1)
    else:
        counted = batch.mask if batch.recall is None else batch.recall
        asked = batch.targets if task.readout == "last" else batch.targets[counted]
        shares = asked.bincount() / len(asked)
    assert task.chance == pytest.approx(shares.max().item(), abs=0.012)


@every_variant
def test_the_right_answers_solve_the_task(make, name, arguments):
    task = make(name, **arguments)
    batch = task.evaluation("test", task.length, 30)
    outputs = perfect(task, batch)
    correct, asked = task.correct(outputs, batch)
    losses, last = task.losses(outputs, batch), task.last_losses(outputs, batch)
    assert torch.equal(correct, asked)
    assert losses.shape == last.shape == (30,)
    assert losses.max() < 1e-6
    assert last.max() < 1e-6
    assert task.solved({"loss": losses.mean().item(), "accuracy": (correct.sum() / asked.sum()).item()})
    assert not task.solved({"loss": task.floor(task.length), "accuracy": task.chance})


@every_variant
def test_replicas_stack(make, name, arguments):
    task = make(name, **arguments)
    stacked = Batch.stack([draw(task, 6), draw(task, 6, seed=9)])
    outputs = perfect(task, stacked)
    assert task.losses(outputs, stacked).shape == (2, 6)
    assert task.correct(outputs, stacked)[0].shape == (2, 6)


@pytest.mark.parametrize("name", sorted(ONE_HOT))
def test_symbols_are_one_hot(make, name):
    task = make(name)
    for length in task.lengths():
        inputs = draw(task, 200, length=length).inputs
        assert set(inputs.unique().tolist()) == {0.0, 1.0}
        assert (inputs.sum(-1) == 1).all()
    assert (inputs.sum((0, 1)) > 0).all(), "a channel that no symbol uses"


def test_synthetic_tasks_offer_a_fixed_training_set():
    for name in registry.names("task"):
        signature = registry.signature("task", name)
        stored = {"HUB_ID", "HUB_IDS", "CONTENT"} & signature.constants.keys()
        assert ("train_size" in signature.parameters) == (not stored)
