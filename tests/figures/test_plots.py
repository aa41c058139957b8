"""What is drawn equals the table: the artists' data, the notes, the statistics in the panels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import stats
from tests.figures.sweeps import make_sweep, place

from goldfish.errors import ConfigError
from goldfish.figures import accuracy_by_length, gradient_norm, horizons, recall_horizon, style
from goldfish.figures.palette import CELLS
from goldfish.figures.recall_horizon import across_lengths

Tables = tuple[pd.DataFrame, pd.DataFrame]


def panel(figure: Figure, *titled: str) -> Axes:
    return next(ax for ax in figure.axes if all(word in ax.get_title() for word in titled))


def lines(ax: Axes, words: str = "") -> list[Any]:
    """The lines of a panel that draw data, those whose name holds these words."""
    return [artist for artist in ax.lines if words in (artist.get_gid() or "")]


def line(ax: Axes, gid: str) -> Any:
    return next(artist for artist in lines(ax) if artist.get_gid() == gid)


def legends_of(figure: Figure) -> list[Any]:
    return [legend for legend in (*(ax.get_legend() for ax in figure.axes), *figure.legends) if legend is not None]


def note(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


@pytest.fixture(scope="module")
def norms(holed: Tables) -> Figure:
    return gradient_norm.draw(*holed)


@pytest.fixture(scope="module")
def accuracies(holed: Tables) -> Figure:
    return accuracy_by_length.draw(holed[0])


@pytest.fixture(scope="module")
def reaches(holed: Tables) -> Figure:
    return horizons.draw(holed[0])


def curve(tables: Tables, fingerprint: str, phase: str) -> np.ndarray:
    curves = tables[1]
    chosen = (curves["fingerprint"] == fingerprint) & (curves["phase"] == phase)
    return curves[chosen & (curves["quantity"] == gradient_norm.QUANTITY)].sort_values("x")["value"].to_numpy()


def test_gradient_norms_are_the_tables_and_the_mean_is_of_log10(holed: Tables, norms: Figure):
    assert len(norms.axes) == 12  # 3 cells × (2 tasks × before, after)
    for phase, column in (("before", 2), ("after", 3)):
        ax = norms.axes[4 + column]  # second row: LSTM, digits
        seeds = [curve(holed, f"digits-lstm-unit_forget-128-{seed}", phase) for seed in range(4)]
        for seed, values in enumerate(seeds):
            drawn = line(ax, f"unit_forget seed {seed}")
            assert drawn.get_ydata() == pytest.approx(values)
            assert drawn.get_xdata() == pytest.approx(np.arange(129))
            assert drawn.get_color() == CELLS["lstm"]
        mean = line(ax, "unit_forget mean")
        assert mean.get_ydata() == pytest.approx(np.mean(seeds, axis=0))
        assert mean.get_linewidth() > line(ax, "unit_forget seed 0").get_linewidth()


def test_failed_and_diverged_runs_are_not_drawn_where_nothing_was_measured(norms: Figure):
    identity = {artist.get_gid() for artist in lines(norms.axes[1], "identity")}
    assert identity == {"identity seed 3", "identity mean"}  # after training: 0, 1, 2 diverged
    assert len(lines(norms.axes[0], "identity seed")) == 4
    chrono = {artist.get_gid() for artist in lines(norms.axes[4 + 2], "chrono seed")}
    assert chrono == {"chrono seed 0", "chrono seed 1"}


def test_a_zero_gradient_breaks_the_line_stops_the_mean_and_is_noted(holed: Tables, norms: Figure):
    assert np.isneginf(curve(holed, "recall-rnn-pytorch-160-1", "before")).sum() == 10
    ax = norms.axes[0]
    assert np.isnan(line(ax, "pytorch seed 1").get_ydata()).sum() == 10
    mean = line(ax, "pytorch mean").get_ydata()
    assert np.isnan(mean[151:]).all()
    assert np.isfinite(mean[:151]).all()
    assert np.isfinite(line(ax, "pytorch seed 0").get_ydata()).all()
    assert "Exactly zero, so not on a log axis: 10 points of 1 runs" in note(norms)


def test_norms_of_a_cell_share_axes_and_are_labelled_as_powers_of_ten(norms: Figure):
    assert norms.axes[0].yaxis.get_major_formatter()(-15.0, 0) == "$10^{-15}$"
    for row in (norms.axes[:4], norms.axes[4:8], norms.axes[8:]):
        assert len({ax.get_ylim() for ax in row}) == 1
        lowest = min(np.nanmin(artist.get_ydata()) for ax in row for artist in lines(ax))
        assert row[0].get_ylim()[0] < lowest


def test_curves_without_norms_are_refused(whole: Tables):
    runs, curves = whole
    with pytest.raises(ConfigError, match="log10_norm_by_lag: the curves hold none"):
        gradient_norm.draw(runs, curves[curves["quantity"] == "val/loss"])


def test_accuracy_draws_every_seed_and_the_mean_with_its_interval(holed: Tables, accuracies: Figure):
    runs = holed[0]
    ax = panel(accuracies, "recall", "GRU")
    rows = runs[(runs["task"] == "recall") & (runs["cell"] == "gru") & (runs["init"] == "xavier")]
    seeds = line(ax, "xavier seeds")
    assert sorted(zip(*seeds.get_data(), strict=True)) == sorted(
        zip(rows["length"], rows["test/accuracy"], strict=True)
    )
    assert len(seeds.get_xdata()) == 18  # 20 less the two that are missing
    for length, drawn in zip(*line(ax, "xavier mean").get_data(), strict=True):
        assert drawn == pytest.approx(rows.loc[rows["length"] == length, "test/accuracy"].mean())
    bars = next(item for item in ax.collections if item.get_gid() == "xavier interval")
    assert isinstance(bars, LineCollection)
    for (length, low), (_, high) in bars.get_segments():
        values = rows.loc[rows["length"] == length, "test/accuracy"]
        theirs = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
        assert (low, high) == pytest.approx((max(theirs[0], 0), min(theirs[1], 1)))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "20", "40", "80", "160"]


def test_diverged_runs_are_crosses_at_chance_and_in_the_mean(holed: Tables, accuracies: Figure):
    ax = panel(accuracies, "recall", "RNN")
    cross = line(ax, "identity diverged")
    assert cross.get_xdata().tolist() == [160] * 3
    assert cross.get_ydata().tolist() == [0.125] * 3
    runs = holed[0]
    survivor = runs.loc[place(runs, "recall", "rnn", "identity", 160, 3), "test/accuracy"].item()
    assert line(ax, "identity mean").get_ydata()[-1] == pytest.approx((3 * 0.125 + survivor) / 4)
    assert not lines(panel(accuracies, "digits", "RNN"), "diverged")


def test_chance_stands_in_every_panel(accuracies: Figure):
    for ax in accuracies.axes:
        level = next(artist for artist in lines(ax) if artist.get_label() == "_threshold")
        assert set(level.get_ydata()) == {0.125 if "recall" in ax.get_title() else 0.1}


def test_horizons_draw_one_point_per_cell_init_and_seed_with_bounds_marked(holed: Tables, reaches: Figure):
    ax = panel(reaches, "recall")
    found = [item for kind in ("exact", "bound") for item in lines(ax, f" {kind}")]
    points = [point for item in found for point in zip(*item.get_data(), strict=True)]
    expected = recall_horizon.known(across_lengths(holed[0]))
    expected = expected[expected["task"] == "recall"]
    assert len(expected) == 12 * 4 - 1, "gru xavier lacks seed 3"
    assert sorted(points) == sorted(zip(expected[horizons.X], expected[horizons.Y], strict=True))
    bounds = lines(ax, "lstm chrono bound")
    assert sum(len(item.get_xdata()) for item in bounds) == 4
    assert {item.get_markerfacecolor() for item in bounds} == {"none"}
    up = lines(ax, "lstm chrono up")
    assert sum(len(item.get_xdata()) for item in up) == 4


def test_points_that_coincide_are_drawn_around_each_other(reaches: Figure):
    ax = panel(reaches, "digits")
    found = {}
    for item in lines(ax, "chrono bound"):
        found[item.get_gid()] = (item.get_markersize(), item.get_zorder(), item.get_xdata().max())
    assert found["lstm chrono bound"][2] == found["gru chrono bound"][2] == 128
    assert found["lstm chrono bound"][0] > found["gru chrono bound"][0]
    assert found["lstm chrono bound"][1] < found["gru chrono bound"][1]


def test_a_panel_whose_horizons_are_all_one_says_so(whole: Tables):
    runs = whole[0].assign(**{"test/accuracy": 0.0})
    assert "ρ undefined\nall points have one value" in panel(horizons.draw(runs), "recall").get_title()


def test_tasks_without_a_lag_have_no_horizons_to_draw(whole: Tables):
    runs = whole[0].copy()
    digits = runs["task"] == "digits"
    runs.loc[digits, ["recall/horizon", "recall/horizon_reached_end"]] = math.nan
    assert len(horizons.draw(runs).axes) == 1, "the panel of recall alone"
    with pytest.raises(ConfigError, match="task=digits: no run has a recall horizon"):
        horizons.draw(runs[digits])


def test_every_figure_prints_n_and_lists_the_holes(norms: Figure, accuracies: Figure, reaches: Figure):
    for figure in (norms, accuracies, reaches):
        assert "n = 2–4 seeds per point; 427 of 432 runs." in note(figure)
        assert "recall rnn/identity length 160 seeds 0–2" in note(figure)
        assert "Failed, not drawn: 2 (digits lstm/chrono length 128 seeds 2, 3)" in note(figure)
        assert "recall gru/xavier length 40, 80 seed 3; digits rnn/pytorch length 64 seed 0" in note(figure)


@style.paper()
def assert_fits(figure: Figure):
    """Nothing lies outside the figure, and nothing over its note."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.canvas.get_width_height()
    foot = next(text for text in figure.texts if "seeds per point" in text.get_text()).get_window_extent(renderer)
    assert foot.x1 <= width
    drawn = [ax.get_tightbbox(renderer) for ax in figure.axes if ax.axison]
    for box in drawn + [legend.get_window_extent(renderer) for legend in legends_of(figure)]:
        assert (box.x0 >= 0, box.x1 <= width, box.y0 >= foot.y1, box.y1 <= height) == (True,) * 4


def test_everything_fits_into_the_figure_beside_the_note(norms: Figure, accuracies: Figure, reaches: Figure):
    for figure in (norms, accuracies, reaches):
        assert len(legends_of(figure)) == 3
        assert_fits(figure)


def test_many_tasks_stand_in_rows_of_at_most_three_panels(whole: Tables):
    runs = whole[0][whole[0]["task"] == "recall"]
    figure = horizons.draw(pd.concat([runs.assign(task=f"recall {place}") for place in range(4)]))
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == 4
    assert len({round(ax.get_position().x0, 4) for ax in figure.axes}) == 3
    assert_fits(figure)


def test_one_task_one_cell_and_one_seed_draw_too():
    runs, curves = make_sweep(tasks=("digits",), seeds=1, cells=("gru",))
    for figure in (gradient_norm.draw(runs, curves), accuracy_by_length.draw(runs), horizons.draw(runs)):
        assert "n = 1 seeds per point; 16 of 16 runs." in note(figure)
        assert_fits(figure)
