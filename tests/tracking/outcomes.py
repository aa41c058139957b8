"""Synthetic outcomes with curves as real runs have them: six arms of recall."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from goldfish.config.config import resolve
from goldfish.tracking.store import Store
from goldfish.training.outcome import Outcome, Point, Verdict

# log10 norm per lag before and after training, and the lag at which accuracy has fallen half way to chance
ARMS = {
    ("rnn", "pytorch"): (-0.24, -0.10, 25.0),
    ("rnn", "orthogonal"): (-0.03, -0.04, 50.0),
    ("lstm", "pytorch"): (-0.29, -0.25, 11.0),
    ("lstm", "chrono"): (-0.006, -0.004, 900.0),
    ("gru", "pytorch"): (-0.22, -0.02, 150.0),
    ("gru", "chrono"): (-0.005, -0.004, 700.0),
}
CHANCE = 1 / 8
STEPS = 600


def make_outcome(
    cell: str = "lstm",
    init: str = "chrono",
    length: int = 40,
    seed: int = 0,
    *,
    verdict: Verdict | None = None,
    reason: str = "",
    started: float = 1_800_000_000.0,
    experiment_name: str = "study",
    **task: Any,
) -> Outcome:
    """One run on recall: norms decay geometrically with noise, accuracy falls off as a logistic curve of the lag."""
    config = resolve(
        {
            "cell": {"name": cell},
            "init": {"name": init},
            "task": {"name": "recall", "length": length, **task},
            "trainer": {"max_steps": STEPS},
            "tracking": {"experiment_name": experiment_name},
            "seed": seed,
        }
    )
    if verdict == "failed":
        return Outcome(config, "failed", reason, started=started)
    noise = np.random.default_rng([seed, length, *cell.encode(), *init.encode()])
    before, after, reach = ARMS[cell, init]
    rates = {phase: rate * math.exp(0.1 * noise.normal()) for phase, rate in {"before": before, "after": after}.items()}
    rates["half"] = (rates["before"] + rates["after"]) / 2
    reach *= math.exp(0.2 * noise.normal())
    curves = [point for phase, rate in rates.items() for point in _decay(phase, rate, length, noise)]
    curves += _recall(length, reach)
    accuracy = _accuracy(length, reach)
    learning = _learning(accuracy, noise)
    metrics = _metrics(length, rates, reach, accuracy) | {name: curve[-1].value for name, curve in learning.items()}
    curves += [point for curve in learning.values() for point in curve]
    verdict = verdict or ("solved" if accuracy >= 0.975 else "unsolved")
    if verdict == "solved":
        metrics["time_to_solve"] = 250.0
    return Outcome(
        config=config,
        verdict=verdict,
        reason=reason,
        metrics=metrics | {"time_to_solve/censored": float(verdict != "solved")},
        curves=curves,
        parameters=1672,
        steps=STEPS,
        seconds=0.75,
        started=started,
        packed=16,
    )


def _decay(phase: str, rate: float, length: int, noise: np.random.Generator) -> list[Point]:
    middle = -1.5 + rate * np.arange(length + 1) + 0.05 * np.cumsum(noise.normal(size=length + 1))
    name = "gradient/log10_norm_by_lag"
    shifted = {name: middle, f"{name}_q25": middle - 0.3, f"{name}_q75": middle + 0.3}
    return [
        Point(key, phase, lag, value) for key, values in shifted.items() for lag, value in enumerate(values.tolist())
    ]


def _accuracy(lag: float, reach: float) -> float:
    return CHANCE + (1 - CHANCE) / (1 + (lag / reach) ** 4)


def _recall(length: int, reach: float) -> list[Point]:
    lengths = sorted({round(1 + (2 * length - 1) * k / 11) for k in range(12)} | {length})
    kinds = ("recall/accuracy_by_length", "recall/accuracy_by_lag")
    return [Point(kind, "after", lag, _accuracy(lag, reach)) for kind in kinds for lag in lengths]


def _learning(accuracy: float, noise: np.random.Generator) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {"val/accuracy": [], "val/loss": [], "train/loss": []}
    for step in range(50, STEPS + 1, 50):
        value = CHANCE + (accuracy - CHANCE) / (1 + math.exp((250 - step) / 40)) + 0.01 * noise.normal()
        found["val/accuracy"].append(Point("val/accuracy", "training", step, value))
        for name in ("val/loss", "train/loss"):
            found[name].append(Point(name, "training", step, 2.1 * (1.05 - value)))
    return found


def _metrics(length: int, rates: dict[str, float], reach: float, accuracy: float) -> dict[str, float]:
    found = {"test/accuracy": accuracy, "test/loss": 2.1 * (1.05 - accuracy), "recall/chance": CHANCE}
    for phase, rate in rates.items():
        end = {"after": "", "before": "_before", "half": "_half"}[phase]
        horizon = length if rate >= 0 else min(length, int(2 / -rate))
        found[f"gradient/decay_rate{end}"] = rate * math.log(10)
        found[f"gradient/half_life{end}"] = math.log10(2) / -rate
        found[f"gradient/horizon{end}"] = float(horizon)
        found[f"gradient/horizon_reached_end{end}"] = float(horizon == length)
    found["recall/horizon"] = float(min(2 * length, int(reach)))
    found["recall/horizon_reached_end"] = float(reach >= 2 * length)
    return found


def fingerprint_of(outcome: Outcome) -> str:
    """A stand-in for the fingerprint."""
    return hashlib.sha256(json.dumps(outcome.config.plain(), sort_keys=True).encode()).hexdigest()


DATA = {"name": "recall", "digest": "0123abcd" * 8, "source": "synthetic", "schema": '{"inputs": "int64"}'}


def record(store: Store, outcome: Outcome, *, dataset: dict[str, str] | None = None, **changes: Any) -> str:
    """Record an outcome in its experiment, with a dataset where one is given."""
    given: dict[str, Any] = {
        "experiment_name": outcome.config.tracking.experiment_name,
        "sweep": "2026-11-23",
        "fingerprint": fingerprint_of(outcome),
        "source_hash": "5" * 64,
        "provenance": {"commit": "c" * 40, "dirty": "false", "machine": "a CPU, 2 cores"},
    }
    return store.record(replace(outcome, dataset=dataset or {}), **given | changes)


def make_study() -> list[Outcome]:
    """24 runs: six arms, two lengths, two seeds."""
    places = [(arm, length, seed) for arm in ARMS for length in (20, 80) for seed in (0, 1)]
    return [
        make_outcome(*arm, length=length, seed=seed, started=1_800_000_000.0 + 10 * index)
        for index, (arm, length, seed) in enumerate(places)
    ]
