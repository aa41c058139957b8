"""The claims, the rules by which each is judged, and what the experiments measured.

A claim whose experiment has no results at this scale is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from goldfish.errors import ConfigError
from goldfish.figures import grid
from goldfish.figures.statistics import Interval, mean_interval
from goldfish.papers import experiment as experiments
from goldfish.papers import results

HOLDS, CONDITIONS, NOT = "holds", "holds under conditions", "does not hold"
UNKNOWN = "not measured at this scale"
DOZEN = 12
FEW = 3
RECURRENT = ("rnn", "lstm", "gru")
Verdict = tuple[str, str]  # what was measured, and the verdict
Tables = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Claim:
    """What is said, which experiment tells, by which rule, and the function that applies it."""

    said: str
    experiment: str
    rule: str
    judge: Callable[[pd.DataFrame], Verdict]


def measure(settings: Mapping[str, Any], out: Path) -> pd.DataFrame:
    """A row for each claim: said, experiment, rule, measured, verdict."""
    tables = {name: _table(name, settings["scale"]) for name in dict.fromkeys(claim.experiment for claim in CLAIMS)}
    rows = []
    for claim in CLAIMS:
        table = tables[claim.experiment]
        measured, verdict = ("–", UNKNOWN) if table is None else _judged(claim, table)
        rows.append((claim.said, claim.experiment, claim.rule, measured, verdict))
    return pd.DataFrame(rows, columns=["claim", "experiment", "rule", "measured", "verdict"])


def _judged(claim: Claim, table: pd.DataFrame) -> Verdict:
    try:
        return claim.judge(table)
    except LookupError:  # the scale leaves out what the claim is about
        return "–", UNKNOWN


def _table(name: str, scale: str) -> pd.DataFrame | None:
    """An experiment's table; for `goldfish` its summary, a row for each run of the longest sequences."""
    try:
        experiment = experiments.read(name)
        runs, curves = results.read(results.find(experiment, scale))
    except ConfigError:
        return None
    table = experiment.module("figure").summary(runs, curves) if name == "goldfish" else runs
    return table if isinstance(table, pd.DataFrame) else None


def _mean(rows: pd.DataFrame, metric: str) -> Interval:
    """Mean and interval over seeds; the runs of one seed at several lengths or datasets are averaged first.

    A diverged run has the worst score there is. Raises LookupError without a value.
    """
    kept = rows[~rows["outcome"].isin(grid.HOLES)]
    values = grid.score(kept, metric, levels=rows).dropna()
    if values.empty:
        raise LookupError(metric)
    return mean_interval(values.groupby(kept["seed"]).mean())


def _order(runs: pd.DataFrame, cell: str, length: int | None = None) -> pd.DataFrame:
    rows = runs[(runs["task"] == "temporal_order") & (runs["cell"] == cell)]
    return rows if length is None else rows[rows["length"] == length]


def _counts_lose_order(runs: pd.DataFrame) -> Verdict:
    accuracies = {cell: _mean(_order(runs, cell), "test/pair_accuracy") for cell in ("bag_of_words", "tfidf")}
    best = max(_mean(_order(runs, cell), "test/pair_accuracy").estimate for cell in RECURRENT)
    told = ", ".join(f"{name.replace('_', ' ')} {interval.written(2)}" for name, interval in accuracies.items())
    holds = all(abs(interval.estimate - 0.5) < 0.05 for interval in accuracies.values()) and best > 0.95
    return f"AB or BA: {told}; best recurrent network {best:.2f}", HOLDS if holds else NOT


def _order_tells_sentiment(runs: pd.DataFrame) -> Verdict:
    text = runs[runs["task"] == "sentiment"]
    written = text[text["task.shuffle_words"].astype(str) != "True"]
    best = {cell: _mean(written[written["cell"] == cell], "test/accuracy") for cell in (*RECURRENT, "tfidf")}
    chosen = max(RECURRENT, key=lambda cell: _mean(written[written["cell"] == cell], "val/accuracy").estimate)
    ours, theirs = best[chosen], best["tfidf"]
    told = f"{chosen.upper()} (by validation) {ours.written(3)}, TF-IDF {theirs.written(3)}"
    return told, HOLDS if ours.low > theirs.high else NOT


