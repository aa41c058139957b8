"""What a table covers: the grid, its holes, and how diverged runs count."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.figures.sweeps import place

from goldfish.errors import ConfigError
from goldfish.figures import grid

Tables = tuple[pd.DataFrame, pd.DataFrame]


def test_a_whole_sweep_has_no_holes(whole: Tables):
    covered = grid.coverage(whole[0])
    assert (covered.runs, covered.planned, covered.seeds) == (432, 432, (4, 4))
    assert covered.note() == "n = 4 seeds per point; 432 of 432 runs. None diverged, failed or missing."


def test_the_note_lists_every_run_that_diverged_failed_or_is_missing(holed: Tables):
    covered = grid.coverage(holed[0])
    assert (covered.runs, covered.planned, covered.seeds) == (427, 432, (2, 4))
    assert covered.note("at chance") == (
        "n = 2–4 seeds per point; 427 of 432 runs."
        " Diverged, at chance: 3 (recall rnn/identity length 160 seeds 0–2)."
        " Failed, not drawn: 2 (digits lstm/chrono length 128 seeds 2, 3)."
        " Missing: 3 (recall gru/xavier length 40, 80 seed 3; digits rnn/pytorch length 64 seed 0)."
    )


def test_a_row_of_outcome_missing_is_a_hole_like_an_absent_row(whole: Tables):
    runs = whole[0].copy()
    gone = place(runs, "recall", "rnn", "pytorch", 10, 0, 1, 2, 3)
    absent = grid.coverage(runs[~gone])
    runs.loc[gone, "outcome"] = "missing"
    assert grid.coverage(runs) == absent
    assert absent.note().endswith("Missing: 4 (recall rnn/pytorch length 10 all seeds).")
    assert absent.seeds == (4, 4), "a point without a run has no n"


def test_two_runs_of_one_place_are_refused_with_what_they_differ_in(whole: Tables):
    runs = whole[0]
    other = runs[place(runs, "recall", "gru", "xavier", 20, 1)].assign(**{"optimizer.lr": 0.001, "test/accuracy": 0.3})
    with pytest.raises(ConfigError, match=r"init=xavier, length=20, seed=1: 2 runs, which differ in optimizer\.lr;"):
        grid.check(pd.concat([runs, other]))
    with pytest.raises(ConfigError, match="no run to draw"):
        grid.check(runs[:0])


def test_diverged_runs_count_at_chance_and_recall_nothing(holed: Tables):
    runs = grid.scored(holed[0])
    assert not runs["outcome"].isin(["failed", "missing"]).any()
    diverged = runs[runs["outcome"] == "diverged"]
    assert diverged["test/accuracy"].tolist() == [0.125] * 3
    assert diverged["recall/horizon"].tolist() == [0.0] * 3
    assert diverged["gradient/horizon_before"].tolist() == [160.0] * 3, "what was measured before training stands"
    assert holed[0]["test/accuracy"].isna().sum() == 5, "the table itself is left alone"


def test_a_diverged_run_never_counts_as_better_than_chance(whole: Tables):
    runs = whole[0].copy()
    chosen = place(runs, "recall", "lstm", "chrono", 10, 0)
    runs.loc[chosen, "outcome"] = "diverged"  # with the accuracy it once had
    assert grid.scored(runs).loc[chosen, "test/accuracy"].item() == 0.125


def test_arms_lengths_and_tasks_are_read_from_the_table(whole: Tables):
    runs = whole[0].sample(frac=1, random_state=0)
    arms = grid.arms(runs, "recall")
    assert arms[:4] == [("rnn", "pytorch"), ("rnn", "gaussian"), ("rnn", "identity"), ("rnn", "orthogonal")]
    assert [cell for cell, _ in arms] == ["rnn"] * 4 + ["lstm"] * 4 + ["gru"] * 4
    assert grid.lengths(runs, "digits") == [64, 80, 96, 128]
    assert grid.tasks(whole[0]) == ["recall", "digits"]
