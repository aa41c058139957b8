"""How far test accuracy varies over settings of the LSTM, and over cells at one setting, for each seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd


def samples(runs: pd.DataFrame, network: Callable[[str], Any]) -> pd.DataFrame:
    """Columns kind (settings, inits, cells), seed, spread: the largest minus the smallest test accuracy.

    A seed that lacks a run says nothing: over fewer settings the spread is smaller.
    """
    kept = runs[~runs["outcome"].isin(("failed", "missing"))]
    common = (kept["optimizer"] == "adam") & (kept["optimizer.lr"] == 0.001)
    parts = {
        "settings": kept[kept["cell"] == "lstm"],
        "inits": kept[(kept["cell"] == "lstm") & common],
        "cells": kept[common & (kept["init"] == "pytorch")],
    }
    spreads = []
    for kind, rows in parts.items():
        for seed, own in rows.groupby("seed"):
            if len(own) < rows.groupby("seed").size().max():
                continue
            accuracy = own["test/accuracy"].fillna(own["recall/chance"].max())  # a diverged run is at chance
            spreads.append({"kind": kind, "seed": seed, "spread": float(accuracy.max() - accuracy.min())})
    return pd.DataFrame(spreads, columns=["kind", "seed", "spread"])
