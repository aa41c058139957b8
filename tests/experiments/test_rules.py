"""The rules of the experiments' own files, on made-up tables that must pass and must fail."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from goldfish.errors import ConfigError
from goldfish.figures import compare
from goldfish.figures.compare import Panel
from goldfish.figures.table import piped
from goldfish.papers import experiment


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    return experiment.read("claims").module("measure")


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
    crossing = experiment.read("achilles_heel").module("figure").crossing
    assert crossing([16, 64], [-1.0, -0.1]) == "faster at every length from 16 to 64"
    assert crossing([16, 64], [1.0, 0.1]) == "slower at every length from 16 to 64"
    assert crossing([16, 64, 256], [-1.0, -1.0, 1.0]) == "slower from T ≈ 128 on"
    assert crossing([16, 64, 256], [1.0, -1.0, 1.0]) == "faster from T ≈ 32 on, then slower from T ≈ 128 on"


def test_survival_by_hand() -> None:
    curve = {0: 0.8, 10: 0.7, 20: 0.6, 30: 0.7}  # the midpoint of .5 and the best arm's .8 is .65
    rows = [("sentiment", "gru", "chrono", 0, x, value) for x, value in curve.items()]
    rows += [("sentiment", "gru", "chrono", 1, x, 0.8) for x in curve]
    rows += [("sentiment", "rnn", "pytorch", 0, x, 0.51) for x in curve]  # has learnt nothing
    survival = experiment.read("goldfish").module("figure").survival
    found = survival(pd.DataFrame(rows, columns=["task", "cell", "init", "seed", "x", "value"]), 0.5)
    assert found[["seed", "lag", "reached_end"]].values.tolist() == [
        [0, 10.0, False],
        [1, 30.0, True],
        [0, 0.0, False],
    ]


def test_networks_side_by_side() -> None:
    rows = pd.DataFrame(
        {"task": "sentiment", "cell": ["gru", "gru", "tfidf", "rnn"], "seed": [0, 1, 0, 0],
         "parameters": [10, 10, 4, 7], "recall/chance": [0.5, 0.5, 0.5, None],
         "outcome": ["solved", "unsolved", "unsolved", "diverged"], "test/accuracy": [0.9, 0.7, 0.5, 0.6]}
    )  # fmt: skip
    panel = Panel("here", rows, levels={0.5: "chance"})
    assert compare.networks([panel]) == ["tfidf", "rnn", "gru"]
    lines = piped(compare.rows([panel])).splitlines()
    assert lines[2] == "| TF-IDF | 4 | 0.500 (n=1) |"
    assert lines[3] == "| RNN | 7 | 0.500 (n=1) |", "a diverged run counts, at chance"
    assert lines[4].startswith("| GRU | 10 | 0.800 ± 1.27")  # t(0.975, 1) · s / √2 = 12.706 · 0.1
    assert "1 diverged" in compare.note([panel])
    assert "Dashed: chance." in compare.note([panel])
    assert compare.draw([panel], "accuracy").axes


def test_a_diverged_network_is_never_the_best_side_by_side() -> None:
    rows = pd.DataFrame(
        {"task": "characters", "cell": ["gru", "gru", "lstm", "lstm"], "seed": [0, 1, 0, 1], "parameters": 10,
         "outcome": ["unsolved", "diverged", "unsolved", "unsolved"], "test/bits_per_character": [2.0, None, 3.0, 3.0],
         "test/bleu": [20.0, None, 10.0, 10.0], "train/seconds": [8.0, 4.0, 9.0, 9.0]}
    )  # fmt: skip
    bits, bleu, seconds = (
        Panel("here", rows, metric) for metric in ("test/bits_per_character", "test/bleu", "train/seconds")
    )
    assert compare.values(bits)["value"].tolist() == [2.0, math.inf, 3.0, 3.0]
    assert compare.values(bleu)["value"].tolist() == [20.0, 0.0, 10.0, 10.0]
    assert compare.values(seconds)["value"].tolist() == [8.0, 4.0, 9.0, 9.0]
    assert "| GRU | 10 | ∞ (n=2, 1 diverged) |" in piped(compare.rows([bits]))
    means = [line for line in compare.draw([bits], "bits").axes[0].lines if line.get_marker() == "D"]
    assert [list(line.get_xdata()) for line in means] == [[3.0]]  # type: ignore[arg-type]


def test_two_runs_of_a_network_and_seed_are_no_two_seeds() -> None:
    rows = pd.DataFrame(
        {"task": "recall", "cell": "gru", "seed": 0, "length": [10, 20], "outcome": "solved", "test/accuracy": 1.0}
    )
    with pytest.raises(ConfigError, match="cell=gru, seed=0: two runs"):
        compare.values(Panel("here", rows))


def test_claims_take_the_seed_as_the_unit_and_a_diverged_run_at_chance(claims: ModuleType) -> None:
    rows = pd.DataFrame(
        {"task": "tagging", "seed": [0, 1, 2] * 2, "task.dataset": ["snips_slots"] * 3 + ["ud_english_ewt"] * 3,
         "outcome": "unsolved", "test/accuracy": [0.9, 0.91, 0.92, 0.5, 0.51, 0.52], "recall/chance": 0.25}
    )  # fmt: skip
    found = claims._mean(rows, "test/accuracy")
    assert (found.n, found.estimate) == (3, pytest.approx(0.71))
    assert found.high - found.low == pytest.approx(2 * 4.302652729911275 * 0.01 / math.sqrt(3))  # t(.975, 2)
    rows.loc[0, ["outcome", "test/accuracy"]] = ["diverged", None]
    assert claims._mean(rows, "test/accuracy").estimate == pytest.approx(0.71 - (0.9 - 0.25) / 6)


def test_a_diverged_network_is_at_chance_at_every_lag() -> None:
    runs = pd.DataFrame(
        {"fingerprint": ["a", "b"], "task": "sentiment", "cell": "gru", "init": "chrono", "seed": [0, 1],
         "outcome": ["solved", "diverged"], "recall/chance": [0.5, None]}
    )  # fmt: skip
    curves = pd.DataFrame(
        {"fingerprint": "a", "quantity": "recall/accuracy_by_lag", "phase": "after", "x": [1.0, 9.0], "value": 0.8}
    )
    goldfish = experiment.read("goldfish").module("figure")
    found = goldfish.by_lag(runs, curves)
    assert found.groupby("x")["value"].mean().tolist() == pytest.approx([0.65, 0.65])
    assert goldfish.survival(found, 0.5)["lag"].tolist() == [9.0, 0.0]


def test_a_seed_that_lacks_a_setting_has_no_spread() -> None:
    samples = experiment.read("lstm_on_smnist").module("samples").samples
    rows = pd.DataFrame(
        {"cell": "lstm", "optimizer": "adam", "optimizer.lr": [0.001, 0.01, 0.001, 0.01], "init": "chrono",
         "seed": [0, 0, 1, 1], "outcome": ["solved", "diverged", "solved", "failed"], "recall/chance": 0.1,
         "test/accuracy": [0.9, None, 0.9, None]}
    )  # fmt: skip
    found = samples(rows, lambda fingerprint: None)
    assert found[found["kind"] == "settings"][["seed", "spread"]].values.tolist() == [[0, pytest.approx(0.8)]]


def test_a_length_that_is_lacking_is_not_taken_for_unsolved() -> None:
    limits = experiment.read("chen2018_mean_field").module("samples")._limits
    rows = pd.DataFrame(
        {"init.sigma_w": 1.0, "R": 0.1, "seed": [0, 0, 0, 1, 1], "length": [8, 16, 32, 8, 32], "outcome": "solved"}
    )
    assert [(row["seed"], row["longest"]) for row in limits(rows) if "longest" in row] == [(0, 32.0)]
