"""The recall horizon over networks trained at each length, by hand, and what it says beside the gradient horizon."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from goldfish.errors import ConfigError
from goldfish.figures import horizons, table
from goldfish.figures.recall_horizon import across_lengths, association, markdown, reading, text, written
from goldfish.figures.statistics import Interval

Tables = tuple[pd.DataFrame, pd.DataFrame]


def one_arm(accuracies: list[float], outcomes: list[str] | None = None) -> pd.DataFrame:
    """Networks trained at 10, 20 and 40 steps; eight classes, so the midpoint of chance and 1 is .5625."""
    lengths = [10, 20, 40][: len(accuracies)]
    return pd.DataFrame(
        {
            "task": "recall", "cell": "rnn", "init": "pytorch", "seed": 0, "length": lengths,
            "outcome": outcomes or ["unsolved"] * len(lengths), "recall/lag": [float(n) for n in lengths],
            "recall/chance": 0.125, "test/accuracy": accuracies, "recall/horizon": 3.0,
            "recall/horizon_reached_end": 0.0, "trainer.max_steps": 100,
            "gradient/horizon_before": [5.0, 6.0, 7.0][: len(lengths)],
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


@pytest.mark.parametrize("at", range(3))
def test_a_divergence_ends_the_horizon_at_the_lag_before_it(at: int) -> None:
    outcomes = ["diverged" if place == at else "solved" for place in range(3)]
    point = across_lengths(one_arm([1.0, 1.0, 1.0], outcomes)).iloc[0]
    assert (point["recall/horizon"], point["ended_by"]) == ([0, 10, 20][at], "diverged")


def test_a_divergence_beyond_the_horizon_changes_nothing() -> None:
    point = across_lengths(one_arm([1.0, 0.2, 1.0], ["solved", "unsolved", "diverged"])).iloc[0]
    assert (point["recall/horizon"], point["ended_by"]) == (10, "")


@pytest.mark.parametrize(("at", "hole"), [*product(range(3), ("failed", "missing"))])
def test_a_hole_at_any_length_leaves_the_point_without_horizons(at: int, hole: str) -> None:
    outcomes = [hole if place == at else "solved" for place in range(3)]
    point = across_lengths(one_arm([1.0, 1.0, 1.0], outcomes)).iloc[0]
    assert point["ended_by"] == hole
    assert point[["recall/horizon", "gradient/horizon_before"]].isna().all()


def test_a_length_without_a_row_is_a_hole(whole: Tables) -> None:
    runs = whole[0]
    assert len(across_lengths(runs)) == 2 * 12 * 4
    for length in (10, 20, 160):
        gap = (runs["task"] == "recall") & (runs["cell"] == "gru") & (runs["length"] == length) & (runs["seed"] == 1)
        assert across_lengths(runs[~gap])["ended_by"].eq("missing").sum() == 4


def test_two_runs_of_one_place_are_refused(whole: Tables) -> None:
    with pytest.raises(ConfigError, match="select one of them"):
        across_lengths(pd.concat([whole[0], whole[0][:1]]))


def test_lags_of_digits_are_its_blanks(whole: Tables) -> None:
    found = across_lengths(whole[0])
    digits = found[(found["task"] == "digits") & (found["cell"] == "lstm") & (found["init"] == "chrono")]
    assert set(digits["recall/horizon"]) == {64.0}


CELLS = ["rnn", "lstm", "gru"]
INITS = ["pytorch", "orthogonal", "xavier", "identity"]


def sweep(at: int | None) -> pd.DataFrame:
    """Twelve cell × initialisation pairs, two seeds, of gradient horizons 1 … 12 and recall horizons 20, 40 in turn.

    The last pair passes everywhere; its first seed diverged at the length number `at`.
    """
    arms = []
    for place, (cell, init) in enumerate(product(CELLS, INITS)):
        for seed in range(2):
            arm = one_arm([1.0, 1.0, 1.0 if place % 2 else 0.3])
            arm = arm.assign(cell=cell, init=init, seed=seed)
            arm["gradient/horizon_before"] = float(place + 1)
            if at is not None and (place, seed) == (11, 0):
                arm.loc[at, ["outcome", "test/accuracy"]] = ["diverged", None]
            arms.append(arm)
    return pd.concat(arms, ignore_index=True)


def drawn(figure: Figure, *kinds: str) -> list[tuple[float, float]]:
    """The points of these kinds in a figure's only panel."""
    found: list[Any] = [line for line in figure.axes[0].lines if (line.get_gid() or "").endswith(kinds)]
    return sorted(point for line in found for point in zip(*line.get_data(), strict=True))


@pytest.mark.parametrize("at", [None, 0, 1, 2])
def test_the_table_the_figure_and_the_correlation_show_the_same_points(at: int | None) -> None:
    runs = sweep(at)
    expected = [(place + 1.0, 40.0 if place % 2 else 20.0) for place, _ in product(range(12), range(2)) if place != 11]
    first = 40.0 if at is None else (0.0, 10.0, 20.0)[at]
    expected += [(12.0, first), (12.0, 40.0)]
    figure = horizons.draw(runs)
    assert drawn(figure, " exact", " bound") == sorted(expected)
    mean = f"{(first + 40) / 2:.1f}".removesuffix(".0")
    assert f"≥{mean} ±" in table.markdown(runs).split("| gru | identity |")[1].split("\n")[0]
    rho = stats.spearmanr(*zip(*expected, strict=True)).statistic
    found = association(across_lengths(runs))
    assert found is not None
    assert (found.estimate, found.n) == (pytest.approx(rho), 12)
    for shown in (figure.axes[0].get_title(), markdown(runs), text(runs)):
        assert written(found) in shown
        assert reading(found) in shown
    assert drawn(figure, " diverged") == ([] if at is None else [(12.0, first)])


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (-0.08, 0.84, "contains 0: no association is shown"),
        (0.0, 0.84, "contains 0"),
        (0.13, 0.83, "above 0: an association is shown"),
        (-0.9, -0.2, "below 0: an association is shown"),
        (float("nan"), float("nan"), "no interval, so no association is shown"),
    ],
)
def test_an_association_is_shown_where_the_interval_does_not_contain_zero(low: float, high: float, says: str) -> None:
    assert says in reading(Interval((low + high) / 2 if low == low else 0.9, low, high, 12, "x"))


def test_numbers_are_short_and_never_minus_nought() -> None:
    assert written(Interval(-0.001, -0.72, 0.3, 9, "x")) == "ρ = .00 [−.72, .30]"
    assert written(None) == "ρ undefined"
