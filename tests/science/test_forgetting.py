"""What the harness is for, at small scale: four seeds each, thresholds stated."""

from __future__ import annotations

from statistics import mean, median
from typing import Any

import pytest

from goldfish.config.config import resolve
from goldfish.training.outcome import Outcome
from goldfish.training.train import train_pack

pytestmark = pytest.mark.science
SEEDS = range(4)
ADDING_STEPS = 1000


def recall_at_80(cell: str, init: str, steps: int = 600) -> list[Outcome]:
    """Delayed recall of one of eight symbols over 80 distractors, as in the experiment `forgetting`."""
    return train_pack(
        [
            resolve(
                {
                    "cell": cell,
                    "init": init,
                    "task": {"name": "recall", "length": 80},
                    "optimizer": {"name": "adam", "lr": 0.01},
                    "trainer": {"max_steps": steps, "validate_every": 100},
                    "seed": seed,
                }
            )
            for seed in SEEDS
        ]
    )


def values(outcomes: list[Outcome], metric: str) -> list[float]:
    return [outcome.metrics[metric] for outcome in outcomes]


def test_an_lstm_with_chrono_recalls_over_80_steps_and_its_gradient_says_so() -> None:
    outcomes = recall_at_80("lstm", "chrono", steps=800)
    assert mean(values(outcomes, "test/accuracy")) > 0.95
    assert min(values(outcomes, "gradient/horizon_before")) == 80
    assert median(values(outcomes, "gradient/horizon")) == 80  # one seed in four may end elsewhere


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_with_pytorchs_initialisation_it_is_forgotten_and_the_gradient_says_so(cell: str) -> None:
    outcomes = recall_at_80(cell, "pytorch")
    assert mean(values(outcomes, "test/accuracy")) < 0.5
    assert max(values(outcomes, "gradient/horizon_before")) < 20
    assert median(values(outcomes, "gradient/decay_rate_before")) < -0.2


def test_an_lstm_learns_the_adding_problem_at_50_steps() -> None:
    """Mean squared error below .01 on fresh sequences; predicting the mean costs 1/6."""
    trainer: dict[str, Any] = {"max_steps": ADDING_STEPS, "validate_every": 100, "evaluation_size": 512}
    outcomes = train_pack(
        [
            resolve(
                {
                    "cell": "lstm",
                    "init": "chrono",
                    "task": {"name": "adding", "length": 50},
                    "optimizer": {"name": "adam", "lr": 0.01},
                    "trainer": trainer,
                    "seed": seed,
                }
            )
            for seed in SEEDS
        ]
    )
    assert [outcome.verdict for outcome in outcomes] == ["solved"] * 4
    assert median(values(outcomes, "test/loss")) < 0.01
