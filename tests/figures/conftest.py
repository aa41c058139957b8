"""The synthetic sweep, whole and with holes."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from tests.figures.sweeps import diverge, fail, make_sweep, place


@pytest.fixture(scope="session")
def whole() -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_sweep()


@pytest.fixture(scope="session")
def holed() -> tuple[pd.DataFrame, pd.DataFrame]:
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
