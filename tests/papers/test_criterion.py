"""An experiment's own criterion, by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from goldfish.errors import ConfigError
from goldfish.papers.criterion import judge, parse


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four runs validated at steps 10, 20 and 30; by the task's own criterion a alone is solved, at step 30."""
    outcomes = {"a": "solved", "b": "unsolved", "c": "diverged", "d": "failed"}
    runs = pd.DataFrame({"fingerprint": list(outcomes), "outcome": list(outcomes.values())})
    runs["time_to_solve"] = [30.0, None, None, None]
    runs["time_to_solve/censored"] = [0.0, 1.0, 1.0, None]
    losses = {"a": [0.5, 0.03, 0.005], "b": [0.5, 0.06, 0.04], "c": [0.01, 0.01, 0.01]}
    accuracies = {"a": [0.1, 0.8, 1.0], "b": [0.1, 0.9, 0.95], "c": [1.0, 1.0, 1.0]}
    points = [
        (name, quantity, "training", step, value)
        for quantity, rows in (("val/loss", losses), ("val/accuracy", accuracies))
        for name, row in rows.items()
        for step, value in zip((10.0, 20.0, 30.0), row, strict=True)
    ]
    return runs, pd.DataFrame(points, columns=["fingerprint", "quantity", "phase", "x", "value"])


@pytest.mark.parametrize(
    ("criterion", "outcomes", "steps"),
    [
        ({"val/loss": "< 0.04"}, ["solved", "unsolved"], [20, None]),
        ({"val/loss": "<= 0.04"}, ["solved", "solved"], [20, 30]),
        ({"val/loss": "<= 0.06", "val/accuracy": ">= .95"}, ["solved", "solved"], [30, 30]),
        ({"val/accuracy": "> 1"}, ["unsolved", "unsolved"], [None, None]),
    ],
)
def test_the_first_validation_that_meets_every_condition(
    criterion: dict[str, str], outcomes: list[str], steps: list[float | None]
) -> None:
    judged = judge(*tables(), criterion)
    assert judged["outcome"].tolist() == [*outcomes, "diverged", "failed"]
    found = judged["time_to_solve"].tolist()
    assert [None if pd.isna(step) else step for step in found] == [*steps, None, None]
    assert judged["time_to_solve/censored"].tolist()[:2] == [float(step is None) for step in steps]


def test_without_a_criterion_the_tasks_own_stands() -> None:
    runs, curves = tables()
    assert judge(runs, curves, {}) is runs


@pytest.mark.parametrize(("metric", "condition"), [("test/loss", "< 1"), ("val/loss", "0.04"), ("val/loss", "< -")])
def test_what_is_no_criterion_is_refused(metric: str, condition: str) -> None:
    with pytest.raises(ConfigError, match=r"^solved\."):
        parse(metric, condition)
