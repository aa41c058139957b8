"""Five translations of the test split, good and bad, picked by a rule.

The rule: of the GRU with the smallest seed, greedy decoding; the test sentences in the order of their own chrF, equal
ones the shorter first; those at 10, 30, 50, 70 and 90 % of the way from the worst to the best.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch

from goldfish.training.data import PackData
from goldfish.training.module import PackModule

PERCENTILES = (10, 30, 50, 70, 90)


def samples(runs: pd.DataFrame, network: Callable[[str], PackModule]) -> pd.DataFrame:
    """Columns percentile, chrf, source, reference, translation; `network` gives a run's, by its fingerprint."""
    columns = ["percentile", "chrf", "source", "reference", "translation"]
    rows = runs[
        (runs["task"] == "translation") & (runs["cell"] == "gru") & runs["outcome"].isin(("solved", "unsolved"))
    ]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    told = _translated(network(str(rows.sort_values("seed")["fingerprint"].iloc[0])))
    places = [round(percentile / 100 * (len(told) - 1)) for percentile in PERCENTILES]
    return told.iloc[places].assign(percentile=PERCENTILES)[columns]


def _translated(module: PackModule) -> pd.DataFrame:
    """Every test sentence as it was, as it should be and as it came out, from the worst to the best."""
    from sacrebleu import sentence_chrf

    data = PackData(module.task, module.configs, torch.device("cpu"), torch.float32)
    text, rows = module.task.text, []  # type: ignore[attr-defined]
    for part in data.evaluation("test", module.task.length):
        with torch.no_grad():
            decoded = module.predict(module.spread(part))[0]
        for source, reference, translation in zip(part.inputs, part.targets, decoded, strict=True):
            rows.append((text("source", source), text("target", reference), text("target", translation)))
    sentences = pd.DataFrame(rows, columns=["source", "reference", "translation"])
    sentences["chrf"] = [
        sentence_chrf(t, [r]).score for r, t in zip(sentences["reference"], sentences["translation"], strict=True)
    ]
    return sentences.sort_values("chrf", kind="stable")
