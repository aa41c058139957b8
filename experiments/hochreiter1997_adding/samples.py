"""How many training sequences each run saw until it was solved; infinitely many where it was not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from goldfish.figures.grid import column


def samples(runs: pd.DataFrame, network: Callable[[str], Any]) -> pd.DataFrame:
    """Columns task.length, task.symbols where the task has it, seed, sequences."""
    kept = runs[~runs["outcome"].isin(("failed", "missing"))]
    columns = [name for name in ("task.length", "task.symbols", "seed") if name in kept]
    steps = column(kept, "time_to_solve").where(kept["outcome"] == "solved", math.inf)
    return kept[columns].assign(sequences=steps * kept["trainer.batch_size"])
