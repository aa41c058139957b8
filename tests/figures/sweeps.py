"""A synthetic sweep whose numbers are known: decay curves, horizons and accuracies as such sweeps have them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

# log10 norm per lag step before and after training, the forgetting scale of accuracy in steps, chance aside
ARMS = {
    ("rnn", "pytorch"): (-0.24, -0.10, 25.0),
    ("rnn", "orthogonal"): (-0.03, -0.04, 50.0),
    ("rnn", "identity"): (0.004, -0.01, 12.0),
    ("rnn", "gaussian"): (-0.05, -0.06, 40.0),
    ("lstm", "pytorch"): (-0.29, -0.25, 11.0),
    ("lstm", "orthogonal"): (-0.26, -0.22, 13.0),
    ("lstm", "unit_forget"): (-0.13, -0.10, 26.0),
    ("lstm", "chrono"): (-0.006, -0.004, 900.0),
    ("gru", "pytorch"): (-0.22, -0.02, 150.0),
    ("gru", "orthogonal"): (-0.15, -0.02, 180.0),
    ("gru", "xavier"): (-0.2, -0.02, 130.0),
    ("gru", "chrono"): (-0.005, -0.004, 700.0),
}
TASKS = {"recall": ((10, 20, 40, 80, 160), 1 / 8, 0), "digits": ((64, 80, 96, 128), 1 / 10, 64)}
PARAMETERS = {"rnn": 1_672, "lstm": 6_184, "gru": 4_680}
STEPS = 600


def _run(task: str, arm: tuple[str, str], length: int, seed: int, noise: np.random.Generator) -> dict[str, object]:
    before, after, scale = ARMS[arm]
    _, chance, offset = TASKS[task]
    lag = length - offset
    before, after = (rate * math.exp(0.1 * noise.normal()) for rate in (before, after))
    reach = scale * math.exp(0.25 * noise.normal())
    accuracy = chance + (1 - chance) / (1 + (lag / reach) ** 4) - 0.02 * noise.random()
    solved = accuracy >= 0.975
    recalled = 0 if accuracy < (1 + chance) / 2 else min(2 * length - offset, round(reach))
    horizons = [length if rate >= 0 else min(length, int(2 / -rate)) for rate in (before, after)]
    cell, init = arm
    return {
        "fingerprint": f"{task}-{cell}-{init}-{length}-{seed}",
        "outcome": "solved" if solved else "unsolved",
        "reason": "",
        "cell": cell,
        "init": init,
        "task": task,
        "length": length,
        "seed": seed,
        "hidden_size": 32,
        "optimizer.lr": 0.01,
        "trainer.max_steps": STEPS,
        "parameters": PARAMETERS[cell],
        "seconds": 1.5,
        "steps": STEPS,
        "test/accuracy": accuracy,
        "recall/lag": float(lag),
        "gradient/decay_rate_before": before * math.log(10),
        "gradient/decay_rate": after * math.log(10),
        "gradient/horizon_before": float(horizons[0]),
        "gradient/horizon_reached_end_before": float(horizons[0] == length),
        "gradient/horizon": float(horizons[1]),
        "gradient/horizon_reached_end": float(horizons[1] == length),
        "recall/horizon": float(recalled),
        "recall/horizon_reached_end": float(recalled == 2 * length - offset),
        "recall/chance": chance,
        "time_to_solve": 50.0 * noise.integers(3, 12) if solved else math.nan,
        "time_to_solve/censored": float(not solved),
    }


def _curves(run: dict[str, object], noise: np.random.Generator) -> Iterator[dict[str, object]]:
    lags = np.arange(int(str(run["length"])) + 1)
    for phase, suffix in (("before", "_before"), ("after", "")):
        rate = float(str(run[f"gradient/decay_rate{suffix}"])) / math.log(10)
        values = -1.5 + rate * lags + 0.1 * np.cumsum(noise.normal(size=len(lags))) * (lags > 0)
        for lag, value in zip(lags, values, strict=True):
            common = {"fingerprint": run["fingerprint"], "phase": phase, "x": float(lag)}
            yield common | {"quantity": "gradient/log10_norm_by_lag", "value": value}
    yield {"fingerprint": run["fingerprint"], "quantity": "val/loss", "phase": "training", "x": 50.0, "value": 1.0}


def make_sweep(
    tasks: tuple[str, ...] = ("recall", "digits"), seeds: int = 4, cells: tuple[str, ...] = ("rnn", "lstm", "gru")
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """runs and curves of a whole sweep in which nothing failed or diverged."""
    noise = np.random.default_rng(2)
    arms = [arm for arm in ARMS if arm[0] in cells]
    places = [
        (task, arm, length, seed) for task in tasks for arm, length, seed in product(arms, TASKS[task][0], range(seeds))
    ]
    runs = [_run(*place, noise) for place in places]
    longest = [run for run in runs if run["length"] == max(TASKS[str(run["task"])][0])]
    curves = [point for run in longest for point in _curves(run, noise)]
    return pd.DataFrame(runs), pd.DataFrame(curves)


def diverge(runs: pd.DataFrame, curves: pd.DataFrame, chosen: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the chosen runs diverge: what is measured after training is not there."""
    runs = runs.copy()
    runs.loc[chosen, "outcome"] = "diverged"
    runs.loc[chosen, "reason"] = "loss became nan at step 120"
    after = ["test/accuracy", "gradient/decay_rate", "gradient/horizon", "gradient/horizon_reached_end"]
    runs.loc[chosen, [*after, "recall/horizon", "recall/horizon_reached_end", "recall/chance", "time_to_solve"]] = (
        math.nan
    )
    gone = curves["fingerprint"].isin(runs.loc[chosen, "fingerprint"]) & (curves["phase"] == "after")
    return runs, curves[~gone]


def fail(runs: pd.DataFrame, curves: pd.DataFrame, chosen: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the chosen runs fail: a row with an outcome and nothing measured."""
    runs = runs.copy()
    measured = [name for name in runs if "/" in name]
    runs.loc[chosen, "outcome"] = "failed"
    runs.loc[chosen, measured] = math.nan
    return runs, curves[~curves["fingerprint"].isin(runs.loc[chosen, "fingerprint"])]


def place(runs: pd.DataFrame, task: str, cell: str, init: str, length: int, *seeds: int) -> pd.Series:
    """The runs of one point of the grid, as a mask."""
    at = (runs["task"] == task) & (runs["cell"] == cell) & (runs["init"] == init) & (runs["length"] == length)
    return at & runs["seed"].isin(seeds)


def make_holed_sweep() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sweep with three runs diverged, two failed, three rows absent and one gradient of exactly zero."""
    runs, curves = make_sweep()
    runs, curves = diverge(runs, curves, place(runs, "recall", "rnn", "identity", 160, 0, 1, 2))
    runs, curves = fail(runs, curves, place(runs, "digits", "lstm", "chrono", 128, 2, 3))
    runs = runs[~place(runs, "recall", "gru", "xavier", 80, 3) & ~place(runs, "recall", "gru", "xavier", 40, 3)]
    runs = runs[~place(runs, "digits", "rnn", "pytorch", 64, 0)].reset_index(drop=True)
    zero = (curves["fingerprint"] == "recall-rnn-pytorch-160-1") & (curves["x"] > 150) & (curves["phase"] == "before")
    curves = curves.copy()
    curves.loc[zero, "value"] = -math.inf
    return runs, curves
