"""The learning rate is selected on validation, per point, and the figures say so."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from tests.figures.sweeps import place

from goldfish.figures import accuracy_by_length, grid
from goldfish.figures.selection import best_learning_rate

Tables = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture
def three_rates(whole: Tables) -> pd.DataFrame:
    """The sweep at three rates; .003 validates best everywhere, .01 tests best."""
    runs = whole[0]
    parts = [
        runs.assign(**{"optimizer.lr": rate, "val/accuracy": validated, "test/accuracy": tested})
        for rate, validated, tested in ((0.01, 0.5, 0.9), (0.001, 0.4, 0.2), (0.003, 0.6, 0.3))
    ]
    return pd.concat(parts, ignore_index=True)


def test_the_rate_that_validates_best_is_kept_though_another_tests_better(three_rates: pd.DataFrame):
    kept = best_learning_rate(three_rates)
    assert len(kept) == 432
    assert set(kept["optimizer.lr"]) == {0.003}
    assert set(kept["test/accuracy"]) == {0.3}


def test_each_point_has_its_own_rate(three_rates: pd.DataFrame):
    here = place(three_rates, "recall", "gru", "chrono", 40, 0, 1, 2, 3)
    three_rates.loc[here & (three_rates["optimizer.lr"] == 0.001), "val/accuracy"] = 0.7
    kept = best_learning_rate(three_rates)
    at = place(kept, "recall", "gru", "chrono", 40, 0, 1, 2, 3)
    assert set(kept[at]["optimizer.lr"]) == {0.001}
    assert set(kept[~at]["optimizer.lr"]) == {0.003}


def test_diverged_runs_pull_their_rate_down_and_failed_ones_do_not_count(three_rates: pd.DataFrame):
    best = three_rates["optimizer.lr"] == 0.003
    diverged = best & place(three_rates, "recall", "rnn", "pytorch", 10, 1, 2)  # mean (.6 + .125 + .125 + .6) / 4 < .5
    failed = best & place(three_rates, "recall", "rnn", "pytorch", 20, 1, 2)  # mean of the other two: .6
    three_rates.loc[diverged, ["outcome", "val/accuracy"]] = ["diverged", math.nan]
    three_rates.loc[failed, ["outcome", "val/accuracy"]] = ["failed", math.nan]
    kept = best_learning_rate(three_rates)
    assert set(kept[place(kept, "recall", "rnn", "pytorch", 10, 0, 1, 2, 3)]["optimizer.lr"]) == {0.01}
    assert set(kept[place(kept, "recall", "rnn", "pytorch", 20, 0, 1, 2, 3)]["optimizer.lr"]) == {0.003}
    assert len(grid.coverage(kept).failed) == 2


def test_where_all_failed_one_rate_is_kept_as_a_hole(three_rates: pd.DataFrame):
    three_rates.loc[place(three_rates, "digits", "lstm", "chrono", 64, 0, 1, 2, 3), "outcome"] = "failed"
    kept = best_learning_rate(three_rates)
    assert len(kept) == 432
    assert len(grid.coverage(kept).failed) == 4


def test_figures_say_how_the_rate_was_selected(three_rates: pd.DataFrame, whole: Tables):
    figure = accuracy_by_length.draw(best_learning_rate(three_rates))
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "Learning rate: of 0.001, 0.003, 0.01 the one with the highest mean val/accuracy over seeds" in said
    assert best_learning_rate(whole[0]) is whole[0]
