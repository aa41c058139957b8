"""published.csv: read, refused where it is wrong, and applied to tables of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from goldfish.errors import ConfigError
from goldfish.figures.statistics import mean_interval
from goldfish.papers import published
from goldfish.papers.figure import draw
from goldfish.papers.published import COLUMNS, Claim

RUNS = pd.DataFrame(
    {
        "outcome": ["solved", "solved", "solved", "unsolved", "diverged", "failed"] * 2,
        "cell": ["lstm"] * 6 + ["rnn"] * 6,
        "task.length": [20] * 12,
        "trainer.gradient_clip_val": [1.0] * 6 + [float("nan")] * 6,
        "trainer.max_steps": [1000] * 12,
        "time_to_solve": [100, 110, 120, None, None, None] * 2,
        "test/accuracy": [0.9, 0.91, 0.92, 0.2, None, 0.99] * 2,
    }
)


def claim(**given: str | float) -> Claim:
    texts = dict.fromkeys(("claim", "rule", "select", "versus", "metric", "unit", "source", "read"), "")
    row = {name: str(value) for name, value in (texts | dict.fromkeys(("value", "n", "tolerance"), "") | given).items()}
    return published._claim(Path("published.csv"), row)


def test_numbers_and_pairs() -> None:
    found = claim(rule="success", select="cell=lstm task.length=20", metric="solved", value=11, n=11)
    assert found.select == {"cell": "lstm", "task.length": "20"}
    assert (found.value, found.n) == (11.0, 11.0)


@pytest.mark.parametrize(
    ("select", "count"),
    [
        ({"cell": "lstm"}, 5),
        ({"task.length": "20.0"}, 10),
        ({"trainer.gradient_clip_val": "null"}, 5),
        ({"trainer.gradient_clip_val": "1"}, 5),
        ({"no.such": "1"}, 0),
        ({"cell": "gru"}, 0),
    ],
)
def test_chosen_without_the_failed(select: dict[str, str], count: int) -> None:
    assert len(published.rows(claim(rule="above", metric="solved"), select, RUNS)) == count


def test_a_diverged_run_is_unsolved_at_its_budget() -> None:
    rows = published.rows(claim(rule="success", metric="solved"), {"cell": "lstm"}, RUNS)
    assert published.count(rows) == (3, 5)
    assert published.times(rows) == ([100, 110, 120, 1000, 1000], [True, True, True, False, False])


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"rule": "success", "select": "cell=lstm", "metric": "solved", "value": 0, "n": 20}, "not reproduced"),
        ({"rule": "success", "select": "cell=lstm", "metric": "solved", "value": 12, "n": 20}, "reproduced"),
        ({"rule": "success", "select": "cell=gru", "metric": "solved", "value": 0, "n": 20}, "not run at this scale"),
        ({"rule": "above", "select": "cell=lstm", "metric": "test/accuracy", "value": 0.5}, "not reproduced"),
        ({"rule": "more", "select": "cell=lstm", "versus": "cell=rnn", "metric": "solved"}, "inconclusive"),
        (
            {"rule": "ratio", "select": "cell=lstm", "versus": "cell=rnn", "metric": "time_to_solve", "value": 1},
            "inconclusive",
        ),
        ({"rule": "note", "metric": "test/accuracy", "value": 0.98}, ""),
    ],
)
def test_judge(given: dict[str, str | float], verdict: str) -> None:
    assert published.judge(claim(**given), RUNS).verdict == verdict


def test_samples_are_asked_where_runs_have_no_such_column() -> None:
    samples = pd.DataFrame({"kind": ["slope"] * 3, "sigma_w": [1.0] * 3, "slope": [-0.18, -0.185, -0.19]})
    found = claim(rule="value", select="kind=slope sigma_w=1", metric="slope", value=-0.1864, tolerance=0.02)
    runs = RUNS.copy()
    runs.attrs["samples"] = samples.to_dict("records")
    assert published.judge(found, runs).verdict == "reproduced"


def test_the_figure_shows_each_claim_that_was_run() -> None:
    claims = [
        claim(claim="one", rule="success", select="cell=lstm", metric="solved", value=12, n=20),
        claim(claim="two", rule="more", select="cell=lstm", versus="cell=rnn", metric="test/accuracy"),
        claim(claim="three", rule="above", select="cell=gru", metric="test/accuracy", value=0.5),
    ]
    figure = draw([(one, published.judge(one, RUNS)) for one in claims], RUNS)
    assert [[label.get_text() for label in ax.get_yticklabels()] for ax in figure.axes] == [["one"], ["two"]]
    (nothing,) = draw([(one, published.judge(one, RUNS)) for one in claims[2:]], RUNS).axes
    assert [text.get_text() for text in nothing.texts] == ["None of the published settings was run at this scale."]


def test_runs_that_were_not_solved_are_counted_beside_their_steps() -> None:
    asked = claim(claim="one", rule="ratio", select="cell=lstm", versus="cell=rnn", metric="time_to_solve", value=1.5)
    ax = draw([(one, published.judge(one, RUNS)) for one in [asked]], RUNS).axes[0]
    assert ax.texts[0].get_text().endswith("\n4 unsolved"), "of each cell one unsolved and one diverged"
    assert "the budget where not" in ax.get_title()


def test_axes_of_the_figure() -> None:
    """A panel for each metric and unit; far apart is logarithmic; nothing below zero where nothing was measured."""
    common = {"rule": "less", "select": "cell=lstm", "versus": "cell=rnn"}
    runs = RUNS.assign(near=[0.0, 0.0, 0.0, 0.0, 0.9, 0.0] * 2, far=([1.0] * 6) + ([100.0] * 6))
    claims = [
        claim(claim="far", metric="far", unit="nats", **common),
        claim(claim="near", metric="near", unit="nats", **common),
        claim(claim="near, another unit", metric="near", unit="bits", **common),
    ]
    far, near, other = draw([(one, published.judge(one, runs)) for one in claims], runs).axes
    assert [ax.get_title() for ax in (far, near, other)] == ["far (nats)", "near (nats)", "near (bits)"]
    assert [ax.get_xscale() for ax in (far, near)] == ["log", "linear"]
    expected = mean_interval(runs["near"][:5])
    assert expected.low < -0.2
    assert [expected.low, expected.high] in [np.asarray(line.get_xdata()).tolist() for line in near.lines]
    assert -0.1 < near.get_xlim()[0] < 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "succes"}, "rule=succes: did you mean 'success'"),
        ({"rule": "value", "value": "about 3"}, "could not convert"),
        ({"rule": "value", "select": "cell lstm"}, "'cell lstm' is not of the form"),
    ],
)
def test_wrong_rows_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        claim(**changes)


def test_wrong_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text("claim,rule\na,note\n")
    with pytest.raises(ConfigError, match="has columns claim, rule; expected claim, rule, select"):
        published.read(tmp_path)
    (tmp_path / "published.csv").write_text("task,value\na,1\n")
    assert published.read(tmp_path) == []
    (tmp_path / "published.csv").write_text(",".join(COLUMNS) + "\nx,note,,,,,,,,,\n")
    assert [found.claim for found in published.read(tmp_path)] == ["x"]
