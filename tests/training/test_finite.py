"""Diverged is a run whose numbers were finite to begin with: data or weights that never were are a fault, named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.tasks.base import Batch
from goldfish.training.module import PackModule
from goldfish.training.train import train_pack

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a number into sequence 3, step 2, feature 1 (or into target 3) of what a task draws for a split."""

    def spoil(name: str, split: str, value: float, *, after: int = 0, what: str = "inputs") -> None:
        task = registry.load("task", name)
        sample = task.sample

        def spoiled(self: Any, n: int, length: int, generator: torch.Generator, which: str = "train") -> Batch:
            batch: Batch = sample(self, n, length, generator, which)
            if which == split and what == "inputs":
                batch.inputs[after + 3, 2, 1] = value
            elif which == split:
                batch.targets[after + 3] = value
            return batch

        monkeypatch.setattr(task, "sample", spoiled)

    return spoil


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(("value", "what"), [(NAN, "inputs"), (INF, "inputs"), (-INF, "targets")])
@pytest.mark.parametrize("step", [1, 4])
def test_the_input_of_a_step(
    small: Callable[..., Config], spoiled: Callable[..., None], monkeypatch: pytest.MonkeyPatch, waits: bool,
    value: float, what: str, step: int,
) -> None:  # fmt: skip
    """In the first step as in a later one, whether the host looks at once or at the next validation."""
    monkeypatch.setattr(PackModule, "asynchronous", not waits)
    spoiled("adding", "train", value, after=5 * (step - 1), what=what)
    place = "sequence 3, step 2, feature 1" if what == "inputs" else "sequence 3"
    told = f"^training step {step} of seed 0: {what} hold {value} at {place}; expected finite numbers$"
    with pytest.raises(ConfigError, match=told):
        train_pack([small(seed=seed, task={"name": "adding", "length": 6}) for seed in range(2)])


@pytest.mark.parametrize(("split", "told"), [("validation", "the validation set"), ("test", "the test set at length")])
def test_an_evaluation_set(small: Callable[..., Config], spoiled: Callable[..., None], split: str, told: str) -> None:
    spoiled("adding", split, NAN)
    with pytest.raises(ConfigError, match=f"^{told}.*: inputs hold nan at sequence 3, step 2, feature 1"):
        train_pack([small(task={"name": "adding", "length": 6})])


def test_initial_weights(small: Callable[..., Config]) -> None:
    """A standard deviation beyond float32."""
    configs = [small(seed=0), small(seed=1, init={"name": "gaussian", "sigma_w": 1e300})]
    with pytest.raises(ConfigError, match=r"^init=gaussian: recurrent\.weight_hh_l0 of seed 1 is not finite"):
        train_pack(configs)


def test_what_was_finite_may_diverge_in_the_first_step(small: Callable[..., Config]) -> None:
    """Weights and inputs are finite, the states of a linear network are not."""
    cell = {"name": "rnn", "hidden_size": 8, "nonlinearity": "relu", "num_layers": 1}
    config = small(init={"name": "gaussian", "sigma_w": 1e15}) | {"cell": cell}
    (outcome,) = train_pack([config])
    assert outcome.verdict == "diverged"
    assert outcome.reason.endswith("became non-finite at step 1")
