"""The rules of the experiments' own files, on made-up tables that must pass and must fail."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from goldfish.figures import accuracy_by_lag, compare
from goldfish.figures.compare import Panel
from goldfish.figures.load import figure_module, measure_module
from goldfish.sweep import experiment


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    return measure_module(experiment.folder("claims"))


def order(**pairs: float) -> pd.DataFrame:
    """Temporal order at T = 10 and 40: accuracy of each network, the same on the pair."""
    rows = []
    for (cell, value), length, seed in ((item, t, s) for item in pairs.items() for t in (10, 40) for s in range(3)):
        told = value if length == 40 or cell != "feedforward" else 1.0
        rows.append(
            {"task": "temporal_order", "cell": cell, "length": length, "seed": seed, "outcome": "unsolved",
             "test/accuracy": told, "test/pair_accuracy": told + 0.001 * seed}
        )  # fmt: skip
    return pd.DataFrame(rows)


GOOD = {"bag_of_words": 0.5, "tfidf": 0.5, "feedforward": 0.25, "rnn": 1.0, "lstm": 1.0, "gru": 1.0}


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, ("holds", "holds", "holds")),
        ({"tfidf": 0.8}, ("does not hold", "holds", "holds")),
        ({"feedforward": 0.9}, ("holds", "does not hold", "holds")),
        ({"rnn": 0.4}, ("holds", "holds", "holds under conditions")),
        ({"rnn": 0.4, "lstm": 0.4, "gru": 0.4}, ("does not hold", "holds", "does not hold")),
    ],
)
def test_claims_about_order(claims: ModuleType, changes: dict[str, float], verdicts: tuple[str, ...]) -> None:
    table = order(**(GOOD | changes))
    judges = (claims._counts_lose_order, claims._window_forgets, claims._recurrence_reads_order)
    assert tuple(judge(table)[1] for judge in judges) == verdicts


@pytest.mark.parametrize(
    ("recurrent", "verdict"),
    [((0.80, 0.81, 0.82), "holds"), ((0.70, 0.71, 0.72), "does not hold"), ((0.6, 0.8, 1.0), "does not hold")],
)
def test_sentiment_against_counts(claims: ModuleType, recurrent: tuple[float, ...], verdict: str) -> None:
    values = {"rnn": (0.5, 0.51, 0.52), "lstm": (0.6, 0.61, 0.62), "gru": recurrent, "tfidf": (0.75, 0.75, 0.75)}
    rows: list[dict[str, Any]] = [
        {"task": "sentiment", "task.shuffle_words": False, "cell": cell, "seed": seed, "outcome": "unsolved",
         "test/accuracy": value, "val/accuracy": 0.9 if cell == "gru" else 0.1}
        for cell, own in values.items() for seed, value in enumerate(own)
    ]  # fmt: skip
    told, found = claims._order_tells_sentiment(pd.DataFrame(rows))
    assert found == verdict
    assert told.startswith("GRU (by validation)")


def memory(**values: float) -> pd.DataFrame:
    """The summary of `goldfish`: two tasks, RNN and gated networks, three seeds."""
    given = {"horizon": 5.0, "trained": 5.0, "survival": 3.0, "far": 20.0, "gated": 30.0, "chrono": 30.0} | values
    rows = []
    for task in ("recall", "sentiment"):
        for cell, init in (("rnn", "pytorch"), *((c, i) for c in ("lstm", "gru") for i in ("pytorch", "chrono"))):
            reach = given["horizon"] if cell == "rnn" else given["gated" if init == "pytorch" else "chrono"]
            rows += [
                {"task": task, "cell": cell, "init": init, "seed": seed, "outcome": "unsolved", "rho_before": 0.6,
                 "gradient/horizon_before": reach, "gradient/horizon": given["trained"], "survival": given["survival"],
                 "gradient/far_horizon_before": given["far"]}
                for seed in range(3)
            ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("judge", "values", "verdict"),
    [
        ("_gone_after_a_dozen", {}, "holds"),
        ("_gone_after_a_dozen", {"trained": 40.0}, "holds under conditions"),
        ("_gone_after_a_dozen", {"trained": 40.0, "horizon": 13.0}, "does not hold"),
        ("_goldfish", {}, "holds"),
        ("_goldfish", {"survival": 20.0}, "does not hold"),
        ("_nothing_over_dozens", {}, "holds"),
        ("_nothing_over_dozens", {"far": 100.0}, "does not hold"),
        ("_gates_relieve", {}, "holds"),
        ("_gates_relieve", {"gated": 6.0}, "holds under conditions"),
        ("_gates_relieve", {"gated": 6.0, "chrono": 6.0}, "does not hold"),
    ],
)
def test_claims_about_memory(claims: ModuleType, judge: str, values: dict[str, float], verdict: str) -> None:
    assert getattr(claims, judge)(memory(**values))[1] == verdict


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(2.0, "holds"), (0.5, "does not hold"), (1.0, "holds under conditions")]
)
def test_claims_about_cost(claims: ModuleType, seconds: float, verdict: str) -> None:
    rows = [
        {"network": network, "what": what, "length": length, "batch": batch, "replicas": 1, "device": "cpu",
         "seconds": 1.0 if network == "transformer" else 2.0 if network == "gru" and seconds == 1.0 else seconds}
        for network in ("rnn", "lstm", "gru", "transformer") for batch in (1, 32) for length in (16, 64)
        for what in ("training step", "generated token")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    assert claims._slower(table)[1] == verdict
    assert claims._generates_slower(table)[1] == verdict


def test_what_was_not_measured_is_not_judged(
    claims: ModuleType, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = claims.measure({"scale": "smoke"}, tmp_path)
    assert set(table["verdict"]) == {"not measured at this scale"}
    assert len(table) == len(claims.CLAIMS)
    assert table["rule"].str.len().min() > 20


def test_where_lines_cross() -> None:
    crossing = figure_module(experiment.folder("achilles_heel")).crossing
    assert crossing([16, 64], [-1.0, -0.1]) == "faster at every length from 16 to 64"
    assert crossing([16, 64], [1.0, 0.1]) == "slower at every length from 16 to 64"
    assert crossing([16, 64, 256], [-1.0, -1.0, 1.0]) == "slower from T ≈ 128 on"
    assert crossing([16, 64, 256], [1.0, -1.0, 1.0]) == "faster from T ≈ 32 on, then slower from T ≈ 128 on"


def test_survival_by_hand() -> None:
    curve = {0: 0.8, 10: 0.7, 20: 0.6, 30: 0.7}  # the midpoint of .5 and the best arm's .8 is .65
    rows = [("sentiment", "gru", "chrono", 0, x, value) for x, value in curve.items()]
    rows += [("sentiment", "gru", "chrono", 1, x, 0.8) for x in curve]
    rows += [("sentiment", "rnn", "pytorch", 0, x, 0.51) for x in curve]  # has learnt nothing
    found = accuracy_by_lag.survival(pd.DataFrame(rows, columns=["task", "cell", "init", "seed", "x", "value"]), 0.5)
    assert found[["seed", "lag", "reached_end"]].values.tolist() == [
        [0, 10.0, False],
        [1, 30.0, True],
        [0, 0.0, False],
    ]


def test_networks_side_by_side() -> None:
    rows = pd.DataFrame(
        {"cell": ["gru", "gru", "tfidf", "rnn"], "seed": [0, 1, 0, 0], "parameters": [10, 10, 4, 7],
         "outcome": ["solved", "unsolved", "unsolved", "diverged"], "test/accuracy": [0.9, 0.7, 0.5, 0.6]}
    )  # fmt: skip
    panel = Panel("here", rows, levels={0.5: "chance"})
    assert compare.networks([panel]) == ["tfidf", "rnn", "gru"]
    lines = compare.markdown([panel]).splitlines()
    assert lines[2] == "| TF-IDF | 4 | 0.500 (n=1) |"
    assert lines[3] == "| RNN | 7 | 0.000 (n=1) |", "a diverged run counts, and as nothing"
    assert lines[4].startswith("| GRU | 10 | 0.800 ± 1.27")  # t(0.975, 1) · s / √2 = 12.706 · 0.1
    assert "1 diverged" in compare.note([panel])
    assert "Dashed: chance." in compare.note([panel])
    assert compare.draw([panel], "accuracy").axes
