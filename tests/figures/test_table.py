"""The table that a sweep ends with: its numbers against scipy's on the same rows."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats
from tests.figures.sweeps import make_sweep, place

from goldfish.errors import ConfigError
from goldfish.figures import table

Tables = tuple[pd.DataFrame, pd.DataFrame]


def block(text: str, title: str) -> dict[tuple[str, str], list[str]]:
    """The rows of one block, by cell and initialisation, of the Markdown table."""
    lines = text[text.index(f"**{title}") :].split("\n\n")[1].split("\n")
    rows = [[value.strip() for value in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {(row[0], row[1]): row[2:] for row in rows}


def half_width(values: pd.Series) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def test_gradients_are_mean_and_interval_at_the_longest_length(holed: Tables):
    runs = holed[0]
    rows = block(table.markdown(runs), "recall: gradients at length 160")
    assert rows["cell", "init"][:5] == ["params", "decay before", "decay after", "horizon before", "horizon after"]
    here = runs[place(runs, "recall", "gru", "pytorch", 160, 0, 1, 2, 3)]
    before = here["gradient/decay_rate_before"]
    assert rows["gru", "pytorch"][0] == "4680"
    assert rows["gru", "pytorch"][1] == f"{before.mean():.3f} ±{half_width(before):.3f}"
    assert rows["lstm", "chrono"][3:5] == ["≥160 ±0", "≥160 ±0"]


def test_counts_are_of_all_lengths_runs(holed: Tables):
    runs = holed[0]
    rows = block(table.markdown(runs), "recall: gradients")
    assert rows["cell", "init"][5:] == ["recall horizon", "solved", "diverged", "failed", "missing"]
    assert rows["rnn", "identity"][6:] == ["0/20", "3", "0", "0"]
    assert rows["gru", "xavier"][7:] == ["0", "0", "2"]
    arm = (runs["task"] == "recall") & (runs["cell"] == "gru") & (runs["init"] == "xavier")
    assert rows["gru", "xavier"][6] == f"{(runs[arm]['outcome'] == 'solved').sum()}/20"
    assert block(table.markdown(runs), "digits: gradients")["lstm", "chrono"][6:] == ["14/16", "0", "2", "0"]


def test_what_diverged_runs_lack_is_averaged_over_the_others_and_says_so(holed: Tables):
    row = block(table.markdown(holed[0]), "recall: gradients")["rnn", "identity"]
    runs = holed[0]
    survivor = runs.loc[place(runs, "recall", "rnn", "identity", 160, 3), "gradient/decay_rate"].item()
    assert row[2] == f"{survivor:.3f} (n=1)"


def test_accuracy_counts_diverged_at_chance_and_prints_solved_of_n(holed: Tables):
    runs = holed[0]
    rows = block(table.markdown(runs), "recall: test accuracy and runs solved")
    assert rows["cell", "init"] == ["10", "20", "40", "80", "160"]
    survivor = runs.loc[place(runs, "recall", "rnn", "identity", 160, 3), "test/accuracy"].item()
    values = pd.Series([0.125] * 3 + [survivor])
    assert rows["rnn", "identity"][-1] == f"{values.mean():.2f} ±{half_width(values):.2f} 0/4"
    assert rows["gru", "xavier"][3].endswith("/3")


def test_recall_horizons_are_bounds_where_a_seed_reached_the_end(whole: Tables):
    rows = block(table.markdown(whole[0]), "recall: recall horizon inside one model")
    assert rows["lstm", "chrono"] == ["≥20 ±0", "≥40 ±0", "≥80 ±0", "≥160 ±0", "≥320 ±0"]
    assert rows["lstm", "pytorch"][-1] == "0 ±0"


def test_tasks_without_a_lag_print_a_dash(whole: Tables):
    runs = whole[0].copy()
    runs.loc[runs["task"] == "digits", ["recall/horizon", "recall/horizon_reached_end"]] = math.nan
    assert block(table.markdown(runs), "digits: recall horizon inside one model")["gru", "chrono"] == ["–"] * 4
    without = runs[runs["task"] == "digits"].drop(columns=["recall/horizon", "recall/horizon_reached_end"])
    assert block(table.markdown(without), "digits: recall horizon inside one model")["gru", "chrono"] == ["–"] * 4


def test_time_to_solve_is_the_kaplan_meier_median():
    rows = pd.DataFrame(
        {
            "outcome": ["solved", "solved", "diverged", "unsolved"],
            "time_to_solve": [150.0, 300.0, 100.0, math.nan],  # what diverged later had solved at 100
            "trainer.max_steps": [600] * 4,
        }
    )
    assert table.median_steps(rows) == 300
    assert table.median_steps(rows[1:]) == math.inf
    runs = make_sweep()[0]
    printed = block(table.markdown(runs), "recall: median training steps")
    assert printed["lstm", "pytorch"][-1] == ">600"
    times = sorted(runs.loc[place(runs, "recall", "lstm", "chrono", 160, 0, 1, 2, 3), "time_to_solve"])
    assert printed["lstm", "chrono"][-1] == f"{times[1]:g}"


def test_the_learning_rate_is_a_column_where_there_are_several(whole: Tables):
    runs = whole[0].copy()
    assert "| lr |" not in table.markdown(runs)
    runs.loc[runs["cell"] == "gru", "optimizer.lr"] = 0.001
    rows = block(table.markdown(runs), "recall: test accuracy")
    assert (rows["gru", "xavier"][0], rows["rnn", "pytorch"][0]) == ("0.001", "0.01")


def test_ten_seeds_have_bootstrap_intervals_in_brackets():
    runs = make_sweep(tasks=("digits",), seeds=10, cells=("rnn",))[0]
    cell = block(table.markdown(runs), "digits: test accuracy")["rnn", "orthogonal"][2]
    values = runs.loc[place(runs, "digits", "rnn", "orthogonal", 96, *range(10)), "test/accuracy"]
    interval = table.mean_interval(values)
    assert cell.startswith(f"{values.mean():.2f} [{interval.low:.2f}, {interval.high:.2f}] ")


def test_text_holds_the_same_cells_aligned_and_ends_with_the_holes(holed: Tables):
    text = table.text(holed[0])
    marked = table.markdown(holed[0])
    for rows in (block(marked, "recall: gradients"), block(marked, "digits: test accuracy")):
        for (cell, init), values in rows.items():
            found = [line.split("  ") for line in text.split("\n") if line.startswith(f"{cell} ") and init in line]
            assert any([part.strip() for part in line if part.strip()] == [cell, init, *values] for line in found)
    lines = text.split("\n")
    header = next(line for line in lines if line.startswith("cell"))
    row = lines[lines.index(header) + 2]
    assert row[header.index("params") :].startswith("1672")
    assert text.endswith("digits rnn/pytorch length 64 seed 0).")
    assert max(len(line) for line in lines if not line.startswith(("Mean", "n ="))) <= 140


def test_two_runs_of_one_place_are_refused(whole: Tables):
    with pytest.raises(ConfigError, match="select one of them"):
        table.text(pd.concat([whole[0], whole[0][:1]]))
