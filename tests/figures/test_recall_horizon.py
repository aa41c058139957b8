"""The recall horizon over networks trained at each length, by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from goldfish.figures.recall_horizon import across_lengths

Tables = tuple[pd.DataFrame, pd.DataFrame]


def one_arm(accuracies: list[float], outcomes: list[str] | None = None) -> pd.DataFrame:
    """Networks trained at 10, 20 and 40 steps; eight classes, so the midpoint of chance and 1 is .5625."""
    lengths = [10, 20, 40][: len(accuracies)]
    return pd.DataFrame(
        {
            "task": "recall", "cell": "rnn", "init": "pytorch", "seed": 0, "length": lengths,
            "outcome": outcomes or ["unsolved"] * len(lengths), "recall/lag": [float(n) for n in lengths],
            "recall/chance": 0.125, "test/accuracy": accuracies, "recall/horizon": 3.0,
            "recall/horizon_reached_end": 0.0, "gradient/horizon_before": [5.0, 6.0, 7.0][: len(lengths)],
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accuracies", "horizon", "reached"),
    [
        ([1.0, 0.57, 0.56], 20, 0),
        ([1.0, 0.9, 0.6], 40, 1),
        ([0.5, 1.0, 1.0], 0, 0),  # every smaller lag must pass
    ],
)
def test_the_largest_lag_up_to_which_all_pass(accuracies: list[float], horizon: int, reached: int) -> None:
    row = across_lengths(one_arm(accuracies)).iloc[0]
    assert (row["recall/horizon"], row["recall/horizon_reached_end"]) == (horizon, reached)
    assert (row["length"], row["gradient/horizon_before"]) == (40, 7)


def test_a_diverged_run_is_at_chance_and_a_failed_one_is_a_hole() -> None:
    outcomes = ["solved", "diverged", "solved"]
    assert across_lengths(one_arm([1.0, 1.0, 1.0], outcomes)).iloc[0]["recall/horizon"] == 10
    failed = across_lengths(one_arm([1.0, 1.0, 1.0], ["solved", "failed", "solved"])).iloc[0]
    assert failed["outcome"] == "failed"
    assert pd.isna(failed["recall/horizon"])


def test_a_missing_length_is_a_hole(whole: Tables) -> None:
    runs = whole[0]
    assert len(across_lengths(runs)) == 2 * 12 * 4
    gap = (runs["task"] == "recall") & (runs["cell"] == "gru") & (runs["length"] == 20) & (runs["seed"] == 1)
    found = across_lengths(runs[~gap])
    assert found["outcome"].eq("missing").sum() == 4
    assert "over the networks trained at each length" in found.attrs["selected"]


def test_lags_of_digits_are_its_blanks(whole: Tables) -> None:
    found = across_lengths(whole[0])
    digits = found[(found["task"] == "digits") & (found["cell"] == "lstm") & (found["init"] == "chrono")]
    assert set(digits["recall/horizon"]) == {64.0}