def _window_forgets(runs: pd.DataFrame) -> Verdict:
    lengths = sorted(set(_order(runs, "feedforward")["length"]))
    accuracies = {length: _mean(_order(runs, "feedforward", length), "test/accuracy") for length in lengths}
    told = ", ".join(f"T = {length}: {interval.written(2)}" for length, interval in accuracies.items())
    inside, beyond = accuracies[lengths[0]].estimate, accuracies[lengths[-1]].estimate
    if inside < 0.95:
        return f"window of 10; {told}", UNKNOWN
    return f"window of 10; {told}", HOLDS if beyond < 0.5 else NOT


def _recurrence_reads_order(runs: pd.DataFrame) -> Verdict:
    longest = max(_order(runs, "gru")["length"])
    accuracies = {cell: _mean(_order(runs, cell, longest), "test/accuracy") for cell in RECURRENT}
    told = ", ".join(f"{cell.upper()} {interval.written(2)}" for cell, interval in accuracies.items())
    good = sum(interval.estimate > 0.95 for interval in accuracies.values())
    return f"temporal order, T = {longest}: {told}", HOLDS if good == len(accuracies) else CONDITIONS if good else NOT


def _three_architectures(runs: pd.DataFrame) -> Verdict:
    asked = {"sentiment": "test/accuracy", "tagging": "test/accuracy", "translation": "test/accuracy"}
    told, good = [], 0
    for task, metric in asked.items():
        rows = runs[runs["task"] == task]
        if rows.empty:
            raise LookupError(task)
        rows = rows[rows["task.dataset"] != "wnut_17"]
        chance = float(grid.column(rows, "recall/chance").dropna().max())
        least = min((_mean(rows[rows["cell"] == cell], metric) for cell in ("lstm", "gru")), key=lambda i: i.estimate)
        told.append(f"{task} {least.written(2)} (chance {chance:.2f})")
        good += least.low > chance or (not least.known and least.estimate > chance)
    return "; ".join(told), HOLDS if good == len(asked) else CONDITIONS if good else NOT


def _arms(table: pd.DataFrame, cell: str, init: str | None = None) -> dict[str, pd.DataFrame]:
    rows = table[(table["cell"] == cell) & ((table["init"] == init) | (init is None))]
    if rows.empty:
        raise LookupError(cell)
    return {str(task): own for task, own in rows.groupby("task")}


def _by_task(table: pd.DataFrame, cell: str, init: str, metric: str) -> dict[str, Interval]:
    return {task: _mean(rows, metric) for task, rows in _arms(table, cell, init).items()}


def _listed(means: Mapping[str, Interval], digits: int = 1) -> str:
    return ", ".join(f"{task} {interval.written(digits)}" for task, interval in means.items())


def _all_or_some(passed: list[bool]) -> str:
    return HOLDS if all(passed) else CONDITIONS if any(passed) else NOT


def _gone_after_a_dozen(table: pd.DataFrame) -> Verdict:
    before = _by_task(table, "rnn", "pytorch", "gradient/horizon_before")
    after = _by_task(table, "rnn", "pytorch", "gradient/horizon")
    told = f"RNN, PyTorch's defaults: words to 1 %, untrained {_listed(before)}; trained {_listed(after)}"
    return told, _all_or_some([horizon.estimate <= DOZEN for horizon in (*before.values(), *after.values())])


def _goldfish(table: pd.DataFrame) -> Verdict:
    lags = _by_task(table, "rnn", "pytorch", "survival")
    told = f"RNN, PyTorch's defaults: accuracy survives {_listed(lags)} words back"
    return told, _all_or_some([interval.estimate <= FEW for interval in lags.values()])


def _nothing_over_dozens(table: pd.DataFrame) -> Verdict:
    radius = _by_task(table, "rnn", "pytorch", "rho_before")
    horizons = _by_task(table, "rnn", "pytorch", "gradient/far_horizon_before")
    told = f"RNN, PyTorch's defaults: ρ {_listed(radius, 2)}; words to a millionth {_listed(horizons)}"
    return told, _all_or_some([interval.estimate <= 3 * DOZEN for interval in horizons.values()])


