"""Trials are scored on validation, the best candidate of every group is chosen, and figures say so."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from tests.figures.sweeps import make_sweep

from goldfish.figures import accuracy_by_length, table
from goldfish.papers import selection

PER = ["task", "cell", "init"]
CANDIDATES = ["optimizer.lr=0.003", "optimizer.lr=0.01", "optimizer.lr=0.03"]


def trials(**values: list[float]) -> pd.DataFrame:
    """Trials of one group: by candidate (a < b < c) their accuracies; the test set says the opposite."""
    names = dict(zip("abc", CANDIDATES, strict=True))
    rows = [(names[name], value) for name, scores in values.items() for value in scores]
    frame = pd.DataFrame(rows, columns=["candidate", "val/accuracy"])
    arm = {"task": "recall", "cell": "rnn", "init": "pytorch", "outcome": "unsolved", "recall/chance": 0.125}
    return frame.assign(**arm, **{"test/accuracy": 1 - frame["val/accuracy"], "val/loss": frame["val/accuracy"]})


def best(frame: pd.DataFrame, metric: str = "val/accuracy") -> str:
    (name,) = selection.chosen(selection.score(frame, PER, CANDIDATES, metric)).values()
    return name


def test_the_highest_mean_on_validation_is_chosen() -> None:
    scores = selection.score(trials(a=[0.5, 0.75], b=[1.0, 0.5], c=[1.0, 0.0]), PER, CANDIDATES, "val/accuracy")
    assert list(scores.columns) == [*PER, *selection.SCORES]
    assert list(scores["score"]) == [0.625, 0.75, 0.5]
    assert list(scores["chosen"]) == [False, True, False]
    assert selection.chosen(scores) == {("recall", "rnn", "pytorch"): CANDIDATES[1]}


def test_of_a_loss_the_lowest_is_chosen_and_divergence_is_worst() -> None:
    frame = trials(a=[0.5, 0.75], b=[1.0, 0.5], c=[1.0, 0.0])
    assert best(frame, "val/loss") == CANDIDATES[2]
    frame.loc[5, ["outcome", "val/loss"]] = ["diverged", math.nan]
    assert best(frame, "val/loss") == CANDIDATES[0]


def test_of_equals_the_smallest_whatever_the_order_of_the_trials() -> None:
    """0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1 in the last bit; from Python 3.12 on not as `sum` adds."""
    assert 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1
    assert best(trials(a=[0.3, 0.2, 0.1], b=[0.1, 0.2, 0.3], c=[0.0, 0.0, 0.0])) == CANDIDATES[0]
    assert best(trials(c=[1.0], b=[1.0], a=[0.5])) == CANDIDATES[1]


def test_a_diverged_trial_counts_at_chance_and_a_failed_one_not_at_all() -> None:
    frame = trials(a=[0.5, 0.5], b=[0.9, 0.9], c=[0.25, 0.25])
    frame.loc[2, ["outcome", "val/accuracy"]] = ["diverged", math.nan]  # (0.125 + 0.9) / 2 = 0.5125
    scores = selection.score(frame, PER, CANDIDATES, "val/accuracy")
    assert list(scores["score"]) == pytest.approx([0.5, 0.5125, 0.25])
    assert list(scores["diverged"]) == [0, 1, 0]
    frame.loc[0, ["outcome", "val/accuracy"]] = ["failed", math.nan]
    frame.loc[1, "val/accuracy"] = 0.6
    scores = selection.score(frame, PER, CANDIDATES, "val/accuracy")
    assert list(scores["chosen"]) == [True, False, False]
    assert list(scores["failed"]) == [1, 0, 0]
    assert set(scores["trials"]) == {2}


def test_a_group_without_results_has_no_choice() -> None:
    lost = trials(a=[0.5], b=[0.6], c=[0.7]).assign(init="identity", outcome="missing")
    scores = selection.score(pd.concat([trials(a=[0.5], b=[0.6], c=[0.7]), lost]), PER, CANDIDATES, "val/accuracy")
    assert selection.chosen(scores) == {("recall", "rnn", "pytorch"): CANDIDATES[2]}


def test_groups_are_chosen_for_one_by_one() -> None:
    other = trials(a=[1.0], b=[0.5], c=[0.5]).assign(length=20)
    scores = selection.score(
        pd.concat([trials(a=[0.0], b=[0.5], c=[0.5]).assign(length=10), other], ignore_index=True),
        ["cell", "length"],
        CANDIDATES,
        "val/accuracy",
    )
    assert selection.chosen(scores) == {("rnn", 10): CANDIDATES[1], ("rnn", 20): CANDIDATES[0]}


def test_figures_and_tables_say_what_was_selected(tmp_path: Path) -> None:
    """From the table on disk alone."""
    scores = selection.score(trials(a=[0.5, 0.75], b=[1.0, 0.5], c=[1.0, 0.0]), PER, CANDIDATES, "val/accuracy")
    scores.to_csv(tmp_path / "selection.csv", index=False)
    runs, _ = make_sweep()
    runs.attrs["selected"] = selection.note(selection.read(tmp_path / "selection.csv"))
    expected = (
        "Selected per task × cell × init from optimizer.lr=0.003 (0×), optimizer.lr=0.01 (1×), optimizer.lr=0.03 (0×)"
        ": the candidate with the highest mean val/accuracy over trials with seeds of their own (n = 2)."
    )
    figure = accuracy_by_length.draw(runs)
    assert expected in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert table.text(runs).endswith(expected)