def _gates_relieve(table: pd.DataFrame) -> Verdict:
    plain = _by_task(table, "rnn", "pytorch", "gradient/horizon_before")
    told, passed = [f"words to 1 %, untrained: RNN {_listed(plain)}"], []
    for cell, init in (("lstm", "pytorch"), ("gru", "pytorch"), ("lstm", "chrono"), ("gru", "chrono")):
        horizons = _by_task(table, cell, init, "gradient/horizon_before")
        told.append(f"{cell.upper()} {init} {_listed(horizons)}")
        passed += [horizons[task].estimate >= 3 * plain[task].estimate for task in plain]
    return "; ".join(told), _all_or_some(passed)


def _slower(runs: pd.DataFrame) -> Verdict:
    training = runs[(runs["what"] == "training step") & (runs["replicas"] == 1)]
    return _against_transformer(training, slower=True)


def _generates_slower(runs: pd.DataFrame) -> Verdict:
    return _against_transformer(runs[runs["what"] == "generated token"], slower=True)


def _against_transformer(rows: pd.DataFrame, *, slower: bool) -> Verdict:
    told, passed = [], []
    longest = max(rows["length"])
    for batch in sorted(set(rows["batch"])):
        part = rows[(rows["batch"] == batch) & (rows["length"] == longest)].set_index("network")["seconds"]
        for cell in RECURRENT:
            ratio = float(part[cell] / part["transformer"])
            told.append(f"{cell.upper()}, B = {batch}: {ratio:.2g}×")
            passed.append((ratio > 1) == slower)
    device = rows["device"].iloc[0]
    return f"seconds ÷ the Transformer's at T = {longest} ({device}): {', '.join(told)}", _all_or_some(passed)


CLAIMS = (
    Claim(
        "Counting words, with or without TF-IDF, throws their order away.",
        "order_matters",
        "within .05 of one half on two classes with equal counts, where some recurrent network is above .95",
        _counts_lose_order,
    ),
    Claim(
        "For that reason a network that reads words in order judges sentiment better than counts do.",
        "order_matters",
        "the recurrent network chosen on validation has a higher accuracy, and the intervals do not overlap",
        _order_tells_sentiment,
    ),
    Claim(
        "A feedforward network sees a window of fixed length and knows nothing of what came before it.",
        "order_matters",
        "solves temporal order inside its window (above .95) and is below .5 far outside",
        _window_forgets,
    ),
    Claim(
        "A recurrent network carries a hidden state along and so uses the order of words.",
        "order_matters",
        "above .95 on temporal order at the longest sequences; under conditions where not all three cells are",
        _recurrence_reads_order,
    ),
    Claim(
        "The same cells do many-to-one, many-to-many and encoder-decoder.",
        "architectures",
        "the weaker of LSTM and GRU is above chance, with its interval, in all three (the last: words, teacher-forced)",
        _three_architectures,
    ),
    Claim(
        "After a dozen words almost nothing of the gradient is left.",
        "goldfish",
        "the vanilla RNN's gradient falls below 1 % within 12 words, in all of: both tasks, untrained and trained",
        _gone_after_a_dozen,
    ),
    Claim(
        "What remains is a goldfish's memory of the last two or three words.",
        "goldfish",
        "the vanilla RNN's accuracy survives at most 3 words back, in both tasks",
        _goldfish,
    ),
    Claim(
        "With recurrent weights below one, nothing is carried over dozens of words.",
        "goldfish",
        "the untrained vanilla RNN's gradient falls below a millionth within 36 words, in both tasks",
        _nothing_over_dozens,
    ),
    Claim(
        "The gates of LSTM and GRU relieve most of that.",
        "goldfish",
        "untrained, 1 % of the gradient reaches at least three times as far as in the RNN, for all that are named",
        _gates_relieve,
    ),
    Claim(
        "Word by word is the Achilles' heel: training on long sequences is slower than with attention.",
        "achilles_heel",
        "a training step at the longest sequences takes longer than the Transformer's, for all cells and batch sizes",
        _slower,
    ),
    Claim(
        "Attention, which takes all words at once, is also faster where text is generated.",
        "achilles_heel",
        "a token after the longest context takes longer than the Transformer's (which has no cache here)",
        _generates_slower,
    ),
)
